"""The factor reward: a normal reward with a context that the compared responses share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Size, Tensor

from hidden_context.distributions.base import Components, QuantileMethod, RewardDistribution
from hidden_context.distributions.components import ComponentReward
from hidden_context.distributions.difference import RewardDifference
from hidden_context.distributions.log_space import at_least_float32, log_ndtr
from hidden_context.errors import ConfigError


class FactorReward(ComponentReward):
    r"""Thurstone's model with shared context.

    .. math:: u(x, z) = \mu(x) + L(x)\cdot z + s(x)\,\varepsilon, \qquad z \sim N(0, I_F)

    The context z belongs to one annotator and is the same for all responses that this annotator
    judges. The noise ε is drawn anew for each response. So

    .. math:: P(a \succ b) = \Phi\bigl((\mu_a-\mu_b)/\sqrt{\|L_a-L_b\|^2+s_a^2+s_b^2}\bigr)

    Comparisons identify neither the unit and level of rewards (per prompt), nor a rotation or sign
    of z, nor a vector that is added to every L of a prompt, which moves all responses to the prompt
    alike for every annotator. Of these, :meth:`relative` and the parts of a difference depend only
    on the unit. Single comparisons by unknown annotators say little about L where all probabilities
    are near ½.

    Args:
        mean: μ in reward units, any shape.
        loadings: L in reward units, of shape ``mean.shape + (F,)``; F may be 0.
        stddev: s ≥ 0 in reward units, broadcasting against ``mean``.

    Raises:
        ConfigError: If the shapes do not fit.

    Source: Thurstone (1927), case I; Takane (1989) for the factor form.
    """

    has_rsample = True
    _alike = ("num_factors",)

    def __init__(self, mean: Tensor, loadings: Tensor, stddev: Tensor) -> None:
        self._mean, self.independent_stddev = torch.broadcast_tensors(
            at_least_float32(mean), at_least_float32(stddev)
        )
        self.loadings = at_least_float32(loadings)
        if self.loadings.shape[:-1] != self._mean.shape:
            raise ConfigError(
                f"loadings of shape {tuple(self._mean.shape)} + (F,) are needed, not "
                f"{tuple(self.loadings.shape)}."
            )
        super().__init__(self._mean.shape)

    def _map_parameters(self, function: Callable[[Tensor], Tensor]) -> FactorReward:
        mean = function(self._mean)
        loadings = mean.new_empty((*mean.shape, 0))
        if self.num_factors:
            loadings = self._by_column(function, self.loadings)
        return type(self)(mean, loadings, function(self.independent_stddev))

    @property
    def num_factors(self) -> int:
        """Number F of factors."""
        return int(self.loadings.shape[-1])

    @property
    def mean(self) -> Tensor:
        """Means over contexts in reward units, of shape ``batch_shape``."""
        return self._mean

    @property
    def shared_variance(self) -> Tensor:
        r"""Variance by the shared context, :math:`\|L\|^2`, of shape ``batch_shape``."""
        return self.loadings.square().sum(-1)

    @property
    def independent_variance(self) -> Tensor:
        """Variance by independent noise, s², of shape ``batch_shape``."""
        return self.independent_stddev.square()

    @property
    def variance(self) -> Tensor:
        """Marginal variance, the sum of the two, of shape ``batch_shape``."""
        return self.shared_variance + self.independent_variance

    @property
    def stddev(self) -> Tensor:
        """Marginal standard deviation in reward units, of shape ``batch_shape``."""
        return _total(self.independent_stddev, self.loadings)

    @property
    def variance_parts(self) -> dict[str, Tensor]:
        """Shared context and noise (see the base class)."""
        return {"shared_context": self.shared_variance, "noise": self.independent_variance}

    def quantile(self, q: float | Tensor, method: QuantileMethod = "step") -> Tensor:
        r"""Return the marginal quantile :math:`\mu + \Phi^{-1}(q)\sqrt{\|L\|^2+s^2}`."""
        return self._mean + torch.special.ndtri(self._level(q, self._mean)) * self.stddev

    def components(self) -> Components:
        """Return one normal, of the marginal variance (see the base class)."""
        location = self._mean.unsqueeze(-1)
        return Components(torch.zeros_like(location), location, self.stddev.unsqueeze(-1))

    def difference(self, other: RewardDistribution) -> RewardDifference:
        """Return the normal difference over contexts and noise (see the base class)."""
        location, scale = self._compare(other)
        zero = torch.zeros_like(location).unsqueeze(-1)
        return RewardDifference(zero, location.unsqueeze(-1), scale.unsqueeze(-1))

    def difference_parts(self, other: RewardDistribution) -> dict[str, Tensor]:
        r"""Return the shared context :math:`\|L_a-L_b\|^2` and noise :math:`s_a^2+s_b^2`."""
        other = self._same(other)
        noise = self.independent_variance + other.independent_variance
        shared = (self.loadings - other.loadings).square().sum(-1)
        return {"shared_context": shared, "noise": noise}

    def log_prob_greater(self, other: RewardDistribution) -> Tensor:
        """Return the log-probability, in nats, that a random annotator prefers this reward."""
        location, scale = self._compare(other)
        return log_ndtr(location / scale)

    def _compare(self, other: RewardDistribution) -> tuple[Tensor, Tensor]:
        other = self._same(other)
        noise = _hypot(self.independent_stddev, other.independent_stddev)
        scale = _total(noise, self.loadings - other.loadings)
        # without noise on either side, equal responses must tie instead of giving 0/0
        return self._mean - other._mean, scale.clamp(min=torch.finfo(scale.dtype).tiny)

    def given(self, location: Tensor, scale: Tensor | None = None) -> FactorReward:
        r"""Return rewards of annotators who are known in part, :math:`z \sim N(m, \tau^2)`.

        .. math:: \mu + L\cdot m + (L\circ\tau)\cdot z' + s\,\varepsilon, \qquad z' \sim N(0, I_F)

        Args:
            location: m, of a shape that broadcasts against ``batch_shape + (F,)``, no unit.
            scale: τ ≥ 0 of such a shape; None for 0, an annotator known exactly.

        Returns:
            A factor reward again, whose shared context is what is left open about them.
        """
        mean = self._mean + (self.loadings * location).sum(-1)
        spread = torch.zeros_like(location) if scale is None else scale
        loadings = (self.loadings * spread).expand(*mean.shape, self.num_factors)
        return type(self)(mean, loadings, self.independent_stddev.expand(mean.shape))

    def context_spread(self, other: RewardDistribution | None, scale: Tensor) -> Tensor:
        r"""Return the deviation that a context of variance :math:`\operatorname{diag}\tau^2` adds.

        .. math:: \|(L_a - L_b)\circ\tau\|

        Args:
            other: A factor reward whose batch shape broadcasts; None for this reward alone.
            scale: τ ≥ 0, broadcasting against ``batch_shape + (F,)``.

        Returns:
            In reward units, of the broadcast batch shape.
        """
        loadings = self.loadings
        if other is not None:
            loadings = loadings - self._same(other).loadings
        return torch.linalg.vector_norm(loadings * scale, dim=-1)

    def relative(
        self, dim: int = -1, *, baseline: int | None = None, noise: bool = False
    ) -> FactorReward:
        r"""Return rewards relative to the other candidates of a prompt, over contexts z.

        .. math:: u(x_i, z) - \tfrac1n\sum_j u(x_j, z)

        or minus the baseline's reward. The low quantile and the CVaR say how bad each response is
        for the people whom it serves worst. Comparisons identify relative rewards up to the unit.

        Args:
            dim: Batch dimension of the n candidates.
            baseline: Index of the candidate that all are compared with; None for their mean.
            noise: Whether the noise ε of the judgements is left in; it is their accident, not a
                need of the people served.

        Returns:
            Rewards of the same batch shape. With ``noise`` they have the right variance each, but
            refuse comparison: the noise they share would be counted twice.
        """
        dim = self._candidates(dim)
        independent = self.independent_variance
        if baseline is None:
            mean = self._mean - self._mean.mean(dim, keepdim=True)
            loadings = self.loadings - self.loadings.mean(dim, keepdim=True)
            count = self.batch_shape[dim]
            total = independent.sum(dim, keepdim=True) / count**2
            independent = independent * (1 - 2 / count) + total
        else:
            index = torch.tensor([baseline % self.batch_shape[dim]], device=self._mean.device)
            mean = self._mean - self._mean.index_select(dim, index)
            loadings = self.loadings - self.loadings.index_select(dim, index)
            independent = independent + independent.index_select(dim, index)
            independent = independent.index_fill(dim, index, 0.0)
        if not noise:
            return FactorReward(mean, loadings, torch.zeros_like(mean))
        return _NoisyRelativeReward(mean, loadings, independent.clamp(min=0).sqrt())

    def rsample(self, sample_shape: Any = (), context: Tensor | None = None) -> Tensor:
        """Draw rewards with gradient, of shape ``sample_shape + batch_shape``.

        Args:
            sample_shape: Shape of the draws.
            context: z of shape ``sample_shape + (F,)``; drawn if None. Each draw has one context
                for the whole batch, so that within a draw rewards are one annotator's.

        Returns:
            Rewards in reward units.
        """
        shape = Size(sample_shape)
        like = {"dtype": self._mean.dtype, "device": self._mean.device}
        if context is None:
            context = torch.randn((*shape, self.num_factors), **like)
        place = (*shape, *(1 for _ in self.batch_shape), self.num_factors)
        shared = (self.loadings * context.reshape(place)).sum(-1)
        noise = torch.randn(shape + self.batch_shape, **like)
        return self._mean + shared + self.independent_stddev * noise

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw rewards, one context for the whole batch (see ``rsample``)."""
        with torch.no_grad():
            return self.rsample(sample_shape)


class _NoisyRelativeReward(FactorReward):
    """Relative rewards with noise that they share in part."""

    def _same(self, other: RewardDistribution) -> NoReturn:
        raise self._refuse(
            "relative rewards with noise share part of the noise; compare the original rewards"
        )


def _total(stddev: Tensor, loadings: Tensor) -> Tensor:
    """Return the root of s² + ‖L‖²; without factors return s, whose gradient is exact."""
    if not loadings.shape[-1]:
        return stddev
    # unlike the root of a sum of squares, a norm has the gradient zero at zero
    return _hypot(stddev, torch.linalg.vector_norm(loadings, dim=-1))


def _hypot(x: Tensor, y: Tensor) -> Tensor:
    # torch's gradient at the origin is 0/0; like a norm's, it must be zero
    origin = (x == 0) & (y == 0)
    return torch.where(origin, 0.0, torch.hypot(torch.where(origin, 1.0, x), y))
