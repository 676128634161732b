import numpy as np
import pytest
import torch
from scipy import stats

from hidden_context import heads


def test_raw_outputs_are_logits_means_and_stddevs_with_offsets():
    head = heads.make("mixture", num_components=2)
    reward = head.distribution(torch.tensor([[0.3, -0.3, 1.0, 2.0, 0.0, -100.0]]).double())
    np.testing.assert_allclose(reward.log_weights.exp(), [[0.645656, 0.354344]], rtol=1e-5)
    offset = stats.norm.ppf(0.75)
    np.testing.assert_allclose(reward.means, [[1 - offset, 2 + offset]])
    np.testing.assert_allclose(reward.stddevs, [[np.log(2), 1e-6]])


def test_offsets_spread_the_components_at_the_start():
    head = heads.make("mixture", num_components=4)
    reward = head.distribution(torch.zeros(1, 12))
    np.testing.assert_allclose(
        reward.means[0], stats.norm.ppf([0.125, 0.375, 0.625, 0.875]), rtol=1e-5
    )
    assert reward.mean.item() == pytest.approx(0, abs=1e-6)
    # equal components would have equal gradients for ever
    raw = torch.zeros(2, 12, dtype=torch.float64, requires_grad=True)
    head.log_prob_preferred(raw[0], raw[1]).backward()
    assert len(set(np.round(raw.grad[0, 4:8].tolist(), 6))) >= 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_component_is_the_normal_head(dtype):
    torch.manual_seed(0)
    values = 3 * torch.randn(2, 200, 2, dtype=dtype)
    results = []
    for head in (heads.make("mixture", num_components=1), heads.make("mean_and_variance")):
        raw = values.clone().requires_grad_()
        # a logit of one component says nothing
        sides = torch.cat([7 * torch.ones_like(raw[..., :1]), raw], -1)
        a, b = sides[..., -head.num_outputs :]
        log_probs = head.log_prob_preferred(a, b)
        (gradient,) = torch.autograd.grad(log_probs.sum(), raw)
        reward = head.distribution(a)
        results.append([log_probs, gradient, reward.mean, reward.quantile(0.1), reward.cvar(0.3)])
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10
    for ours, normal in zip(*results, strict=True):
        np.testing.assert_allclose(
            ours.detach(), normal.detach(), rtol=tolerance, atol=10 * tolerance
        )
    assert head.penalty(a, b).item() == 0
