"""Rewards that are mixtures of normals and points: their quantiles, risks and samples."""

from __future__ import annotations

import abc
import math
from typing import Any, Final

import torch
from torch import Size, Tensor

from hidden_context.distributions.base import Components, QuantileMethod, RewardDistribution
from hidden_context.distributions.log_space import logsumexp

_HALVINGS: Final = 80


class ComponentReward(RewardDistribution, abc.ABC):
    """Base class of mixtures of normals and points; subclasses give ``components``."""

    @property
    def mean(self) -> Tensor:
        """Means in reward units, of shape ``batch_shape``."""
        parts = self.components()
        return (parts.log_weights.exp() * parts.location).sum(-1)

    @property
    def variance(self) -> Tensor:
        """Variances in squared reward units, of shape ``batch_shape``."""
        parts = self.components()
        spread = parts.scale.square() + (parts.location - self.mean.unsqueeze(-1)).square()
        return (parts.log_weights.exp() * spread).sum(-1)

    def cdf(self, value: Tensor) -> Tensor:
        r"""Return :math:`F(x) = \sum_c w_c \Phi((x - m_c)/s_c)`, which is right-continuous."""
        parts = self.components()
        below = _below(parts, torch.as_tensor(value).to(parts.location))
        return (parts.log_weights.exp() * below).sum(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density in nats; undefined where a component is a point."""
        return self.components().log_density(torch.as_tensor(value), 0.0)

    def quantile(self, q: float | Tensor, method: QuantileMethod = "step") -> Tensor:
        """Find the quantile by bisection, and its gradient by the implicit function theorem.

        The bracket is cut in half eighty times, so the result is exact to rounding.
        """
        parts = self.components()
        level = self._level(q, parts.location)
        with torch.no_grad():
            # each component's own quantile; the mixture's lies between the least and the greatest
            own = parts.location + torch.special.ndtri(level).unsqueeze(-1) * parts.scale
            low, high = own.amin(-1), own.amax(-1)
            weights = parts.log_weights.exp()
            # cumulative weights are sums with rounding; an exact level must count as reached
            reached = level - 8 * torch.finfo(level.dtype).eps
            for _ in range(_HALVINGS):
                middle = (low + high) / 2
                above = (weights * _below(parts, middle)).sum(-1) >= reached
                low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        return self._with_gradient(high, level, parts)

    @staticmethod
    def _with_gradient(value: Tensor, level: Tensor, parts: Components) -> Tensor:
        """Give a quantile its gradient: dq = −dF/f, or the gradient of the point where it lies."""
        if not any(part.requires_grad for part in parts):
            return value
        distance = value.unsqueeze(-1) - parts.location
        point = parts.scale == 0
        away = distance.detach().abs().masked_fill(~point, torch.inf)
        nearest = away.argmin(-1, keepdim=True)
        at_point = parts.location.expand_as(away).gather(-1, nearest).squeeze(-1)
        # bisection ends within a rounding of a point
        near = 4 * torch.finfo(value.dtype).eps * at_point.detach().abs()
        on_point = (away.gather(-1, nearest).squeeze(-1) <= near) | point.all(-1)
        weights = parts.log_weights.exp()
        cumulative = (weights * _below(parts, value)).sum(-1)
        scale = torch.where(point, 1.0, parts.scale)
        density = weights * torch.exp(-0.5 * (distance / scale).square()) / scale
        density = density.masked_fill(point, 0.0).sum(-1).detach() / math.sqrt(2 * math.pi)
        density = density.clamp(min=torch.finfo(value.dtype).tiny).masked_fill(on_point, 1.0)
        smooth = value - (cumulative - cumulative.detach()) / density
        return torch.where(on_point, at_point, smooth)

    def cvar(self, alpha: float) -> Tensor:
        r"""Return the mean of the worst share, in closed form given the quantile q.

        .. math:: \tfrac1\alpha\Bigl[\sum_c w_c\bigl(m_c\Phi(z_c) - s_c\varphi(z_c)\bigr)
            + q\,(\alpha - F(q))\Bigr], \quad z_c = (q - m_c)/s_c
        """
        self._check_share(alpha)
        if alpha == 1.0:
            return self.mean
        parts = self.components()
        # q's own gradient cancels, as the worst share ends there, unless a point is cut in two
        point = parts.scale == 0
        own = self.quantile(alpha)
        q = own.detach()
        own = torch.where(point.any(-1), own, q)
        below = _below(parts, q)
        z = (q.unsqueeze(-1) - parts.location) / torch.where(point, 1.0, parts.scale)
        density = torch.exp(-0.5 * z.square().clamp(max=1e4)) / math.sqrt(2 * math.pi)
        weights = parts.log_weights.exp()
        tail = (weights * (parts.location * below - parts.scale * density)).sum(-1)
        return (tail + own * (alpha - (weights * below).sum(-1))) / alpha

    def entropic(self, theta: float) -> Tensor:
        r"""Return the entropic risk in closed form (see the base class).

        .. math:: -\frac1\theta\log\sum_c w_c e^{-\theta m_c+\theta^2s_c^2/2}
        """
        self._check_aversion(theta)
        parts = self.components()
        # about the mean, so that a small aversion does not drown in a large reward
        centred = parts.location - self.mean.unsqueeze(-1)
        exponent = -theta * centred + 0.5 * (theta * parts.scale).square()
        return self.mean - logsumexp(parts.log_weights + exponent) / theta

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw rewards, of shape ``sample_shape + batch_shape``."""
        shape = Size(sample_shape)
        with torch.no_grad():
            parts = self.components()
            count = parts.location.shape[-1]
            flat = parts.log_weights.exp().reshape(-1, count)
            draws = torch.multinomial(flat, max(shape.numel(), 1), replacement=True).T
            draws = draws.reshape(shape + self.batch_shape).unsqueeze(-1)
            location, scale = (
                part.expand(shape + part.shape).gather(-1, draws).squeeze(-1)
                for part in (parts.location, parts.scale)
            )
            return location + scale * torch.randn_like(location)


def _below(parts: Components, value: Tensor) -> Tensor:
    """Return the probability of each component at or below ``value``: ``batch_shape + (C,)``."""
    distance = value.unsqueeze(-1) - parts.location
    point = parts.scale == 0
    smooth = torch.special.ndtr(distance / torch.where(point, 1.0, parts.scale))
    return torch.where(point, (distance >= 0).to(distance), smooth)
