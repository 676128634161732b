"""Intervals of the difference, and log Φ under them, against arithmetic of fifty digits."""

import itertools
import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from hidden_context.distributions import RewardDifference, log_comparison, log_ndtr
from hidden_context.distributions.log_space import logsumexp
from hidden_context.errors import ConfigError

INTERVALS = [
    (5.0, 5.1),
    (-300.0, -299.0),
    (1e4, 1e4 + 1),
    (-1e4 - 1e-3, -1e4),
    (-0.1, 0.1),
    (0.3, 0.3 + 1e-6),
    (-40.0, 2e5),
    (-2e5, 7.0),
    (30.0, math.inf),
    (-math.inf, -1e5),
    (-math.inf, 3.0),
]


def left_tail(kernel, z):
    """F(z) for z of either sign, exact where it is small."""
    if kernel == "normal":
        return mpmath.erfc(-z / mpmath.sqrt(2)) / 2
    return 1 / (1 + mpmath.exp(-z))


def exact(kernel, lower, upper, location, scale):
    """The logarithm of P(lower < D ≤ upper), and its derivatives by location and by scale."""
    with mpmath.workdps(60):

        def log_prob(place, width):
            low, high = ((mpmath.mpf(end) - place) / width for end in (lower, upper))
            if low + high > 0:  # the kernels are symmetric
                low, high = -high, -low
            return mpmath.log(left_tail(kernel, high) - left_tail(kernel, low))

        place, width, step = mpmath.mpf(location), mpmath.mpf(scale), mpmath.mpf(10) ** -20
        slopes = [
            (log_prob(place + dx, width + dy) - log_prob(place - dx, width - dy)) / (2 * step)
            for dx, dy in ((step, 0), (0, step))
        ]
        return [float(value) for value in (log_prob(place, width), *slopes)]


def one(location, scale, kernel="normal", dtype=torch.float64):
    values = [torch.tensor([v], dtype=dtype, requires_grad=True) for v in (location, scale)]
    return RewardDifference(torch.zeros(1, dtype=dtype), *values, kernel), values


@pytest.mark.parametrize("kernel", ["normal", "logistic"])
@pytest.mark.parametrize("interval", INTERVALS, ids=str)
def test_intervals_and_gradients_far_out_agree_with_mpmath(kernel, interval):
    for location, scale in ((0.0, 1.0), (0.2, 0.7), (-3.0, 12.5)):
        difference, parameters = one(location, scale, kernel)
        log_prob = difference.log_prob_between(*interval)
        log_prob.backward()
        value, by_location, by_scale = exact(kernel, *interval, location, scale)
        assert log_prob.item() == pytest.approx(value, rel=1e-9, abs=1e-9)
        # ends near 10⁴ make narrow intervals known to 10⁻¹² of 10⁻³ only
        assert parameters[0].grad.item() == pytest.approx(by_location, rel=1e-5, abs=1e-9)
        assert parameters[1].grad.item() == pytest.approx(by_scale, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("kernel", ["normal", "logistic"])
@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e4), st.floats(-50, 50), st.floats(1e-2, 100))
def test_any_interval_agrees_with_mpmath(kernel, lower, width, location, scale):
    difference, _ = one(location, scale, kernel)
    result = difference.log_prob_between(lower, lower + width).item()
    expected = exact(kernel, lower, lower + width, location, scale)[0]
    assert result == pytest.approx(expected, rel=1e-8, abs=1e-10)


@pytest.mark.parametrize("kernel", ["normal", "logistic", "uniform"])
def test_thresholds_have_the_gradient_of_the_density(kernel):
    torch.manual_seed(0)
    weights = torch.randn(4, 3, dtype=torch.float64).log_softmax(-1).requires_grad_()
    location = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    scale = (3.5 + torch.rand(4, 3, dtype=torch.float64)).requires_grad_()
    low = torch.tensor([-0.7, -0.1, 0.2, -1.0], dtype=torch.float64, requires_grad=True)
    high = torch.tensor([0.9, 0.3, 0.7, 2.0], dtype=torch.float64, requires_grad=True)

    def between(*values):
        return RewardDifference(*values[:3], kernel).log_prob_between(*values[3:])

    assert torch.autograd.gradcheck(between, (weights, location, scale, low, high))


