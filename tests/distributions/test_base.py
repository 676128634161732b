"""What every reward distribution has, and the normal one against scipy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hidden_context.distributions import (
    CategoricalReward,
    EnsembleReward,
    FactorReward,
    MixtureReward,
    NormalReward,
    PointMassReward,
    QuantileReward,
    RewardDistribution,
)
from hidden_context.errors import ConfigError

KINDS = {
    "point": lambda draw: PointMassReward(draw()),
    "normal": lambda draw: NormalReward(draw(), draw().exp()),
    "logistic": lambda draw: NormalReward(draw(), draw().exp(), "logistic"),
    "categorical": lambda draw: CategoricalReward(draw(4)),
    "factor": lambda draw: FactorReward(draw(), draw(2), draw().exp()),
    "plain factor": lambda draw: FactorReward(draw(), draw(0), draw().exp()),
    "mixture": lambda draw: MixtureReward(draw(3), draw(3), draw(3).exp()),
    "quantile": lambda draw: QuantileReward(draw(4).sort(-1).values, 0.3),
    "ensemble": lambda draw: EnsembleReward(
        FactorReward(draw(3), draw(3, 2), draw(3).exp()),
        torch.tensor([0.1, 0.0, -0.4], dtype=torch.float64),
        torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64),
    ),
}


def rewards(kind: str, *shape: int) -> RewardDistribution:
    generator = torch.Generator().manual_seed(3)
    return KINDS[kind](
        lambda *tail: torch.randn(*shape, *tail, generator=generator, dtype=torch.float64)
    )


WITHOUT_CONTEXT = ["point", "normal", "categorical", "mixture", "quantile"]


@pytest.mark.parametrize("kind", KINDS)
def test_selecting_and_expanding_speak_of_the_batch_alone(kind):
    whole = rewards(kind, 4, 3)
    mask = torch.tensor([True, False, False, True])
    for index in (2, slice(1, 3), mask, (slice(None), 1), torch.tensor([3, 0, 0])):
        part = whole[index]
        assert type(part) is type(whole)
        np.testing.assert_allclose(part.mean, whole.mean[index])
        np.testing.assert_allclose(part.variance, whole.variance[index])
        np.testing.assert_allclose(part.quantile(0.2), whole.quantile(0.2)[index], atol=1e-12)
        np.testing.assert_allclose(
            part.log_prob_greater(part[:1]), whole[index].log_prob_greater(whole[index][:1])
        )
    larger = whole.expand((2, 4, 3))
    assert (larger.batch_shape, larger.mean.shape) == ((2, 4, 3), (2, 4, 3))
    np.testing.assert_allclose(larger.cvar(0.3)[1], whole.cvar(0.3))


@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_the_variance_sum_to_it(kind):
    one, other = rewards(kind, 6)[:3], rewards(kind, 6)[3:]
    total = sum(one.variance_parts.values(), torch.zeros(3, dtype=torch.float64))
    np.testing.assert_allclose(total, one.variance, rtol=1e-12)
    total = sum(one.difference_parts(other).values())
    np.testing.assert_allclose(total, one.difference(other).variance, rtol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_difference_and_components_agree_with_the_reward(kind):
    one, other = rewards(kind, 6)[:3], rewards(kind, 6)[3:]
    difference = one.difference(other)
    np.testing.assert_allclose(difference.mean, one.mean - other.mean, atol=1e-12)
    np.testing.assert_allclose(
        difference.log_prob_greater(), one.log_prob_greater(other), rtol=1e-10
    )
    parts = one.components()
    weights = parts.log_weights.exp()
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-12)
    np.testing.assert_allclose((weights * parts.location).sum(-1), one.mean, rtol=1e-10)
    second = (weights * (parts.scale**2 + parts.location**2)).sum(-1)
    np.testing.assert_allclose(second - one.mean**2, one.variance, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_both_sides_broadcast(kind):
    one, other = rewards(kind, 4, 1), rewards(kind, 3)
    table = one.log_prob_greater(other)
    assert table.shape == one.difference(other).batch_shape == (4, 3)
    np.testing.assert_allclose(table[2], one[2].log_prob_greater(other))


@pytest.mark.parametrize("kind", KINDS)
def test_samples_have_the_moments(kind):
    torch.manual_seed(0)
    reward = rewards(kind, 2, 2)
    draws = reward.sample((200_000,))
    assert draws.shape == (200_000, 2, 2)
    spread = reward.variance.sqrt()
    np.testing.assert_allclose((draws.mean(0) - reward.mean) / (spread + 1e-9), 0, atol=0.015)
    np.testing.assert_allclose(draws.var(0), reward.variance, rtol=0.04, atol=1e-12)
    assert reward.sample().shape == (2, 2)
    assert reward[0, 0].sample((5, 6)).shape == (5, 6)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "point"])
def test_distribution_function_is_that_of_samples(kind):
    torch.manual_seed(0)
    reward = rewards(kind, 3)
    draws = reward.sample((100_000,))
    for at in (-0.5, 0.2, 0.9):
        share = (draws <= at).double().mean(0)
        np.testing.assert_allclose(reward.cdf(torch.tensor(at)), share, atol=0.008)


@pytest.mark.parametrize("kind", WITHOUT_CONTEXT)
def test_rewards_without_context_have_no_relative_ones_and_know_no_annotators(kind):
    reward, zero = rewards(kind, 3), torch.zeros(2, dtype=torch.float64)
    with pytest.raises(ConfigError, match=r"has no shared context.*need a factor head"):
        reward.relative()
    message = rf"{type(reward).__name__} has no annotator context"
    for call in (lambda: reward.given(zero), lambda: reward.context_spread(reward, zero)):
        with pytest.raises(ConfigError, match=message):
            call()


@pytest.mark.parametrize("kind", KINDS)
def test_other_kinds_are_refused_by_name(kind):
    reward = rewards(kind, 2)
    stranger = rewards("normal" if kind == "point" else "point", 2)
    for compare in (reward.log_prob_greater, reward.difference, reward.difference_parts):
        with pytest.raises(ConfigError, match=rf"cannot be compared: {type(stranger).__name__}"):
            compare(stranger)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: r.quantile(0.0), r"quantile level is 0\.0.*\(0, 1\)"),
        (lambda r: r.quantile(1.0), r"quantile level is 1\.0"),
        (lambda r: r.quantile(math.nan), "quantile level is nan"),
        (lambda r: r.quantile(torch.tensor([0.5, 1.5])), "every quantile level"),
        (lambda r: r.cvar(0.0), r"alpha is 0\.0.*\(0, 1\]"),
        (lambda r: r.cvar(1.5), r"alpha is 1\.5"),
        (lambda r: r.entropic(0.0), r"theta is 0\.0"),
        (lambda r: r.entropic(-1.0), r"theta is -1\.0"),
    ],
)
def test_levels_that_cannot_be_are_refused(kind, call, message):
    with pytest.raises(ConfigError, match=message):
        call(rewards(kind, 2))


def test_only_kinds_that_tell_causes_apart_do():
    assert set(rewards("factor", 2).variance_parts) == {"shared_context", "noise"}
    assert set(rewards("normal", 2).variance_parts) == {"unsplit"}
    assert rewards("point", 2).variance_parts == {}
    assert set(rewards("ensemble", 2).variance_parts) == {"shared_context", "noise", "ignorance"}
    noise = rewards("point", 2).difference_parts(rewards("point", 2))["noise"]
    np.testing.assert_allclose(noise, math.pi**2 / 3)


def test_a_logistic_comparison_has_the_variance_of_its_noise():
    one, other = rewards("logistic", 2)[0], rewards("logistic", 2)[1]
    expected = (one.variance + other.variance) * (math.pi**2 / 3) / (2 * math.pi)
    assert one.difference(other).variance.item() == pytest.approx(expected.item())


def test_every_risk_of_a_point_is_the_reward_itself():
    reward = PointMassReward(torch.tensor([0.25, -3.0]))
    for value in (reward.mean, reward.quantile(0.01), reward.cvar(0.05), reward.entropic(2.0)):
        assert value.tolist() == [0.25, -3.0]
    assert reward.variance.tolist() == [0.0, 0.0]
    assert reward.quantile(torch.tensor([[0.1], [0.2]])).shape == (2, 2)
    assert reward.sample((4,)).shape == (4, 2)
    assert reward.rsample((4,))[0].tolist() == [0.25, -3.0]


def test_cdf_of_a_point_is_right_continuous():
    reward = PointMassReward(torch.tensor(0.5))
    assert [reward.cdf(torch.tensor(x)).item() for x in (0.4999, 0.5, 0.6)] == [0.0, 1.0, 1.0]


numbers = st.floats(-50, 50)
scales = st.floats(1e-3, 50)


def normal(mean, stddev, likelihood="probit"):
    return NormalReward(
        torch.tensor(mean, dtype=torch.float64),
        torch.tensor(stddev, dtype=torch.float64),
        likelihood,
    )


def test_moments_quantiles_and_cdf_agree_with_scipy():
    ours, theirs = normal([0.3, -2.0], [1.5, 0.2]), stats.norm([0.3, -2.0], [1.5, 0.2])
    np.testing.assert_allclose(ours.mean, theirs.mean())
    np.testing.assert_allclose(ours.variance, theirs.var())
    np.testing.assert_allclose(ours.stddev, theirs.std())
    np.testing.assert_allclose(ours.quantile(0.01), theirs.ppf(0.01), rtol=1e-12)
    np.testing.assert_allclose(ours.cdf(torch.tensor(0.1)), theirs.cdf(0.1), rtol=1e-7)
    np.testing.assert_allclose(ours.log_prob(torch.tensor(0.1)), theirs.logpdf(0.1), rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.01, 0.3, 0.999])
def test_cvar_and_entropic_risk_agree_with_their_integrals(alpha):
    reward, exact = normal(0.7, 1.3), stats.norm(0.7, 1.3)
    expected = exact.expect(ub=reward.quantile(alpha).item(), conditional=True)
    assert reward.cvar(alpha).item() == pytest.approx(expected, rel=1e-6)
    assert reward.cvar(1.0).item() == 0.7
    integral = exact.expect(lambda u: math.exp(-1.7 * u), -12, 12)
    assert reward.entropic(1.7).item() == pytest.approx(-math.log(integral) / 1.7)


@pytest.mark.parametrize("likelihood", ["probit", "logistic"])
@given(numbers, scales, numbers, scales, st.floats(-20, 20))
def test_difference_agrees_with_scipy_at_every_threshold(likelihood, m1, s1, m2, s2, threshold):
    difference = normal(m1, s1, likelihood).difference(normal(m2, s2, likelihood))
    scale = math.hypot(s1, s2)
    if likelihood == "logistic":
        theirs = stats.logistic(m1 - m2, scale / math.sqrt(2 * math.pi))
    else:
        theirs = stats.norm(m1 - m2, scale)
    result = difference.log_prob_greater(threshold).item()
    assert result == pytest.approx(theirs.logsf(threshold), rel=1e-8, abs=1e-10)
    assert difference.variance.item() == pytest.approx(theirs.var(), rel=1e-9)


def test_a_batch_has_a_length():
    reward = normal([1.0, 2.0, 3.0], [0.1, 0.2, 0.3], "logistic")
    assert len(reward) == 3
    assert repr(reward) == "NormalReward(batch_shape=(3,))"
    with pytest.raises(TypeError, match="no length"):
        len(reward[0])


def test_quantile_levels_broadcast():
    levels = torch.tensor([[0.1], [0.9]], dtype=torch.float64)
    result = normal([0.0, 1.0], [1.0, 2.0]).quantile(levels)
    np.testing.assert_allclose(result, stats.norm([0, 1], [1, 2]).ppf([[0.1], [0.9]]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: r.log_prob_greater(normal(0.0, 1.0, "logistic")), "is probit, .* logistic"),
        (lambda r: r.difference(normal(0.0, 1.0, "logistic")), "is probit, .* logistic"),
        (lambda r: NormalReward(torch.zeros(1), torch.ones(1), "cauchy"), "probit, logistic"),
    ],
)
def test_what_normal_rewards_cannot_do_says_why(call, message):
    with pytest.raises(ConfigError, match=message):
        call(normal(0.0, 1.0))
