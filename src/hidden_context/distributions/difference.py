"""The difference of two rewards, which is all that a comparison sees."""

from __future__ import annotations

import math
from typing import Final, Literal

import torch
from torch import Tensor
from torch.nn import functional

from hidden_context.distributions.log_space import at_least_float32, log_ndtr, logsumexp
from hidden_context.errors import ConfigError

Kernel = Literal["normal", "logistic", "uniform"]

_VARIANCES: Final[dict[str, float]] = {
    "normal": 1.0,
    "logistic": math.pi**2 / 3,
    "uniform": 1.0 / 3,
}


class RewardDifference:
    r"""Distribution of :math:`D = u_a - u_b` as a mixture of one symmetric kernel.

    .. math:: P(D \le t) = \sum_c w_c\,F\bigl((t - m_c)/s_c\bigr)

    Every kind of label is an interval of D: a preference is D > 0, one by a margin D > m, a tie
    −δ < D ≤ δ, a strength an interval between two thresholds. So every kind of reward is fitted to
    every kind of label by this one class. Its probabilities agree with the rewards' own
    ``log_prob_greater`` at the threshold 0. It computes in float64 where the device has it, because
    logarithms of narrow intervals far out are differences of large numbers.

    Args:
        log_weights: Logarithms of the weights, of shape ``batch_shape + (C,)``, normalised.
        location: Locations in reward units, of that shape.
        scale: Positive scales in reward units, of a shape that broadcasts against it.
        kernel: F: ``normal`` (standard), ``logistic`` (standard), or ``uniform`` on [−1, 1].
    """

    def __init__(
        self, log_weights: Tensor, location: Tensor, scale: Tensor, kernel: Kernel = "normal"
    ) -> None:
        if kernel not in _VARIANCES:
            raise ConfigError(f"kernel {kernel!r} is not known; choose {', '.join(_VARIANCES)}.")
        self.log_weights, self.location, self.scale = torch.broadcast_tensors(
            at_least_float32(log_weights), at_least_float32(location), at_least_float32(scale)
        )
        self.kernel = kernel

    @property
    def batch_shape(self) -> torch.Size:
        """Shape of the batch of pairs."""
        return self.location.shape[:-1]

    @property
    def mean(self) -> Tensor:
        """Expected difference in reward units, of shape ``batch_shape``."""
        return (self.log_weights.exp() * self.location).sum(-1)

    @property
    def variance(self) -> Tensor:
        """Variance in squared reward units, the kernel's noise included, ``batch_shape``."""
        within = _VARIANCES[self.kernel] * self.scale.square()
        between = (self.location - self.mean.unsqueeze(-1)).square()
        return (self.log_weights.exp() * (within + between)).sum(-1)

    def shifted(self, shift: Tensor) -> RewardDifference:
        """Add a number to D; ``shift`` broadcasts against ``batch_shape``."""
        return RewardDifference(
            self.log_weights.expand(*torch.broadcast_shapes(shift.shape, self.batch_shape), -1),
            self.location + shift.unsqueeze(-1),
            self.scale,
            self.kernel,
        )

    def log_prob_greater(self, threshold: float | Tensor = 0.0) -> Tensor:
        r"""Return the log-probability :math:`\log P(D > t)`, in nats.

        Args:
            threshold: t in reward units, a number or a tensor that broadcasts.

        Returns:
            Of the broadcast batch shape.
        """
        return self.log_prob_between(threshold, math.inf)

    def log_prob_between(self, lower: float | Tensor, upper: float | Tensor) -> Tensor:
        r"""Return the log-probability :math:`\log P(l < D \le r)`, in nats, exact in both tails.

        Args:
            lower: l in reward units, a number or a tensor that broadcasts; may be −∞.
            upper: r, above ``lower``; may be ∞.

        Returns:
            Of the broadcast batch shape, in the dtype of the rewards.
        """
        dtype = self.location.dtype
        work = dtype if self.location.device.type == "mps" else torch.float64
        location, scale = self.location.to(work), self.scale.to(work)
        low, high = (self._bound(value, work).unsqueeze(-1) for value in (lower, upper))
        # Infinite ends are kept out of the arithmetic: their gradients would be ∞ · 0.
        open_low, open_high = torch.isinf(low), torch.isinf(high)
        z_low = (low.masked_fill(open_low, 0.0) - location) / scale
        z_high = (high.masked_fill(open_high, 0.0) - location) / scale
        if self.kernel == "uniform":
            return self._uniform(z_low, z_high, open_low, open_high).to(dtype)
        log_cdf = log_ndtr if self.kernel == "normal" else functional.logsigmoid
        # Every interval is moved to the left tail, where log F is exact and steep.
        middle = torch.where(open_low, z_high, torch.where(open_high, z_low, z_low + z_high))
        flip = torch.where(open_low, False, torch.where(open_high, True, middle > 0))
        left = torch.where(flip, -z_high, z_low)
        right = torch.where(flip, -z_low, z_high)
        open_left = torch.where(flip, open_high, open_low)
        open_right = torch.where(flip, open_low, open_high)
        log_right = log_cdf(right).masked_fill(open_right, 0.0)
        log_left = log_cdf(left.masked_fill(open_left, 0.0))
        share = _log1mexp((log_right - log_left).masked_fill(open_left, 1.0))
        log_probs = log_right + share.masked_fill(open_left, 0.0)
        return logsumexp(self.log_weights.to(work) + log_probs).to(dtype)

    def _uniform(
        self, z_low: Tensor, z_high: Tensor, open_low: Tensor, open_high: Tensor
    ) -> Tensor:
        below_high = ((z_high + 1) / 2).clamp(0, 1).masked_fill(open_high, 1.0)
        below_low = ((z_low + 1) / 2).clamp(0, 1).masked_fill(open_low, 0.0)
        share = below_high - below_low
        # The floor keeps the logarithm finite where an interval lies beyond all rewards. Where it
        # holds some of them, however unlikely, the others count for nothing.
        log_share = share.clamp(min=1e-300 if z_low.dtype.itemsize == 8 else 1e-37).log()
        inside = share > 0
        log_share = log_share.masked_fill(~inside & inside.any(-1, keepdim=True), -torch.inf)
        return logsumexp(self.log_weights.to(z_low) + log_share)

    def _bound(self, value: float | Tensor, dtype: torch.dtype) -> Tensor:
        return torch.as_tensor(value, dtype=dtype, device=self.location.device)


def _log1mexp(x: Tensor) -> Tensor:
    """Compute log(1 − e^−x) for x > 0, exact for small and large x."""
    x = x.clamp(min=torch.finfo(x.dtype).tiny)
    small = x < math.log(2.0)
    near = torch.log(-torch.expm1(-torch.where(small, x, 1.0)))
    far = torch.log1p(-torch.exp(-torch.where(small, 1.0, x)))
    return torch.where(small, near, far)
