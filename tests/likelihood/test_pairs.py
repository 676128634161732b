import numpy as np
import pytest
import torch

from hidden_context import heads, likelihood
from hidden_context.errors import ConfigError

HEAD = heads.make("base")
CHOSEN, REJECTED = torch.tensor([[1.0], [0.0], [2.0]]), torch.tensor([[0.0], [0.0], [5.0]])


def test_hard_labels_are_the_negative_log_sigmoid():
    loss = likelihood.negative_log_likelihood(HEAD, CHOSEN, REJECTED)
    np.testing.assert_allclose(loss, np.log1p(np.exp([-1.0, 0.0, 3.0])), rtol=1e-6)


def test_soft_labels_are_a_cross_entropy():
    weight = torch.tensor([0.7, 0.5, 0.0])
    loss = likelihood.negative_log_likelihood(HEAD, CHOSEN, REJECTED, weight)
    p = 1 / (1 + np.exp([-1.0, 0.0, 3.0]))
    w = weight.numpy()
    np.testing.assert_allclose(loss, -w * np.log(p) - (1 - w) * np.log(1 - p), rtol=1e-5)
    # all annotators for the rejected text is the same as swapping the two
    swapped = likelihood.negative_log_likelihood(HEAD, REJECTED, CHOSEN)
    assert loss[2].item() == pytest.approx(swapped[2].item())


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_soft_labels_stay_finite_at_100(weight):
    head = heads.make("mean_and_variance")
    a = torch.tensor([[100.0, -100.0]], requires_grad=True)
    b = torch.tensor([[-100.0, -100.0]], requires_grad=True)
    loss = likelihood.negative_log_likelihood(head, a, b, torch.tensor([weight])).sum()
    loss.backward()
    # σ is at its floor of 1e-6, so z = ±200/(√2·1e-6), and −log Φ(−z) is z²/2 far out
    against = (200 / (2**0.5 * 1e-6)) ** 2 / 2
    assert loss.item() == pytest.approx((1 - weight) * against, rel=1e-3)
    assert torch.isfinite(a.grad).all()


def test_reductions():
    values = torch.tensor([1.0, 2.0, 6.0])
    assert likelihood.reduce(values, "mean").item() == 3
    assert likelihood.reduce(values, "sum").item() == 9
    assert likelihood.reduce(values, "none") is values
    with pytest.raises(ConfigError, match="mean, sum or none"):
        likelihood.reduce(values, "median")


@pytest.mark.parametrize("head", [HEAD, heads.make("mean_and_variance"), heads.make("categorical")])
def test_pairs_are_ranked_right_wrong_or_exactly_tied(head):
    torch.manual_seed(0)
    raw = torch.randn(500, head.num_outputs)
    assert likelihood.ranked_right(head, raw, raw.clone()).tolist() == [0.5] * 500
    other = torch.randn(500, head.num_outputs)
    right = likelihood.ranked_right(head, raw, other)
    probability = head.log_prob_preferred(raw, other).exp()
    clear = (probability - 0.5).abs() > 1e-5
    assert right[clear].tolist() == (probability[clear] > 0.5).float().tolist()
    assert (right + likelihood.ranked_right(head, other, raw)).tolist() == [1.0] * 500


def test_reduction_is_an_explicit_argument():
    losses = likelihood.negative_log_likelihood(HEAD, CHOSEN, REJECTED)
    weight = torch.tensor([0.7, 0.5, 0.0])
    soft = likelihood.negative_log_likelihood(HEAD, CHOSEN, REJECTED, weight)
    for reduction, expected in (("mean", losses.mean()), ("sum", losses.sum())):
        loss = likelihood.negative_log_likelihood(HEAD, CHOSEN, REJECTED, reduction=reduction)
        assert loss.item() == pytest.approx(expected.item())
    mean = likelihood.negative_log_likelihood(HEAD, CHOSEN, REJECTED, weight, "mean")
    assert mean.item() == pytest.approx(soft.mean().item())
