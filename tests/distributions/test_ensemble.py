"""Members that differ: the law of total variance, and one unit for all of them."""

import numpy as np
import pytest
import torch

from hidden_context.distributions import (
    EnsembleReward,
    FactorReward,
    MixtureReward,
    NormalReward,
    PointMassReward,
)
from hidden_context.errors import ConfigError

LOCATION = torch.tensor([0.5, -1.0, 0.0], dtype=torch.float64)
SCALE = torch.tensor([2.0, 0.5, 1.0], dtype=torch.float64)
UNIT = torch.stack([LOCATION, SCALE])


def draw(seed, *shape):
    return torch.tensor(np.random.default_rng(seed).normal(size=shape))


def members(kind, seed, count=4):
    mean, stddev = draw(seed, count, 3), draw(seed + 50, count, 3).exp()
    return {
        "point": lambda: PointMassReward(mean),
        "normal": lambda: NormalReward(mean, stddev),
        "logistic": lambda: NormalReward(mean, stddev, "logistic"),
        "factor": lambda: FactorReward(mean, draw(seed + 90, count, 3, 2), stddev),
        "mixture": lambda: MixtureReward(*(draw(seed + i, count, 3, 2).exp() for i in range(3))),
    }[kind]()


def ensemble(kind="factor", seed=0, count=4):
    return EnsembleReward(members(kind, seed, count), LOCATION, SCALE)


def raised(rewards, shift):
    return FactorReward(rewards.mean + shift, rewards.loadings, rewards.independent_stddev)


KINDS = ["point", "normal", "logistic", "factor", "mixture"]


