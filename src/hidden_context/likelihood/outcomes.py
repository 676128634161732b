"""From comparisons to intervals of the reward difference: preferences, ties, strengths, margins."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from hidden_context.errors import ConfigError
from hidden_context.likelihood.labels import Comparisons

LEVELS: Final = (2, 3, 5, 7)
_FIRST_GAP: Final = 0.25


class Intervals(NamedTuple):
    r"""Intervals of the difference D, one for each of C comparisons.

    Attributes:
        lower: In reward units, of shape ``(C,)``; may be −∞.
        upper: Above it, of that shape; may be ∞.
        weight: Share w of votes that said so, of shape ``(C,)``; the others said the mirror image,
            :math:`-r < D \le -l`.
    """

    lower: Tensor
    upper: Tensor
    weight: Tensor


class Outcomes(nn.Module):
    r"""The answers an annotator can give, as intervals between learned thresholds.

    With 2 levels the first response is better, D > 0. With 3 there are ties (Thurstone with a
    learned indifference threshold δ),

    .. math:: P(a \succ b) = P(D > \delta), \qquad P(\text{tie}) = P(-\delta < D \le \delta)

    and with 5 or 7 levels strengths (ordinal probit with symmetric thresholds
    :math:`0 < \tau_1 < \tau_2 < \dots`),

    .. math:: P(\text{strength } k) = P(\tau_k < D \le \tau_{k+1}), \qquad
        P(\text{strength } 0) = P(-\tau_1 < D \le \tau_1)

    Thresholds are in reward units. A label without a strength is D > 0, or D > δ where ties have a
    separate answer.

    Args:
        levels: 2, 3, 5 or 7.
        margin_scale: Reward units per unit of a label's margin, with 2 levels only: D > margin, or
            −D > −margin for the second side. At 0 margins play no part; TRL's convention is 1.

    Raises:
        ConfigError: If the levels are others, or margins are to be used with more than 2.

    Source: Glenn and David (1960) for ties; McCullagh (1980) for ordinal thresholds.
    """

    def __init__(self, levels: int = 2, margin_scale: float = 0.0) -> None:
        super().__init__()
        if levels not in LEVELS:
            raise ConfigError(f"labels have 2, 3, 5 or 7 levels, not {levels}.")
        if not 0 <= margin_scale < math.inf or (margin_scale and levels > 2):
            raise ConfigError(
                f"margin_scale is {margin_scale}; it must be ≥ 0, and 0 with more than 2 levels."
            )
        self.levels, self.margin_scale = levels, margin_scale
        if levels > 2:
            start = math.log(math.expm1(_FIRST_GAP))
            self.raw_gaps = nn.Parameter(torch.full(((levels - 1) // 2,), start))

    @property
    def are_sides_alone(self) -> bool:
        """Whether an answer only names a side: no thresholds, no margins."""
        return self.levels == 2 and not self.margin_scale

    @property
    def thresholds(self) -> Tensor:
        """Positive thresholds in ascending order, of shape ``((levels − 1) / 2,)``."""
        if self.levels == 2:
            return torch.zeros(0)
        return functional.softplus(self.raw_gaps).cumsum(-1)

    def intervals(self, comparisons: Comparisons) -> Intervals:
        """Read comparisons as intervals of the difference.

        Args:
            comparisons: C comparisons.

        Returns:
            Intervals of shape ``(C,)``.

        Raises:
            ConfigError: If a strength is beyond 5 or 7 levels; of 3 it is the sign that counts.
        """
        if self.levels == 2:
            lower = self.margin_scale * comparisons.margin.abs()  # the better side's, either way
            return Intervals(lower, torch.full_like(lower, math.inf), comparisons.preference)
        step, weight = self._steps(comparisons)
        inner = self.thresholds
        infinite = torch.full_like(inner[:1], math.inf)
        # one entry for each strength from 0 up, and a last one for a bare preference
        lower = torch.cat([-inner[:1], inner, torch.zeros_like(inner[:1])])
        upper = torch.cat([inner, infinite, infinite])
        return Intervals(lower[step], upper[step], weight)

    def _steps(self, said: Comparisons) -> tuple[Tensor, Tensor]:
        """Return each label's place among the intervals, and the share of votes for it."""
        top = (self.levels - 1) // 2
        has_strength = ~said.strength.isnan()
        strength = torch.where(has_strength, said.strength, 0.0)
        decided = has_strength & (strength != 0)
        weight = torch.where(decided, (strength > 0).to(said.preference), said.preference)
        if self.levels == 3:
            tie = torch.where(has_strength, strength == 0, said.preference == 0.5)
            return (~tie).long(), weight
        if bool((strength.abs() > top).any()):
            raise ConfigError(
                f"a label has strength {strength[strength.abs() > top][0]:g}, but labels of "
                f"{self.levels} levels have strengths from {-top} to {top}."
            )
        return torch.where(has_strength, strength.abs().long(), top + 1), weight