@pytest.mark.parametrize("kernel", ["normal", "logistic", "uniform"])
def test_infinite_ends_are_certain_and_have_finite_gradients(kernel):
    difference, parameters = one(0.3, 2.0, kernel)
    upper = torch.tensor([0.5, math.inf], dtype=torch.float64, requires_grad=True)
    lower = torch.tensor([-math.inf, 0.5], dtype=torch.float64, requires_grad=True)
    parts = difference.log_prob_between(lower, upper)
    assert parts.exp().sum().item() == pytest.approx(1, abs=1e-12)
    assert difference.log_prob_between(-math.inf, math.inf).item() == 0
    everything = difference.log_prob_between(-math.inf, math.inf)
    (parts.sum() + everything.sum()).backward()
    density = {"normal": 0.198476, "logistic": 0.124688, "uniform": 0.25}[kernel]
    probability = parts[0].exp().item()
    assert upper.grad[0].item() == pytest.approx(density / probability, rel=1e-4)
    assert lower.grad[1].item() == pytest.approx(-density / (1 - probability), rel=1e-4)
    assert (upper.grad[1].item(), lower.grad[0].item()) == (0.0, 0.0)
    expected = density * (1 / (1 - probability) - 1 / probability)
    assert parameters[0].grad.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kernel", ["normal", "logistic", "uniform"])
def test_intervals_add_up_and_mirror(kernel):
    torch.manual_seed(1)
    weights = torch.randn(50, 4, dtype=torch.float64).log_softmax(-1)
    location, scale = 2 * torch.randn(50, 4).double(), 0.1 + torch.rand(50, 1).double()
    difference = RewardDifference(weights, location, scale, kernel)
    ends = [-math.inf, -1.3, -0.2, 0.0, 0.4, 2.5, math.inf]
    total = sum(difference.log_prob_between(*pair).exp() for pair in itertools.pairwise(ends))
    np.testing.assert_allclose(total, 1, atol=1e-12)
    mirror = RewardDifference(weights, -location, scale, kernel)
    np.testing.assert_allclose(
        difference.log_prob_between(-0.2, 0.9), mirror.log_prob_between(-0.9, 0.2), rtol=1e-12
    )


def test_uniform_kernel_shares_each_component_over_its_width():
    weights = torch.tensor([0.25, 0.75], dtype=torch.float64).log()
    difference = RewardDifference(
        weights, torch.tensor([0.0, 1.0]).double(), torch.tensor(0.5).double(), "uniform"
    )
    assert difference.log_prob_greater(0.5).exp().item() == pytest.approx(0.75)
    assert difference.log_prob_greater(0.25).exp().item() == pytest.approx(0.25 / 4 + 0.75)
    assert difference.log_prob_between(-0.5, 0.0).exp().item() == pytest.approx(0.125)
    assert difference.mean.item() == pytest.approx(0.75)
    assert difference.variance.item() == pytest.approx(0.25 / 3 + 0.25 * 0.75)


def test_uniform_kernel_counts_an_unlikely_component_and_not_those_outside():
    # all but e⁻⁵⁰⁰⁰ of the weight lies left of the interval
    weights = torch.tensor([-5000.0, 0.0], requires_grad=True)
    difference = RewardDifference(weights, torch.tensor([1.0, -1.0]), torch.ones(2) / 4, "uniform")
    log_prob = difference.log_prob_greater()
    log_prob.backward()
    assert log_prob.item() == -5000
    assert weights.grad.tolist() == [1.0, 0.0]
    # beyond everything there is a floor, without gradient
    beyond = difference.log_prob_greater(2.0)
    assert beyond.item() == pytest.approx(math.log(1e-300))


