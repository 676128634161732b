"""The factor head: a normal reward with a context that the compared responses share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from hidden_context.distributions import FactorReward
from hidden_context.distributions.log_space import at_least_float32
from hidden_context.errors import ConfigError
from hidden_context.heads.base import SMALL_START, Head
from hidden_context.heads.mean_and_variance import STDDEV_FLOOR


@dataclass(frozen=True)
class FactorHead(Head):
    r"""Thurstone's model with a context that one annotator brings to both sides.

    .. math:: u(x, z) = \mu + L\cdot z + s\,\varepsilon, \qquad
        \mu = \text{raw}_0, \; L = \text{raw}_{1 \dots F}, \;
        s = \max(\operatorname{softplus}(\text{raw}_{F+1}), 10^{-6})

    With no factors it is the mean-and-variance head with the ``probit`` likelihood. Keep F small:
    with as many factors as responses to a prompt, L can imitate s.
    :class:`~hidden_context.distributions.FactorReward` explains what comparisons identify. Known
    annotators, or several labels per pair, identify L where single anonymous labels do not.

    Args:
        num_factors: F, at least 0.
        variance_penalty: λ of the training penalty on what comparisons see,
            :math:`\lambda\,\text{mean}(\|L_a-L_b\|^2+s_a^2+s_b^2)`.

    Raises:
        ConfigError: If the number of factors or the penalty is negative.
    """

    num_factors: int = 1
    variance_penalty: float = 0.0
    type: ClassVar[str] = "factor"
    mean_output = 0
    has_context = True

    def __post_init__(self) -> None:
        if self.num_factors < 0:
            raise ConfigError(f"num_factors is {self.num_factors}; it must be ≥ 0.")
        if not self.variance_penalty >= 0:
            raise ConfigError(f"variance_penalty is {self.variance_penalty}; it must be ≥ 0.")

    @property
    def num_outputs(self) -> int:
        """Mean, F loadings, and the noise's standard deviation before softplus."""
        return self.num_factors + 2

    @property
    def meaning(self) -> str:
        """Description of the raw outputs for readers."""
        return (
            f"mean, loadings on the annotator's context (num_factors {self.num_factors}), and "
            "standard deviation of the noise before softplus"
        )

    @property
    def output_scales(self) -> tuple[float, ...]:
        """Loadings start at full size, because equal loadings have no gradient."""
        return (SMALL_START, *(1.0 for _ in range(self.num_factors)), SMALL_START)

    @property
    def can_average(self) -> bool:
        """Whether networks may be averaged: not with factors, whose signs and axes differ."""
        return self.num_factors == 0

    @classmethod
    def options_for_width(cls, width: int) -> dict[str, Any]:
        """Return options with one factor for each output after the first two."""
        return {"num_factors": max(width - 2, 0)}

    def distribution(self, raw: Tensor) -> FactorReward:
        """Read raw ``(…, F + 2)`` as factor rewards of batch shape ``(…)``."""
        raw = at_least_float32(self._check(raw))
        stddev = functional.softplus(raw[..., -1]).clamp(min=STDDEV_FLOOR)
        return FactorReward(raw[..., 0], raw[..., 1:-1], stddev)

    def with_context_at(self, raw: Tensor, location: Tensor, scale: Tensor) -> Tensor:
        r"""Return raw outputs of the same rewards for contexts with another origin and unit.

        .. math:: \mu + L\cdot z + s\,\varepsilon = (\mu + L\cdot m) + (L\circ\tau)\cdot z'
            + s\,\varepsilon, \qquad z = m + \tau\circ z'

        Args:
            raw: Raw outputs ``(…, F + 2)``, or any tensor of that shape they are linear in.
            location: m, the new origin, of shape ``(F,)``.
            scale: τ > 0, the new unit, of shape ``(F,)``.

        Returns:
            Of the shape of ``raw``.
        """
        mean, loadings, noise = raw[..., :1], raw[..., 1:-1], raw[..., -1:]
        moved = mean + (loadings * location).sum(-1, keepdim=True)
        return torch.cat([moved, loadings * scale, noise], dim=-1)

    def penalty(self, raw_chosen: Tensor, raw_rejected: Tensor) -> Tensor:
        """Return the weighted mean variance of the differences, a scalar (see the class)."""
        if self.variance_penalty == 0:
            return super().penalty(raw_chosen, raw_rejected)
        chosen, rejected = self.distribution(raw_chosen), self.distribution(raw_rejected)
        parts = chosen.difference_parts(rejected)
        return self.variance_penalty * (parts["shared_context"] + parts["noise"]).mean()
