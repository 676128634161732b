"""The quantile head: equally likely atoms that cannot cross."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from hidden_context.distributions import QuantileReward
from hidden_context.distributions.log_space import at_least_float32
from hidden_context.errors import ConfigError
from hidden_context.heads.base import Head


@dataclass(frozen=True)
class QuantileHead(Head):
    r"""N equally likely atoms per text, in ascending order by construction.

    .. math:: \theta_{i+1} - \theta_i = \operatorname{softplus}(\text{raw}_i)
        \bigl(\Phi^{-1}(\tau_{i+1}) - \Phi^{-1}(\tau_i)\bigr), \quad \tau_i = (i-\tfrac12)/N, \quad
        \tfrac1N\sum_i\theta_i = \text{raw}_0

    With equal raw gaps, the atoms are the quantiles of a normal of standard deviation
    softplus(raw₁). Training starts from this normal and bends it where the data need another shape.

    Args:
        num_atoms: N, at least 1.
        smoothing: h of the comparison, in reward units (see
            :class:`~hidden_context.distributions.QuantileReward`).

    Raises:
        ConfigError: If there is no atom, or the smoothing is not positive.
    """

    num_atoms: int = 10
    smoothing: float = 0.2
    type: ClassVar[str] = "quantile"
    mean_output = 0

    def __post_init__(self) -> None:
        if self.num_atoms < 1:
            raise ConfigError(f"num_atoms is {self.num_atoms}; at least 1 is needed.")
        if not 0 < self.smoothing < float("inf"):
            raise ConfigError(f"smoothing is {self.smoothing}; it must be positive.")

    @property
    def num_outputs(self) -> int:
        """The mean, and N − 1 gaps before softplus."""
        return self.num_atoms

    @property
    def meaning(self) -> str:
        """Description of the raw outputs for readers."""
        return f"mean, and gaps between {self.num_atoms} equally likely rewards before softplus"

    @classmethod
    def options_for_width(cls, width: int) -> dict[str, Any]:
        """Return options with one atom per output."""
        return {"num_atoms": max(width, 1)}

    def distribution(self, raw: Tensor) -> QuantileReward:
        """Read raw ``(…, N)`` as quantile rewards of batch shape ``(…)``."""
        raw = at_least_float32(self._check(raw))
        count = self.num_atoms
        levels = (torch.arange(count, dtype=raw.dtype, device=raw.device) + 0.5) / count
        steps = torch.special.ndtri(levels).diff()
        gaps = functional.softplus(raw[..., 1:]) * steps
        atoms = functional.pad(gaps, (1, 0)).cumsum(-1)
        atoms = atoms - atoms.mean(-1, keepdim=True) + raw[..., :1]
        # centring rounds: where gaps are too small for the dtype, equal atoms must not cross
        return QuantileReward(atoms.cummax(-1).values, self.smoothing)
