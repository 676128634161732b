"""The reward of an ensemble: its members' rewards, and how far they differ."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from hidden_context.distributions.base import Components, RewardDistribution
from hidden_context.distributions.components import ComponentReward
from hidden_context.distributions.difference import RewardDifference
from hidden_context.distributions.log_space import logsumexp
from hidden_context.errors import ConfigError


class EnsembleReward(ComponentReward):
    r"""Equal mixture of M members' rewards; their differences show the model's ignorance.

    .. math:: \operatorname{Var}[u] = \underbrace{\tfrac1M\sum_m \operatorname{Var}_m[u]}_{
        \text{shared context and noise}} + \underbrace{\operatorname{Var}_m\bigl[E_m[u]\bigr]}_{
        \text{ignorance}}

    Each member has its own unit of reward, which comparisons do not identify. Moments are therefore
    computed after all rewards are brought to one unit, :math:`(u_m - l_m)/c_m`. Comparisons do not
    depend on the unit: :math:`P(a \succ b)` is the mean of the members' probabilities.

    Args:
        members: The members' rewards; the last batch dimension is that of the M members.
        location: :math:`l_m` in each member's reward units, of shape ``(M,)``.
        scale: :math:`c_m > 0` in each member's reward units, of shape ``(M,)``.

    Raises:
        ConfigError: If the members are none, or the shapes do not fit.

    Source: law of total variance; Lakshminarayanan et al. (2017) for ensembles as mixtures.
    """

    _alike = ("num_members",)

    def __init__(self, members: RewardDistribution, location: Tensor, scale: Tensor) -> None:
        count = members.batch_shape[-1:].numel() if members.batch_shape else 0
        if not count or location.shape != (count,) or scale.shape != (count,):
            raise ConfigError(
                "an ensemble needs members in the last batch dimension, and a location and a scale "
                "for each."
            )
        self.members, self.location, self.scale = members, location, scale
        super().__init__(members.batch_shape[:-1])

    def _map_parameters(self, function: Callable[[Tensor], Tensor]) -> EnsembleReward:
        # the function knows only the batch, so it is applied to each member's parameters
        def each(parameter: Tensor) -> Tensor:
            place = len(self.batch_shape)
            return torch.stack([function(part) for part in parameter.unbind(place)], dim=-1)

        return EnsembleReward(self.members._map_parameters(each), self.location, self.scale)

    @property
    def num_members(self) -> int:
        """Number M of members."""
        return int(self.scale.numel())

    def components(self) -> Components:
        """Return all members' components in one unit (see the base class)."""
        parts = self.members.components()
        location = (parts.location - self.location.unsqueeze(-1)) / self.scale.unsqueeze(-1)
        scale = parts.scale / self.scale.unsqueeze(-1)
        log_weights = parts.log_weights - math.log(self.num_members)
        return Components(log_weights.flatten(-2), location.flatten(-2), scale.flatten(-2))

    @property
    def variance_parts(self) -> dict[str, Tensor]:
        """The members' mean parts, and ignorance (see the base class)."""
        means = (self.members.mean - self.location) / self.scale
        return self._with_ignorance(self.members.variance_parts, means)

    def difference_parts(self, other: RewardDistribution) -> dict[str, Tensor]:
        """Return the members' mean parts, and the variance of the members' mean differences."""
        members = self._same(other).members
        means = (self.members.mean - members.mean) / self.scale
        return self._with_ignorance(self.members.difference_parts(members), means)

    def _with_ignorance(self, parts: dict[str, Tensor], means: Tensor) -> dict[str, Tensor]:
        averaged = {name: (part / self.scale.square()).mean(-1) for name, part in parts.items()}
        return {**averaged, "ignorance": means.var(-1, correction=0)}

    def difference(self, other: RewardDistribution) -> RewardDifference:
        """Return the mixture of the members' differences in one unit (see the base class)."""
        each = self.members.difference(self._same(other).members)
        unit = self.scale.unsqueeze(-1)
        return RewardDifference(
            (each.log_weights - math.log(self.num_members)).flatten(-2),
            (each.location / unit).flatten(-2),
            (each.scale / unit).flatten(-2),
            each.kernel,
        )

    def log_prob_greater(self, other: RewardDistribution) -> Tensor:
        """Return the logarithm of the members' mean probability, in nats (see the base class)."""
        each = self.members.log_prob_greater(self._same(other).members)
        return logsumexp(each) - math.log(self.num_members)

    def relative(
        self, dim: int = -1, *, baseline: int | None = None, noise: bool = False
    ) -> EnsembleReward:
        """Return rewards relative to the other candidates, member by member (see ``FactorReward``).

        Raises:
            ConfigError: If the members' rewards have no shared context.
        """
        dim = self._candidates(dim)
        relative = self.members.relative(dim, baseline=baseline, noise=noise)
        return EnsembleReward(relative, torch.zeros_like(self.location), self.scale)

    def given(self, location: Tensor, scale: Tensor | None = None) -> EnsembleReward:
        """Return rewards of annotators who are known in part (see ``FactorReward``).

        Args:
            location: Each member's m, broadcasting against ``batch_shape + (M, F)``.
            scale: Each member's τ of such a shape; None for 0.
        """
        return EnsembleReward(self.members.given(location, scale), self.location, self.scale)