@pytest.mark.parametrize("kind", KINDS)
def test_law_of_total_variance(kind):
    reward = ensemble(kind)
    each_mean = (reward.members.mean - LOCATION) / SCALE
    each_variance = reward.members.variance / SCALE**2
    np.testing.assert_allclose(reward.mean, each_mean.mean(-1), rtol=1e-12)
    expected = each_variance.mean(-1) + each_mean.var(-1, correction=0)
    np.testing.assert_allclose(reward.variance, expected, rtol=1e-10)
    parts = reward.variance_parts
    np.testing.assert_allclose(parts["ignorance"], each_mean.var(-1, correction=0))
    within = sum(value for name, value in parts.items() if name != "ignorance")
    np.testing.assert_allclose(within, each_variance.mean(-1), atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_comparison_is_the_mean_of_the_members_probabilities(kind):
    a, b = ensemble(kind, 0), ensemble(kind, 7)
    each = a.members.log_prob_greater(b.members).exp()
    np.testing.assert_allclose(a.log_prob_greater(b).exp(), each.mean(-1), rtol=1e-12)
    # the members' units play no part in it
    other = [EnsembleReward(r.members, 3 * LOCATION, 10 * SCALE) for r in (a, b)]
    np.testing.assert_allclose(other[0].log_prob_greater(other[1]), a.log_prob_greater(b))
    difference = a.difference(b)
    np.testing.assert_allclose(difference.log_prob_greater(), a.log_prob_greater(b), rtol=1e-9)
    # a threshold is in the common unit
    at = torch.tensor(0.4, dtype=torch.float64)
    each = a.members.difference(b.members).log_prob_greater(at * SCALE).exp()
    np.testing.assert_allclose(difference.log_prob_greater(at).exp(), each.mean(-1), rtol=1e-9)


@pytest.mark.parametrize("kind", ["normal", "factor"])
def test_members_that_agree_know_all_there_is(kind):
    one = members(kind, 3)[:, :1].expand((4, 3))
    other = members(kind, 4)[:, :1].expand((4, 3))
    zero = torch.zeros(3, dtype=torch.float64)
    a, b = (EnsembleReward(r, zero, zero + 1) for r in (one, other))
    np.testing.assert_allclose(a.variance_parts["ignorance"], 0, atol=1e-15)
    np.testing.assert_allclose(a.difference_parts(b)["ignorance"], 0, atol=1e-15)
    np.testing.assert_allclose(a.variance, one[:, 0].variance)
    np.testing.assert_allclose(a.quantile(0.1), one[:, 0].quantile(0.1), atol=1e-9)
    expected = one[:, 0].log_prob_greater(other[:, 0])
    np.testing.assert_allclose(a.log_prob_greater(b), expected, rtol=1e-10)


def test_ignorance_of_a_difference_is_that_of_the_members_differences():
    a, b = ensemble(seed=0), ensemble(seed=7)
    difference = (a.members.mean - b.members.mean) / SCALE
    parts = a.difference_parts(b)
    np.testing.assert_allclose(parts["ignorance"], difference.var(-1, correction=0))
    loadings = ((a.members.loadings - b.members.loadings) ** 2).sum(-1) / SCALE**2
    np.testing.assert_allclose(parts["shared_context"], loadings.mean(-1))
    # a level of each member's own is ignorance of a reward, not of a comparison
    shift = 5 * draw(1, 3)
    moved = [EnsembleReward(raised(r.members, shift), *UNIT) for r in (a, b)]
    np.testing.assert_allclose(moved[0].difference_parts(moved[1])["ignorance"], parts["ignorance"])
    assert bool((moved[0].variance_parts["ignorance"] != a.variance_parts["ignorance"]).all())


def test_relative_rewards_are_the_members_own():
    reward = ensemble("factor")
    for options in ({}, {"baseline": 1}, {"noise": True}):
        relative = reward.relative(**options)
        assert relative.batch_shape == (4,)
        for m in range(3):
            own = reward.members[:, m].relative(**options)
            np.testing.assert_allclose(relative.members[:, m].mean, own.mean, atol=1e-12)
            np.testing.assert_allclose(relative.members[:, m].variance, own.variance, atol=1e-12)
        mean = (relative.members.mean / SCALE).mean(-1)
        np.testing.assert_allclose(relative.mean, mean, atol=1e-12)
    own = reward.relative(baseline=1)
    assert own.quantile(0.1)[1].item() == own.cvar(0.1)[1].item() == own.variance[1].item() == 0
    # the first batch dimension of two
    twice = EnsembleReward(reward.members.expand((2, 4, 3)), LOCATION, SCALE)
    np.testing.assert_allclose(twice.relative(1).mean[0], reward.relative().mean)
    np.testing.assert_allclose(twice.relative(-2).mean, 0, atol=1e-12)


def test_what_is_known_of_an_annotator_is_known_by_member():
    reward = ensemble("factor")
    location, scale = draw(5, 3, 2), draw(6, 3, 2).exp()
    known = reward.given(location, scale)
    np.testing.assert_allclose(known.members.mean, reward.members.given(location).mean)
    expected = ((reward.members.loadings * scale) ** 2).sum(-1)
    np.testing.assert_allclose(known.members.shared_variance, expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: EnsembleReward(r.members, LOCATION[:2], SCALE), "a location and a scale"),
        (lambda r: EnsembleReward(r.members, LOCATION, SCALE[:1]), "a location and a scale"),
        (lambda r: EnsembleReward(r.members[0, 0], LOCATION, SCALE), "last batch dimension"),
        (lambda r: r.relative(1), "dimension 1 of rewards"),
        (lambda r: r[0].relative(), "score several responses together"),
        (lambda r: ensemble("normal").relative(), "NormalReward has no shared .* a factor head"),
        (lambda r: ensemble("normal").given(LOCATION), "NormalReward has no annotator context"),
        (lambda r: r.log_prob_greater(ensemble("normal")), "NormalReward is another kind"),
        (lambda r: r.difference(EnsembleReward(r.members[:, :2], *UNIT[:, :2])), "the other's 2"),
    ],
)
def test_what_cannot_work_says_why(call, message):
    with pytest.raises(ConfigError, match=message):
        call(ensemble())
