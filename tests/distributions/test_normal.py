import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from hidden_context.distributions import NormalReward
from hidden_context.errors import ConfigError

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
def test_cvar_is_the_mean_below_the_quantile(alpha):
    reward = normal(0.7, 1.3)
    expected = stats.norm(0.7, 1.3).expect(ub=reward.quantile(alpha).item(), conditional=True)
    assert reward.cvar(alpha).item() == pytest.approx(expected, rel=1e-6)
    assert reward.cvar(1.0).item() == 0.7


def test_entropic_risk_agrees_with_its_integral():
    theta = 1.7
    integral, _ = integrate.quad(
        lambda u: math.exp(-theta * u) * stats.norm.pdf(u, 0.4, 0.8), -12, 12
    )
    assert normal(0.4, 0.8).entropic(theta).item() == pytest.approx(-math.log(integral) / theta)


@pytest.mark.parametrize("likelihood", ["probit", "logistic"])
@given(numbers, scales, numbers, scales)
def test_comparison_is_symmetric_and_shift_invariant(likelihood, m1, s1, m2, s2):
    a, b = normal(m1, s1, likelihood), normal(m2, s2, likelihood)
    forward, backward = a.log_prob_greater(b).exp(), b.log_prob_greater(a).exp()
    assert (forward + backward).item() == pytest.approx(1, abs=1e-12)
    moved = normal(m1 + 8, s1, likelihood).log_prob_greater(normal(m2 + 8, s2, likelihood))
    assert moved.exp().item() == pytest.approx(forward.item(), abs=1e-9)


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


def test_selecting_expanding_and_length():
    reward = normal([1.0, 2.0, 3.0], [0.1, 0.2, 0.3], "logistic")
    assert len(reward) == 3
    assert repr(reward) == "NormalReward(batch_shape=(3,))"
    assert reward[1].mean.item() == 2.0
    assert reward[1:].likelihood == "logistic"
    assert reward.expand((2, 3)).batch_shape == (2, 3)
    with pytest.raises(TypeError, match="no length"):
        len(reward[0])


def test_quantile_levels_broadcast():
    levels = torch.tensor([[0.1], [0.9]], dtype=torch.float64)
    result = normal([0.0, 1.0], [1.0, 2.0]).quantile(levels)
    np.testing.assert_allclose(result, stats.norm([0, 1], [1, 2]).ppf([[0.1], [0.9]]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda r: r.log_prob_greater(normal(0.0, 1.0, "logistic")),
            "likelihood is probit, the other's logistic",
        ),
        (
            lambda r: r.difference(normal(0.0, 1.0, "logistic")),
            "likelihood is probit, the other's logistic",
        ),
        (lambda r: NormalReward(torch.zeros(1), torch.ones(1), "cauchy"), "probit, logistic"),
    ],
)
def test_what_cannot_work_says_why(call, message):
    with pytest.raises(ConfigError, match=message):
        call(normal(0.0, 1.0))
