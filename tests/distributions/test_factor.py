"""A context shared by the responses compared: what comparisons see of it and what they do not."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hidden_context.distributions import FactorReward, NormalReward, PointMassReward
from hidden_context.errors import ConfigError

seeds = st.integers(0, 2**31 - 1)
factors = st.integers(1, 3)


def prompt(seed=0, num_factors=2, count=5, requires_grad=False):
    """Parameters of the candidates of one prompt."""
    rng = np.random.default_rng(seed)
    values = (
        rng.normal(size=count),
        rng.normal(size=(count, num_factors)),
        rng.uniform(0.2, 2, count),
    )
    return [torch.tensor(value, requires_grad=requires_grad) for value in values]


def table(reward):
    """All comparisons of the candidates."""
    return reward[:, None].log_prob_greater(reward[None])


def shared_context(reward):
    return reward[:, None].difference_parts(reward[None])["shared_context"]


def compare_all(first, second, unit=1.0):
    """Assert that two readings of a prompt say the same of everything comparisons identify."""
    np.testing.assert_allclose(table(second), table(first), rtol=1e-9)
    scaled = unit**2 * shared_context(first)
    np.testing.assert_allclose(shared_context(second), scaled, rtol=1e-9, atol=1e-12)
    for options in ({}, {"baseline": 1}, {"noise": True}):
        one, other = first.relative(**options), second.relative(**options)
        np.testing.assert_allclose(other.mean, unit * one.mean, atol=1e-9 * unit)
        np.testing.assert_allclose(other.stddev, unit * one.stddev, atol=1e-9 * unit)
        np.testing.assert_allclose(other.cvar(0.1), unit * one.cvar(0.1), atol=1e-9 * unit)


def test_comparison_is_thurstones_formula():
    mean, loadings, stddev = prompt()
    reward = FactorReward(mean, loadings, stddev)
    gap = ((loadings[:, None] - loadings[None]) ** 2).sum(-1) + stddev[:, None] ** 2 + stddev**2
    expected = stats.norm.logcdf((mean[:, None] - mean) / gap.sqrt())
    np.testing.assert_allclose(table(reward), expected, rtol=1e-10)
    np.testing.assert_allclose(reward.variance, (loadings**2).sum(-1) + stddev**2)
    np.testing.assert_allclose(reward.stddev, reward.variance.sqrt())
    np.testing.assert_allclose(reward.quantile(0.1), stats.norm.ppf(0.1, mean, reward.stddev))
    parts = reward[0].difference_parts(reward[1])
    assert (parts["shared_context"] + parts["noise"]).item() == pytest.approx(gap[0, 1].item())


@given(seeds, factors, st.floats(-20, 20))
def test_a_level_common_to_the_prompt_is_not_seen(seed, num_factors, level):
    mean, loadings, stddev = prompt(seed, num_factors)
    compare_all(FactorReward(mean, loadings, stddev), FactorReward(mean + level, loadings, stddev))


@given(seeds, factors, st.floats(-20, 20))
def test_a_vector_added_to_every_loading_is_not_seen_but_changes_the_variance(seed, f, length):
    mean, loadings, stddev = prompt(seed, f)
    moved = FactorReward(mean, loadings + length * torch.ones(f).double(), stddev)
    first = FactorReward(mean, loadings, stddev)
    compare_all(first, moved)
    change = 2 * length * loadings.sum(-1) + f * length**2
    np.testing.assert_allclose(moved.variance - first.variance, change, atol=1e-9)


@given(seeds, factors, st.booleans())
def test_a_rotation_or_reflection_of_the_context_is_not_seen(seed, num_factors, reflect):
    mean, loadings, stddev = prompt(seed, num_factors)
    axes = np.random.default_rng(seed).normal(size=(num_factors, num_factors))
    rotation = torch.tensor(np.linalg.qr(axes)[0])
    rotated = -loadings if reflect else loadings @ rotation
    first, second = FactorReward(mean, loadings, stddev), FactorReward(mean, rotated, stddev)
    compare_all(first, second)
    np.testing.assert_allclose(second.variance, first.variance, rtol=1e-9)


@given(seeds, factors, st.floats(1e-3, 1e3))
def test_the_unit_of_all_is_not_seen_and_relative_rewards_follow_it(seed, num_factors, unit):
    parameters = prompt(seed, num_factors)
    compare_all(FactorReward(*parameters), FactorReward(*(unit * v for v in parameters)), unit)


def test_each_draw_is_one_annotators():
    torch.manual_seed(0)
    reward = FactorReward(*prompt(2))
    draws = reward.rsample((300_000,))
    assert draws.shape == (300_000, 5)
    expected = reward.loadings @ reward.loadings.T + torch.diag(reward.independent_variance)
    np.testing.assert_allclose(np.cov(draws.T), expected, atol=0.06)
    for i, j in ((0, 1), (3, 2)):
        share = (draws[:, i] > draws[:, j]).double().mean().item()
        assert table(reward)[i, j].exp().item() == pytest.approx(share, abs=0.004)


def test_draws_with_a_given_context_are_that_annotators():
    torch.manual_seed(0)
    mean, loadings, stddev = prompt(3)
    context = torch.tensor([[0.5, -1.0], [2.0, 0.3]], dtype=torch.float64)
    quiet = FactorReward(mean, loadings, torch.zeros(5).double())
    np.testing.assert_allclose(quiet.rsample((2,), context), mean + context @ loadings.T)
    known = FactorReward(mean, loadings, stddev).given(context[1])
    np.testing.assert_allclose(known.mean, mean + loadings @ context[1])
    np.testing.assert_allclose(known.variance, stddev**2)
    assert known.variance_parts["shared_context"].tolist() == [0.0] * 5


def test_an_annotator_partly_known_is_a_factor_reward_of_what_is_open():
    torch.manual_seed(0)
    mean, loadings, stddev = prompt(3)
    location = torch.tensor([0.5, -1.0], dtype=torch.float64)
    scale = torch.tensor([0.1, 2.0], dtype=torch.float64)
    reward = FactorReward(mean, loadings, stddev).given(location, scale)
    draws = FactorReward(mean, loadings, stddev).rsample(
        (200_000,), location + scale * torch.randn(200_000, 2, dtype=torch.float64)
    )
    np.testing.assert_allclose(reward.mean, draws.mean(0), atol=0.02)
    np.testing.assert_allclose(reward.variance, draws.var(0), rtol=0.02)
    share = (draws[:, 0] > draws[:, 1]).double().mean().item()
    assert reward[0].log_prob_greater(reward[1]).exp().item() == pytest.approx(share, abs=0.004)
    # the prior is no knowledge at all
    prior = FactorReward(mean, loadings, stddev).given(0 * location, 0 * scale + 1)
    np.testing.assert_array_equal(table(prior), table(FactorReward(mean, loadings, stddev)))
    # several annotators at once
    several = FactorReward(mean, loadings, stddev).given(torch.zeros(3, 1, 2, dtype=torch.float64))
    assert several.batch_shape == (3, 5)


def test_context_spread_is_the_deviation_of_the_difference_by_the_context():
    generator = torch.Generator().manual_seed(4)
    a, b, scale = torch.randn(3, 5, 2, generator=generator, dtype=torch.float64)
    zero, scale = torch.zeros(5, dtype=torch.float64), scale.exp()
    first, second = FactorReward(zero, a, zero), FactorReward(zero, b, zero)
    expected = (((a - b) * scale) ** 2).sum(-1).sqrt()
    np.testing.assert_allclose(first.context_spread(second, scale), expected, rtol=1e-12)
    # it is what is left of the difference's scale where nothing else is open
    difference = first.given(0 * a, scale).difference(second.given(0 * b, scale))
    np.testing.assert_allclose(difference.scale[:, 0], expected, rtol=1e-12)
    # at equal loadings there is nothing to learn, and the gradient is finite
    same = a.clone().requires_grad_()
    FactorReward(zero, same, zero).context_spread(
        FactorReward(zero, a, zero), scale
    ).sum().backward()
    assert same.grad.abs().max().item() == 0
    with pytest.raises(ConfigError, match="PointMassReward is another kind"):
        first.context_spread(PointMassReward(zero), scale)


@pytest.mark.parametrize("baseline", [None, 2, -1])
@pytest.mark.parametrize("noise", [False, True])
def test_relative_quantile_and_cvar_are_those_over_annotators(baseline, noise):
    torch.manual_seed(1)
    mean, loadings, stddev = prompt(4)
    source = FactorReward(mean, loadings, stddev if noise else 0 * stddev)
    draws = source.rsample((400_000,))
    level = draws.mean(1, keepdim=True) if baseline is None else draws[:, [baseline]]
    draws = (draws - level).sort(0).values
    relative = FactorReward(mean, loadings, stddev).relative(baseline=baseline, noise=noise)
    np.testing.assert_allclose(relative.quantile(0.1), draws[40_000 - 1], atol=0.03)
    np.testing.assert_allclose(relative.cvar(0.1), draws[:40_000].mean(0), atol=0.03)
    np.testing.assert_allclose(relative.variance, draws.var(0), rtol=0.02, atol=1e-12)
    if baseline is not None:
        for value in (relative.mean, relative.stddev, relative.quantile(0.1), relative.cvar(0.1)):
            assert value[baseline].item() == 0


def test_relative_rewards_compare_as_the_rewards_do_without_noise():
    mean, loadings, stddev = prompt(5)
    quiet = FactorReward(mean, loadings, 0 * stddev)
    for options in ({}, {"baseline": 0}):
        relative = FactorReward(mean, loadings, stddev).relative(**options)
        np.testing.assert_allclose(table(relative), table(quiet), rtol=1e-9)
        np.testing.assert_allclose(table(relative).diagonal().exp(), 0.5)


def test_noisy_relative_rewards_refuse_comparison_however_selected():
    reward = FactorReward(*prompt(5)).relative(noise=True)
    known = reward.given(torch.zeros(2, dtype=torch.float64))
    for refused in (reward, reward[:2], reward.expand((3, 5)), known):
        for compare in (refused.log_prob_greater, refused.difference, refused.difference_parts):
            with pytest.raises(ConfigError, match="share part of the noise"):
                compare(reward[0])


def test_relative_rewards_may_lie_along_any_dimension():
    mean, loadings, stddev = prompt(6, count=6)
    batch = FactorReward(mean, loadings, stddev).expand((4, 6))
    columns = FactorReward(mean.reshape(6, 1), loadings.reshape(6, 1, 2), stddev.reshape(6, 1))
    along = FactorReward(mean, loadings, stddev).relative().quantile(0.3)
    np.testing.assert_allclose(batch.relative(1).quantile(0.3)[2], along)
    np.testing.assert_allclose(columns.relative(0).quantile(0.3)[:, 0], along)
    np.testing.assert_allclose(columns.relative(-2).quantile(0.3)[:, 0], along)


def test_relative_rewards_have_finite_gradients_at_the_baseline():
    parameters = prompt(7, requires_grad=True)
    for options in ({"baseline": 1}, {"baseline": 1, "noise": True}, {}):
        relative = FactorReward(*parameters).relative(**options)
        total = relative.quantile(0.2).sum() + relative.cvar(0.2).sum()
        gradients = torch.autograd.grad(total, parameters, allow_unused=True)
        # seven terms of n = 5: the level cancels, or counts n − 1 times at the baseline
        level = [2.0, -8.0, 2.0, 2.0, 2.0] if "baseline" in options else [0.0] * 5
        np.testing.assert_allclose(gradients[0], level, atol=1e-9)
        assert bool(torch.isfinite(gradients[1]).all())
    # against itself a reward without noise ties, and pushes nowhere
    same = FactorReward(*parameters[:2], torch.zeros(5).double()).relative()
    value = same.log_prob_greater(same)
    gradients = torch.autograd.grad(value.sum(), parameters[:2])
    np.testing.assert_allclose(value.detach().exp(), 0.5)
    np.testing.assert_array_equal(gradients[1], 0)


def test_gradients():
    parameters = prompt(8, count=2, requires_grad=True)

    def risks(*values):
        reward = FactorReward(*values)
        relative = reward.relative(noise=True)
        return torch.stack(
            [reward.quantile(0.1), reward.cvar(0.3), relative.quantile(0.2), relative.cvar(0.7)]
        )

    assert torch.autograd.gradcheck(risks, parameters)


def test_without_factors_it_is_the_normal_reward():
    mean, _, stddev = prompt(9)
    ours, normal = FactorReward(mean, mean.new_zeros(5, 0), stddev), NormalReward(mean, stddev)
    np.testing.assert_array_equal(table(ours), table(normal))
    assert (ours.num_factors, ours[1:3].loadings.shape) == (0, (2, 0))
    assert bool((ours.relative().stddev == 0).all())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: FactorReward(r.mean, r.loadings[:2], r.stddev), r"loadings of shape \(5,\)"),
        (lambda r: r.log_prob_greater(FactorReward(*prompt(0, 3))), "is 2, the other's 3"),
        (lambda r: r.relative(1), r"dimension 1 of rewards of batch shape \(5,\)"),
        (lambda r: r[0].relative(), "score several responses together"),
    ],
)
def test_what_cannot_work_says_why(call, message):
    with pytest.raises(ConfigError, match=message):
        call(FactorReward(*prompt()))
