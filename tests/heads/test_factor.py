"""The factor head: raw outputs, penalty, starts, and what it finds in tables."""

import functools

import numpy as np
import pytest
import torch
from ground_truth.fits import fit_tabular
from scipy.special import ndtr

from hidden_context import heads

UTILITY = np.array([0.9, -1.5, 0.3, 1.5, -0.3, -0.9])
UNRELATED = np.array([-0.3, -0.9, -1.5, 1.5, 0.9, 0.3])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spread", [1.0, 100.0, 1e4])
@pytest.mark.parametrize("kind", ["factor", "mixture"])
def test_without_factors_and_with_one_component_it_is_the_normal_head(kind, dtype, spread):
    torch.manual_seed(0)
    values = spread * torch.randn(2, 300, 2, dtype=dtype)
    plain = heads.make("mean_and_variance", variance_penalty=0.3)
    options = {
        "factor": {"num_factors": 0, "variance_penalty": 0.3},
        "mixture": {"num_components": 1},
    }
    results = []
    for head in (heads.make(kind, **options[kind]), plain):
        raw = values.clone().requires_grad_()
        # a logit of one component says nothing
        sides = torch.cat([7 * torch.ones_like(raw[..., :1]), raw], -1)[..., -head.num_outputs :]
        log_probs = head.log_prob_preferred(sides[0], sides[1])
        (gradient,) = torch.autograd.grad(log_probs.sum(), raw, retain_graph=True)
        first, second = (head.distribution(side) for side in sides)
        between = first.difference(second).log_prob_between(-0.3, 0.7)
        (between_gradient,) = torch.autograd.grad(between.sum(), raw, retain_graph=True)
        risks = first.quantile(0.2), first.cvar(0.3), first.entropic(0.7)
        results.append(
            [log_probs, gradient, between, between_gradient, first.mean, first.stddev, *risks]
        )
    loose = 1e-5 if dtype == torch.float32 else 1e-10
    exact = 0 if kind == "factor" else loose
    for ours, normal, rtol in zip(*results, [exact] * 7 + [loose] * 2, strict=True):
        np.testing.assert_allclose(ours.detach(), normal.detach(), rtol=rtol, atol=10 * rtol)


def test_raw_outputs_are_mean_loadings_and_noise():
    raw = torch.tensor([[1.0, 2.0, -3.0, 0.0], [0.0, 1.0, 1.0, -100.0]])
    reward = heads.make("factor", num_factors=2).distribution(raw)
    assert reward.mean.tolist() == [1, 0]
    assert reward.loadings.tolist() == [[2, -3], [1, 1]]
    np.testing.assert_allclose(reward.independent_stddev, [np.log(2), 1e-6], rtol=1e-6)


def test_penalty_is_that_of_the_variance_of_the_difference():
    torch.manual_seed(0)
    head = heads.make("factor", num_factors=2, variance_penalty=0.4)
    a, b = torch.randn(2, 7, 4, dtype=torch.float64)
    noise = sum(torch.nn.functional.softplus(raw[:, 3]) ** 2 for raw in (a, b))
    expected = 0.4 * (((a[:, 1:3] - b[:, 1:3]) ** 2).sum(1) + noise).mean()
    assert head.penalty(a, b).item() == pytest.approx(expected.item())
    # unlike the marginal variance's it does not move what comparisons do not see
    shift = torch.tensor([0.0, 5.0, -3.0, 0.0])
    assert head.penalty(a + shift, b + shift).item() == pytest.approx(expected.item())
    assert heads.make("factor", num_factors=2).penalty(a, b).item() == 0


def test_loadings_start_apart_and_all_else_together():
    assert heads.make("factor", num_factors=2).output_scales == (0.01, 1.0, 1.0, 0.01)
    # because equal loadings are a saddle point: nothing pulls them apart
    raw = torch.tensor([[[0.3, 0.7, 0.1]], [[0.0, 0.7, 0.1]]], requires_grad=True)
    heads.make("factor").log_prob_preferred(raw[0], raw[1]).sum().backward()
    assert raw.grad[..., 1].abs().max().item() == 0


@functools.cache
def fitted(weight, opposed, seed=0):
    """One factor fitted to two objectives' table of six alternatives, and their true difference."""
    other = -UTILITY if opposed else UNRELATED
    gaps = [np.subtract.outer(u, u) / (2**0.5 * 0.5) for u in (UTILITY, other)]
    table = torch.tensor(weight * ndtr(gaps[0]) + (1 - weight) * ndtr(gaps[1]))
    head = heads.make("factor")
    raw = fit_tabular(head, table, seed=seed, ridge=1e-4, max_iterations=120)
    return head.distribution(raw), table, UTILITY - other


def shape_found(reward, truth):
    """Correlation of the loadings with the truth, whose level and sign no comparison tells."""
    return abs(np.corrcoef(reward.loadings[:, 0], truth)[0, 1])


def shared_share(reward):
    """Share of the differences' variance that is shared context."""
    first, second = np.triu_indices(len(reward), 1)
    parts = reward[first].difference_parts(reward[second])
    return (parts["shared_context"] / (parts["shared_context"] + parts["noise"])).mean().item()


def test_opposed_objectives_of_unequal_weight_are_found():
    reward, table, truth = fitted(0.65, opposed=True)
    assert shape_found(reward, truth) > 0.98
    assert shared_share(reward) > 0.4
    found = reward[:, None].log_prob_greater(reward[None]).exp()
    np.testing.assert_allclose(found, table, atol=0.02)
    # one that loves what the majority loves ranks by it: the mean follows the majority
    assert np.corrcoef(reward.mean, UTILITY)[0, 1] > 0.98


def test_opposed_objectives_of_equal_weight_leave_nothing_to_find():
    # every probability is ½: half the people want the opposite, and no comparison shows it
    reward, table, _ = fitted(0.5, opposed=True)
    np.testing.assert_allclose(table, 0.5, atol=1e-12)
    np.testing.assert_allclose(reward.mean - reward.mean.mean(), 0, atol=1e-3)
    assert shared_share(reward) < 0.01


def test_unrelated_objectives_of_equal_weight_are_found():
    # where some pairs are agreed on, steepness tells contested pairs from the others
    reward, _, truth = fitted(0.5, opposed=False)
    assert shape_found(reward, truth) > 0.9
    assert shared_share(reward) > 0.4
