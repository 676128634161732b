"""The categorical reward distribution on a grid of atoms between 0 and 1."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from hidden_context.distributions.base import Components, QuantileMethod, RewardDistribution
from hidden_context.distributions.components import ComponentReward
from hidden_context.distributions.difference import RewardDifference
from hidden_context.distributions.log_space import at_least_float32
from hidden_context.errors import ConfigError

_LOG_HALF: Final = math.log(0.5)


class CategoricalReward(ComponentReward):
    r"""Probabilities on K atoms, evenly spaced from 0 to 1.

    .. math:: P(a \succ b) = \sum_{i>j} p_a(i)\,p_b(j) + \tfrac12 \sum_i p_a(i)\,p_b(i)

    computed by logsumexp over cumulative log-probabilities, so that it stays finite where single
    atoms have probability e^−100.

    Args:
        logits: Unnormalised log-probabilities of shape ``batch_shape + (K,)``, K at least 2.

    Raises:
        ConfigError: If there are fewer than two atoms.

    Source: DPL paper (arXiv 2312.08358), section 4, categorical model.
    """

    _alike = ("num_atoms",)

    def __init__(self, logits: Tensor) -> None:
        if logits.dim() == 0 or logits.shape[-1] < 2:
            raise ConfigError("a categorical reward needs at least two atoms.")
        self.log_probs = torch.log_softmax(at_least_float32(logits), dim=-1)
        super().__init__(self.log_probs.shape[:-1])

    def _map_parameters(self, function: Callable[[Tensor], Tensor]) -> CategoricalReward:
        return CategoricalReward(self._by_column(function, self.log_probs))

    @property
    def num_atoms(self) -> int:
        """Number of atoms K."""
        return int(self.log_probs.shape[-1])

    @property
    def atoms(self) -> Tensor:
        """Rewards of the atoms, of shape ``(K,)``."""
        return torch.linspace(
            0, 1, self.num_atoms, dtype=self.log_probs.dtype, device=self.log_probs.device
        )

    @property
    def probs(self) -> Tensor:
        """Probabilities of the atoms, of shape ``batch_shape + (K,)``."""
        return self.log_probs.exp()

    def quantile(self, q: float | Tensor, method: QuantileMethod = "step") -> Tensor:
        r"""Return the quantile in one of two readings of the same probabilities.

        ``"step"``: the smallest atom x with F(x) ≥ q, F compared to within eight units of rounding.
        ``"bins"``: the paper's reading as K bins of width 1/K on [0, 1], linear inside a bin: with
        c the cumulative probabilities and i the first bin with :math:`c_{i+1} \ge q`,
        :math:`(i + (q - c_i)/(c_{i+1} - c_i))/K`.

        Args:
            q: Level in (0, 1), a number or a tensor that broadcasts against ``batch_shape``.
            method: ``"step"`` or ``"bins"``.

        Returns:
            Rewards, of the broadcast shape.
        """
        level = self._level(q, self.log_probs).unsqueeze(-1)
        probs = self.probs
        cumulative = probs.cumsum(-1)
        if method == "step":
            tolerance = 8 * torch.finfo(cumulative.dtype).eps
            index = (cumulative < level - tolerance).sum(-1).clamp(max=self.num_atoms - 1)
            return self.atoms[index]
        if method == "bins":
            shape = torch.broadcast_shapes(cumulative.shape, (*level.shape[:-1], 1))
            cumulative, probs = cumulative.expand(shape), probs.expand(shape)
            index = (cumulative < level).sum(-1, keepdim=True).clamp(max=self.num_atoms - 1)
            width = probs.gather(-1, index)
            inside = (level - (cumulative.gather(-1, index) - width)) / width
            return ((index + inside.clamp(0, 1)) / self.num_atoms).squeeze(-1)
        raise ConfigError(f"quantile method {method!r} is not known; choose step or bins.")

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability of rewards that are atoms, in nats; −inf elsewhere."""
        value = torch.as_tensor(value).to(self.log_probs)
        matches = torch.isclose(value.unsqueeze(-1), self.atoms, rtol=0, atol=1e-6)
        return self.log_probs.masked_fill(~matches, -torch.inf).amax(-1)

    def cvar(self, alpha: float) -> Tensor:
        r"""Return the mean of the worst share.

        .. math:: \tfrac1\alpha \sum_i x_i \min(p_i, \max(\alpha - F_{i-1}, 0))

        which is :math:`\tfrac1\alpha[\sum_{x<q} p(x)\,x + q\,(\alpha - P(X<q))]`.
        """
        self._check_share(alpha)
        probs = self.probs
        remaining = (alpha - (probs.cumsum(-1) - probs)).clamp(min=0)
        return (self.atoms * torch.minimum(probs, remaining)).sum(-1) / alpha

    def entropic(self, theta: float) -> Tensor:
        """Return the entropic risk over the atoms, exact at small and large aversion."""
        self._check_aversion(theta)
        if theta <= 1:  # logsumexp would lose a small difference from log 1
            return -torch.log1p((self.probs * torch.expm1(-theta * self.atoms)).sum(-1)) / theta
        return -torch.logsumexp(self.log_probs - theta * self.atoms, dim=-1) / theta

    def log_prob_greater(self, other: RewardDistribution) -> Tensor:
        """Return the log-probability of being preferred, ties counted half (see the base class)."""
        other = self._same(other)
        # log of P(other < atom i) + P(other = atom i)/2 = (F_{i-1} + F_i)/2
        cumulative = torch.logcumsumexp(other.log_probs, dim=-1)
        first = other.log_probs[..., :1]
        below = torch.logaddexp(cumulative[..., :-1], cumulative[..., 1:])
        log_middle_cdf = torch.cat([first, below], dim=-1) + _LOG_HALF
        return torch.logsumexp(self.log_probs + log_middle_cdf, dim=-1)

    def difference(self, other: RewardDistribution) -> RewardDifference:
        r"""Return the difference on a grid, each atom spread evenly over one spacing 1/(K−1).

        So P(D > 0) counts ties half, as ``log_prob_greater`` does, and thresholds between atoms
        have a gradient.
        """
        other = self._same(other)
        joint = self.log_probs.unsqueeze(-1) + other.log_probs.unsqueeze(-2)
        count = self.num_atoms
        diagonals = [
            torch.logsumexp(joint.diagonal(-shift, -2, -1), dim=-1)
            for shift in range(1 - count, count)
        ]
        spacing = 1 / (count - 1)
        location = torch.arange(1 - count, count).to(self.log_probs) * spacing
        half = torch.full_like(location, spacing / 2)
        return RewardDifference(torch.stack(diagonals, dim=-1), location, half, "uniform")

    def components(self) -> Components:
        """Return one point per atom (see the base class)."""
        location = self.atoms.expand_as(self.log_probs)
        return Components(self.log_probs, location, torch.zeros_like(location))
