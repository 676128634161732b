"""The quantile reward: N equally likely atoms anywhere on the line."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from hidden_context.distributions.base import Components, QuantileMethod, RewardDistribution
from hidden_context.distributions.components import ComponentReward
from hidden_context.distributions.difference import RewardDifference
from hidden_context.distributions.log_space import at_least_float32, log_ndtr, logsumexp
from hidden_context.errors import ConfigError


class QuantileReward(ComponentReward):
    r"""N equally likely atoms in ascending order, the i-th standing for the level (i−½)/N.

    .. math:: P(a \succ b) = \frac1{N^2}\sum_{ij} \Phi\bigl((\theta_{ai}-\theta_{bj})/h\bigr)

    The smoothing h gives comparisons a gradient: it is the noise, in reward units, of telling two
    atoms apart, and it sets the unit. As h → 0 the probability tends to the exact share of pairs of
    atoms in that order, ties counted half. Moments, quantiles and risks are those of the atoms
    themselves.

    Args:
        atoms: Rewards of shape ``batch_shape + (N,)``, ascending.
        smoothing: h > 0 in reward units.

    Raises:
        ConfigError: If there is no atom or the smoothing is not positive.

    Source: quantile regression of Dabney et al. (2018), fitted here to comparisons.
    """

    _alike = ("num_atoms", "smoothing")

    def __init__(self, atoms: Tensor, smoothing: float) -> None:
        if atoms.dim() == 0 or atoms.shape[-1] < 1:
            raise ConfigError("a quantile reward needs at least one atom.")
        if not 0 < smoothing < math.inf:
            raise ConfigError(f"smoothing is {smoothing}; it must be positive.")
        self.atoms, self.smoothing = at_least_float32(atoms), smoothing
        super().__init__(self.atoms.shape[:-1])

    def _map_parameters(self, function: Callable[[Tensor], Tensor]) -> QuantileReward:
        return QuantileReward(self._by_column(function, self.atoms), self.smoothing)

    @property
    def num_atoms(self) -> int:
        """Number N of atoms."""
        return int(self.atoms.shape[-1])

    def components(self) -> Components:
        """Return one point per atom (see the base class)."""
        zero = torch.zeros_like(self.atoms)
        return Components(zero - math.log(self.num_atoms), self.atoms, zero)

    def quantile(self, q: float | Tensor, method: QuantileMethod = "step") -> Tensor:
        """Return the smallest atom x with F(x) ≥ q, or interpolate between the atoms' levels.

        Args:
            q: Level in (0, 1), a number or a tensor that broadcasts against ``batch_shape``.
            method: ``"step"``, or ``"bins"`` for the linear reading.

        Returns:
            Rewards, of the broadcast shape.
        """
        level = self._level(q, self.atoms)
        shape = torch.broadcast_shapes(level.shape, self.batch_shape)
        atoms = self.atoms.expand(*shape, self.num_atoms)
        place = level.expand(shape) * self.num_atoms
        if method == "step":
            tolerance = 8 * torch.finfo(place.dtype).eps * self.num_atoms
            index = (torch.ceil(place - tolerance).long() - 1).clamp(0, self.num_atoms - 1)
            return atoms.gather(-1, index.unsqueeze(-1)).squeeze(-1)
        if method == "bins":
            place = (place - 0.5).clamp(0, self.num_atoms - 1)
            below = place.floor().long().clamp(max=max(self.num_atoms - 2, 0))
            above = (below + 1).clamp(max=self.num_atoms - 1)
            low, high = (atoms.gather(-1, i.unsqueeze(-1)).squeeze(-1) for i in (below, above))
            return low + (place - below) * (high - low)
        raise ConfigError(f"quantile method {method!r} is not known; choose step or bins.")

    def difference(self, other: RewardDistribution) -> RewardDifference:
        """Return the mixture over all N² pairs of atoms (see the base class)."""
        location = self._pairs(other).flatten(-2)
        log_weights = torch.full_like(location, -2 * math.log(self.num_atoms))
        return RewardDifference(log_weights, location, torch.full_like(location, self.smoothing))

    def log_prob_greater(self, other: RewardDistribution) -> Tensor:
        """Return the log-probability of being preferred, smoothed (see the class), in nats."""
        log_probs = log_ndtr(self._pairs(other) / self.smoothing)
        return logsumexp(log_probs, dim=(-2, -1)) - 2 * math.log(self.num_atoms)

    def _pairs(self, other: RewardDistribution) -> Tensor:
        return self.atoms.unsqueeze(-1) - self._same(other).atoms.unsqueeze(-2)
