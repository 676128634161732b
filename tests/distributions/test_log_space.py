import math

import numpy as np
import pytest
import torch
from scipy import special

from hidden_context.distributions import log_comparison, log_ndtr
from hidden_context.distributions.log_space import logsumexp
from hidden_context.errors import ConfigError

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


def test_far_left_gradient_is_about_the_distance():
    x = torch.tensor([-1e3, -1e4, -1e6], requires_grad=True)
    log_ndtr(x).sum().backward()
    np.testing.assert_allclose(x.grad, [1000.001, 10000.0001, 1e6], rtol=1e-6)


def test_log_ndtr_gradcheck_twice():
    x = torch.tensor([-6.0, -2.0, -0.3, 0.0, 0.7, 2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(log_ndtr, x)
    assert torch.autograd.gradgradcheck(log_ndtr, x)


def test_largest_gap_of_the_logistic_reading():
    z = torch.linspace(0, 3, 30001, dtype=torch.float64)
    gap = log_comparison(z, "logistic").exp() - log_comparison(z, "probit").exp()
    assert gap.max().item() == pytest.approx(0.0945, abs=5e-5)
    assert z[gap.argmax()].item() == pytest.approx(0.71, abs=0.01)


def test_unknown_likelihood_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"'cauchy'.*probit, logistic"):
        log_comparison(torch.zeros(1), "cauchy")


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


def test_logsumexp_gradcheck_twice():
    x = torch.tensor([[0.3, -2.0, 1.0], [5.0, 5.0, -9.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(logsumexp, x)
    assert torch.autograd.gradgradcheck(logsumexp, x)
