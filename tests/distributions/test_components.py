"""Mixtures of normals and points against scipy: densities, quantiles, risks, gradients."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, special, stats

from hidden_context.distributions import Components, EnsembleReward, MixtureReward, PointMassReward
from hidden_context.errors import ConfigError

WEIGHTS, MEANS, STDDEVS = np.array([0.2, 0.5, 0.3]), np.array([-3.0, 0.1, 4.0]), [0.5, 1.1, 0.2]


def mixture(weights=WEIGHTS, means=MEANS, stddevs=STDDEVS):
    return MixtureReward(*(torch.tensor(np.array(v)) for v in (np.log(weights), means, stddevs)))


def truth(weights=WEIGHTS, means=MEANS, stddevs=STDDEVS):
    normal = stats.norm(means, stddevs)
    cdf = lambda x: float(weights @ normal.cdf(x))  # noqa: E731
    pdf = lambda x: float(weights @ normal.pdf(x))  # noqa: E731
    return SimpleNamespace(
        cdf=cdf,
        pdf=pdf,
        ppf=lambda q: optimize.brentq(lambda x: cdf(x) - q, -60, 60, xtol=1e-13),
    )


def points(values, dtype=torch.float64):
    """Equally likely points, as the rewards of an ensemble of scalar heads are."""
    values = torch.tensor(values, dtype=dtype, requires_grad=True)
    zero = torch.zeros_like(values)
    return values, EnsembleReward(PointMassReward(values), zero, zero + 1)


@pytest.mark.parametrize("noise", [1e-3, 0.4, 30.0])
def test_log_density_is_that_of_the_noisy_mixture(noise):
    log_weights = torch.tensor([[0.3, 0.7], [0.5, 0.5]]).double().log()
    location = torch.tensor([[0.0, 2.0], [-1.0, 50.0]]).double()
    scale = torch.tensor([[0.0, 1.5], [0.2, 0.0]]).double()
    value = torch.tensor([1.7, -4.0]).double()
    result = Components(log_weights, location, scale).log_density(value, noise)
    expected = special.logsumexp(
        log_weights.numpy()
        + stats.norm.logpdf(value[:, None], location, np.hypot(scale.numpy(), noise)),
        axis=-1,
    )
    np.testing.assert_allclose(result, expected, rtol=1e-10)


def test_log_density_far_out_keeps_the_gradient_in_float32():
    # four equal points 10⁴ noise scales away: a weight of ¼ each, to a sum of one
    location = torch.full((4,), 1e4, requires_grad=True)
    parts = Components(torch.full((4,), -math.log(4)), location, torch.zeros(4))
    value = parts.log_density(torch.tensor(0.0), torch.tensor(1.0))
    value.backward()
    assert value.item() == pytest.approx(-5e7, rel=1e-6)
    np.testing.assert_allclose(location.grad, [-2500.0] * 4, rtol=1e-6)


def test_moments_cdf_and_density_agree_with_scipy():
    reward, exact = mixture(), truth()
    assert reward.mean.item() == pytest.approx(WEIGHTS @ MEANS)
    second = WEIGHTS @ (MEANS**2 + np.square(STDDEVS))
    assert reward.variance.item() == pytest.approx(second - (WEIGHTS @ MEANS) ** 2)
    for x in (-5.0, -2.9, 0.0, 3.9, 4.3):
        assert reward.cdf(torch.tensor(x)).item() == pytest.approx(exact.cdf(x), abs=1e-7)
        value = torch.tensor(x, dtype=torch.float64)
        assert reward.log_prob(value).item() == pytest.approx(math.log(exact.pdf(x)), rel=1e-9)


@settings(max_examples=20)
@given(
    st.lists(st.tuples(st.floats(-5, 5), st.floats(0.05, 3)), min_size=1, max_size=4),
    st.floats(0.001, 0.999),
)
def test_quantiles_invert_the_distribution_function(parts, q):
    means, stddevs = zip(*parts, strict=True)
    weights = np.arange(1, len(parts) + 1) / sum(range(1, len(parts) + 1))
    reward = mixture(weights, means, stddevs)
    assert reward.cdf(reward.quantile(q)).item() == pytest.approx(q, abs=1e-9)


@pytest.mark.parametrize("alpha", [0.01, 0.2, 0.5, 0.95])
def test_cvar_is_the_mean_below_the_quantile(alpha):
    exact = truth()
    end = exact.ppf(alpha)
    integral, _ = integrate.quad(lambda x: x * exact.pdf(x), -20, end, points=[-3, 0], limit=200)
    assert mixture().cvar(alpha).item() == pytest.approx(integral / alpha, abs=1e-8)
    assert mixture().cvar(1.0).item() == pytest.approx(mixture().mean.item())


@pytest.mark.parametrize("theta", [0.05, 1.0, 4.0])
def test_entropic_risk_agrees_with_its_integral(theta):
    exact = truth()
    integral, _ = integrate.quad(
        lambda x: math.exp(-theta * x) * exact.pdf(x), -25, 15, points=[-3, 0, 4], limit=400
    )
    expected = -math.log(integral) / theta
    assert mixture().entropic(theta).item() == pytest.approx(expected, rel=1e-7)


def test_entropic_risk_tends_to_the_mean_of_large_rewards_in_float32():
    reward = MixtureReward(torch.zeros(2), torch.tensor([999.0, 1001.0]), torch.ones(2))
    assert reward.entropic(1e-4).item() == pytest.approx(1000 - 1e-4, abs=1e-4)


@pytest.mark.parametrize("q", [0.02, 0.6])
def test_quantile_and_cvar_gradients(q):
    torch.manual_seed(0)
    start = [torch.randn(2, 2, dtype=torch.float64) for _ in range(3)]
    inputs = [value.requires_grad_() for value in start]

    def reward(logits, means, scales):
        return MixtureReward(logits, means, scales.exp())

    assert torch.autograd.gradcheck(lambda *v: reward(*v).quantile(q), inputs)
    assert torch.autograd.gradcheck(lambda *v: reward(*v).cvar(q), inputs)
    assert torch.autograd.gradcheck(lambda *v: reward(*v).entropic(0.7), inputs)


@settings(max_examples=20)
@given(st.lists(st.floats(-100, 100), min_size=2, max_size=6), st.integers(1, 999))
def test_points_have_the_quantiles_of_a_step_function(values, thousandth):
    q = thousandth / 1000
    expected = np.quantile(values, q, method="inverted_cdf")
    _, reward = points(values)
    assert reward.quantile(q).item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [3, 10, 49])
def test_quantile_of_points_survives_rounding_of_their_weights(count, dtype):
    _, reward = points(range(count), dtype)
    found = reward.quantile(torch.arange(1, count, dtype=dtype) / count).detach()
    np.testing.assert_allclose(found, np.arange(count - 1), atol=1e-4)


def test_quantile_of_points_moves_with_the_point_it_lies_at():
    values, reward = points([-2.0, 0.0, 7.0, 7.5])
    for q, place in ((0.1, 0), (0.25, 0), (0.3, 1), (0.7, 2), (0.9, 3)):
        quantile = reward.quantile(q)
        (gradient,) = torch.autograd.grad(quantile, values)
        assert quantile.item() == values[place].item()
        assert gradient.tolist() == torch.eye(4)[place].tolist()


def test_cvar_of_points_cuts_the_last_one():
    values, reward = points([-2.0, 0.0, 7.0, 7.5])
    cvar = reward.cvar(0.6)
    (gradient,) = torch.autograd.grad(cvar, values)
    assert cvar.item() == pytest.approx((-2 * 0.25 + 0 * 0.25 + 7 * 0.1) / 0.6)
    assert gradient.tolist() == pytest.approx([0.25 / 0.6, 0.25 / 0.6, 0.1 / 0.6, 0])


def test_points_far_apart_have_finite_risks_and_gradients_in_float32():
    values, reward = points([-1e4, 1e4], torch.float32)
    total = reward.cvar(0.75) + reward.quantile(0.75) + reward.entropic(1e-3)
    (gradient,) = torch.autograd.grad(total, values)
    # cvar −10⁴/3, quantile 10⁴, entropic −10⁴ + 1000 log 2
    assert total.item() == pytest.approx(-1e4 / 3 + 1000 * math.log(2), rel=1e-4)
    np.testing.assert_allclose(gradient, [2 / 3 + 1, 1 / 3 + 1], rtol=1e-4)


def drawn(seed, *shape):
    rng = np.random.default_rng(seed)
    logits, means, scales = torch.tensor(rng.normal(size=(3, *shape)) * 2)
    return MixtureReward(logits, means, scales.exp())


def test_comparison_is_the_double_sum_over_components():
    a, b = drawn(0, 6, 3), drawn(1, 6, 3)
    scale = np.hypot(a.stddevs.numpy()[:, :, None], b.stddevs.numpy()[:, None])
    z = (a.means.numpy()[:, :, None] - b.means.numpy()[:, None]) / scale
    weights = (a.log_weights[:, :, None] + b.log_weights[:, None]).exp().numpy()
    expected = (weights * stats.norm.cdf(z)).sum((1, 2))
    np.testing.assert_allclose(a.log_prob_greater(b).exp(), expected, rtol=1e-12)
    tie = weights * (stats.norm.cdf(z + 0.3 / scale) - stats.norm.cdf(z - 0.3 / scale))
    between = a.difference(b).log_prob_between(-0.3, 0.3).exp()
    np.testing.assert_allclose(between, tie.sum((1, 2)), rtol=1e-9)


def test_a_mode_of_opinion_is_seen_by_the_low_quantile():
    # a tenth hates what the others like: the mean is that of a bland answer, the quantile is not
    divided = MixtureReward(
        torch.tensor([0.1, 0.9]).log(), torch.tensor([-9.0, 1.0]), torch.full((2,), 0.1)
    )
    assert divided.mean.item() == pytest.approx(0)
    assert divided.quantile(0.05).item() == pytest.approx(-9, abs=1e-4)
    assert divided.quantile(0.5).item() == pytest.approx(1 + 0.1 * stats.norm.ppf(4 / 9), abs=1e-4)
    assert divided.cvar(0.1).item() == pytest.approx(-9, abs=1e-3)


def test_weights_are_normalised_and_counted():
    reward = MixtureReward(torch.tensor([5.0, 5.0]), torch.zeros(2), torch.ones(2))
    np.testing.assert_allclose(reward.log_weights, [math.log(0.5)] * 2)
    assert reward.num_components == 2


@pytest.mark.parametrize(
    "shapes", [((3, 2), (3, 2), (3, 1)), ((0,), (0,), (0,)), ((), (), ()), ((2,), (3,), (3,))]
)
def test_shapes_that_do_not_fit_are_refused(shapes):
    with pytest.raises(ConfigError, match="same M ≥ 1 components"):
        MixtureReward(*(torch.ones(shape) for shape in shapes))
