"""The ordinary reward head: one number per text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from hidden_context.distributions import PointMassReward
from hidden_context.heads.base import Head


@dataclass(frozen=True)
class ScalarHead(Head):
    r"""One reward per text, compared by Bradley-Terry-Luce.

    .. math:: P(a \succ b) = \operatorname{sigmoid}(r_a - r_b), \qquad r = \text{raw}_0

    Source: DPL paper (arXiv 2312.08358), equation 1; the type's name there is ``base``.
    """

    type: ClassVar[str] = "base"
    mean_output = 0
    num_outputs = 1
    meaning = "one reward per text; P(a preferred to b) = sigmoid(r_a - r_b)"

    def distribution(self, raw: Tensor) -> PointMassReward:
        """Read raw ``(…, 1)`` as point masses of batch shape ``(…)``."""
        return PointMassReward(self._check(raw).squeeze(-1))
