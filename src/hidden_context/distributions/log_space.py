r"""Log-space helpers: :math:`\log\Phi` with an exact gradient, and the named likelihoods."""

from __future__ import annotations

import math
from typing import Any, Final, Literal

import torch
from torch import Tensor
from torch.nn import functional

from hidden_context.errors import ConfigError

Likelihood = Literal["probit", "logistic"]
LIKELIHOODS: Final[tuple[str, ...]] = ("probit", "logistic")

_SQRT_HALF: Final = math.sqrt(0.5)
_SQRT_TWO_OVER_PI: Final = math.sqrt(2.0 / math.pi)
_SQRT_TWO_PI: Final = math.sqrt(2.0 * math.pi)


class _NormalHazard(torch.autograd.Function):
    r"""The ratio :math:`h(x) = \varphi(x)/\Phi(x)`, with :math:`h'(x) = -h(x)(x + h(x))`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        # erfcx grows without bound to the right (the ratio is then 0) and is 1/(√π y) to the left
        hazard = _SQRT_TWO_OVER_PI / torch.special.erfcx(-x * _SQRT_HALF)
        ctx.save_for_backward(x, hazard)
        return hazard

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        x, hazard = ctx.saved_tensors
        return -grad_outputs[0] * hazard * (x + hazard)


class _LogNdtr(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.special.log_ndtr(x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad_outputs[0] * _NormalHazard.apply(x)


def log_ndtr(x: Tensor) -> Tensor:
    r"""Compute the log of the standard normal distribution function, exact in both tails.

    .. math:: \log\Phi(x), \qquad \frac{d}{dx}\log\Phi(x) = \frac{\varphi(x)}{\Phi(x)}

    The gradient of ``torch.special.log_ndtr`` is wrong in the far left tail in float32 (956 at
    x = −1000 instead of 1000.001); this one goes through ``erfcx`` and holds everywhere. It can be
    differentiated twice.

    Args:
        x: Any shape, float32 or float64.

    Returns:
        The logarithm, in nats, of the shape of ``x``.
    """
    result: Tensor = _LogNdtr.apply(x)
    return result


def log_comparison(z: Tensor, likelihood: str) -> Tensor:
    r"""Return the log-probability of preferring the first of two, by standardised distance.

    ``probit``: :math:`\log\Phi(z)`, the exact probability that one independent normal exceeds
    another. ``logistic``: :math:`\log\operatorname{sigmoid}(\sqrt{2\pi}\,z)`, as the DPL paper's
    code computes it; up to 0.0945 away from :math:`\Phi(z)`, kept to reproduce the paper.

    Args:
        z: :math:`(\mu_a - \mu_b)/\sqrt{\sigma_a^2 + \sigma_b^2}`, any shape, no unit.
        likelihood: ``"probit"`` or ``"logistic"``.

    Returns:
        Log-probability in nats, of the shape of ``z``.

    Raises:
        ConfigError: If the likelihood is not one of the two.
    """
    check_likelihood(likelihood)
    return log_ndtr(z) if likelihood == "probit" else functional.logsigmoid(_SQRT_TWO_PI * z)


def check_likelihood(name: str) -> None:
    """Check the name of a likelihood of normal rewards.

    Raises:
        ConfigError: If it is not known.
    """
    if name not in LIKELIHOODS:
        raise ConfigError(
            f"likelihood {name!r} is not known; choose one of {', '.join(LIKELIHOODS)}."
        )


def logsumexp(x: Tensor, dim: int | tuple[int, ...] = -1) -> Tensor:
    r"""Compute :math:`\log\sum e^x`, its gradient a softmax that sums to 1 however large x is.

    The gradient of ``torch.logsumexp`` is :math:`e^{x - \text{result}}`, which is as wrong as the
    result is rounded: n equal terms of −10⁹ get a weight of 1 each in float32, not 1/n.

    Args:
        x: Any shape.
        dim: The dimensions summed over.

    Returns:
        The logarithm, in nats, of the shape of ``x`` without them.
    """
    top = x.detach().amax(dim, keepdim=True)
    top = top.masked_fill(top.isinf(), 0.0)
    return (x - top).exp().sum(dim).log() + top.sum(dim)


def at_least_float32(x: Tensor) -> Tensor:
    """Return ``x`` in float32 unless it is float64; half precision would tie rewards."""
    return x if x.dtype == torch.float64 else x.float()