def test_shifting_moves_the_thresholds():
    difference = RewardDifference(
        torch.full((3, 2), math.log(0.5)).double(), torch.randn(3, 2).double(), torch.ones(1)
    )
    shift = torch.tensor([[0.5], [-2.0]], dtype=torch.float64)
    shifted = difference.shifted(shift)
    assert shifted.batch_shape == (2, 3)
    np.testing.assert_allclose(shifted.mean, difference.mean + shift)
    np.testing.assert_allclose(
        shifted.log_prob_greater(0.5), difference.log_prob_greater(0.5 - shift), rtol=1e-12
    )


def test_thresholds_broadcast_and_the_dtype_stays():
    difference = RewardDifference(torch.zeros(5, 1), torch.randn(5, 1), torch.ones(1))
    thresholds = torch.tensor([[-1.0], [0.0], [1.0]])
    result = difference.log_prob_greater(thresholds)
    assert (result.shape, result.dtype) == ((3, 5), torch.float32)
    assert bool((result.diff(dim=0) < 0).all())
    half = RewardDifference(*(torch.ones(1, dtype=torch.bfloat16) for _ in range(3)))
    assert half.location.dtype == torch.float32


def test_unknown_kernels_and_likelihoods_list_the_known_ones():
    with pytest.raises(ConfigError, match=r"'cauchy'.*normal, logistic, uniform"):
        one(0.0, 1.0, "cauchy")
    with pytest.raises(ConfigError, match=r"'cauchy'.*probit, logistic"):
        log_comparison(torch.zeros(1), "cauchy")


FAR = [-1e6, -1e4, -1e3, -100.0, -10.0, -1.0, 0.0, 0.5, 3.0, 10.0, 100.0]


def hazard(x: float) -> float:
    """The gradient φ/Φ in float64, by the continued-fraction-free erfcx form."""
    return math.sqrt(2 / math.pi) / special.erfcx(-x / math.sqrt(2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_ndtr_value_and_gradient_in_both_tails(dtype):
    x = torch.tensor(FAR, dtype=dtype, requires_grad=True)
    value = log_ndtr(x)
    value.sum().backward()
    rtol = 1e-5 if dtype == torch.float32 else 1e-12
    np.testing.assert_allclose(
        value.detach(), special.log_ndtr(np.array(FAR)), rtol=rtol, atol=1e-7
    )
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(x.grad, [hazard(v) for v in FAR], rtol=rtol, atol=1e-30)


@pytest.mark.parametrize("function", [log_ndtr, logsumexp])
def test_gradcheck_twice(function):
    x = torch.tensor([-6.0, -2.0, -0.3, 0.0, 0.7, 2.0, 2.0]).double().requires_grad_()
    assert torch.autograd.gradcheck(function, x)
    assert torch.autograd.gradgradcheck(function, x)


def test_largest_gap_of_the_logistic_reading():
    z = torch.linspace(0, 3, 30001, dtype=torch.float64)
    gap = log_comparison(z, "logistic").exp() - log_comparison(z, "probit").exp()
    assert gap.max().item() == pytest.approx(0.0945, abs=5e-5)
    assert z[gap.argmax()].item() == pytest.approx(0.71, abs=0.01)


def test_logsumexp_agrees_with_scipy():
    x = torch.randn(3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 50
    for dim in (-1, 0, (-2, -1)):
        np.testing.assert_allclose(logsumexp(x, dim), special.logsumexp(x.numpy(), dim))
    assert logsumexp(torch.tensor([-torch.inf, 2.0])).item() == 2
    assert logsumexp(torch.tensor([-torch.inf, -torch.inf])).item() == -math.inf


@pytest.mark.parametrize("size", [1.0, 1e4, 1e9, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logsumexp_shares_its_gradient_at_any_size(size, dtype):
    x = torch.full((4,), -size, dtype=dtype, requires_grad=True)
    logsumexp(x).backward()
    assert x.grad.tolist() == [0.25] * 4
