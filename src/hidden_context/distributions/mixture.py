"""The mixture reward: several modes of opinion."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hidden_context.distributions.base import Components, RewardDistribution
from hidden_context.distributions.components import ComponentReward
from hidden_context.distributions.difference import RewardDifference
from hidden_context.distributions.log_space import at_least_float32, log_ndtr, logsumexp
from hidden_context.errors import ConfigError


class MixtureReward(ComponentReward):
    r"""A mixture of M normals, drawn independently for each side of a comparison.

    .. math:: P(a \succ b) = \sum_{ij} w_i w_j\,
        \Phi\bigl((\mu_{ai}-\mu_{bj})/\sqrt{\sigma_{ai}^2+\sigma_{bj}^2}\bigr)

    Args:
        logits: Unnormalised log-weights of shape ``batch_shape + (M,)``.
        means: Means in reward units, of that shape.
        stddevs: Positive standard deviations in reward units, of that shape.

    Raises:
        ConfigError: If the shapes differ or there is no component.
    """

    def __init__(self, logits: Tensor, means: Tensor, stddevs: Tensor) -> None:
        fits = logits.shape == means.shape == stddevs.shape and logits.dim() > 0
        if not fits or not logits.shape[-1]:
            raise ConfigError(
                "weights, means and standard deviations of the same M ≥ 1 components are needed."
            )
        self.log_weights = torch.log_softmax(at_least_float32(logits), dim=-1)
        self.means, self.stddevs = at_least_float32(means), at_least_float32(stddevs)
        super().__init__(self.means.shape[:-1])

    def _map_parameters(self, function: Callable[[Tensor], Tensor]) -> MixtureReward:
        parts = (self.log_weights, self.means, self.stddevs)
        return MixtureReward(*(self._by_column(function, part) for part in parts))

    @property
    def num_components(self) -> int:
        """Number M of components."""
        return int(self.means.shape[-1])

    def components(self) -> Components:
        """Return the components themselves (see the base class)."""
        return Components(self.log_weights, self.means, self.stddevs)

    def difference(self, other: RewardDistribution) -> RewardDifference:
        """Return the mixture over all M² pairs of components (see the base class)."""
        log_weights, location, scale = (part.flatten(-2) for part in self._pairs(other))
        return RewardDifference(log_weights, location, scale)

    def log_prob_greater(self, other: RewardDistribution) -> Tensor:
        """Return the log-probability of being preferred, in nats (see the base class)."""
        log_weights, location, scale = self._pairs(other)
        return logsumexp(log_weights + log_ndtr(location / scale), dim=(-2, -1))

    def _pairs(self, other: RewardDistribution) -> tuple[Tensor, Tensor, Tensor]:
        """Return joint log-weights, differences and scales, each ``batch_shape + (M, M)``."""
        other = self._same(other)
        log_weights = self.log_weights.unsqueeze(-1) + other.log_weights.unsqueeze(-2)
        location = self.means.unsqueeze(-1) - other.means.unsqueeze(-2)
        scale = torch.hypot(self.stddevs.unsqueeze(-1), other.stddevs.unsqueeze(-2))
        return log_weights, location, scale
