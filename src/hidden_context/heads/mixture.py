"""The mixture head: several modes of opinion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from hidden_context.distributions import MixtureReward
from hidden_context.distributions.log_space import at_least_float32
from hidden_context.errors import ConfigError
from hidden_context.heads.base import Head, LinearMean
from hidden_context.heads.mean_and_variance import STDDEV_FLOOR


@dataclass(frozen=True)
class MixtureHead(Head):
    r"""A mixture of M normals per text.

    .. math:: w = \operatorname{softmax}(\text{raw}_{0 \dots M-1}), \;
        \mu_m = \text{raw}_{M+m} + \Phi^{-1}\bigl((m+\tfrac12)/M\bigr), \;
        \sigma_m = \max(\operatorname{softplus}(\text{raw}_{2M+m}), 10^{-6})

    The fixed offsets spread the components at the start; equal components would stay equal forever.
    With one component it is the mean-and-variance head with the ``probit`` likelihood.

    Args:
        num_components: M, at least 1.

    Raises:
        ConfigError: If there is no component.
    """

    num_components: int = 3
    type: ClassVar[str] = "mixture"

    def __post_init__(self) -> None:
        if self.num_components < 1:
            raise ConfigError(f"num_components is {self.num_components}; at least 1 is needed.")

    @property
    def num_outputs(self) -> int:
        """A logit, a mean and a standard deviation before softplus per component."""
        return 3 * self.num_components

    @property
    def meaning(self) -> str:
        """Description of the raw outputs for readers."""
        return (
            f"logits, means and standard deviations before softplus of {self.num_components} "
            "normal components"
        )

    @property
    def can_average(self) -> bool:
        """Whether networks may be averaged: not with several components, whose order differs."""
        return self.num_components == 1

    @classmethod
    def options_for_width(cls, width: int) -> dict[str, Any]:
        """Return options with one component for every three outputs."""
        return {"num_components": max(width // 3, 1)}

    @property
    def linear_mean(self) -> LinearMean | None:
        """The mean of a single component; with several it is not linear."""
        return LinearMean.output(1, 3) if self.num_components == 1 else None

    def distribution(self, raw: Tensor) -> MixtureReward:
        """Read raw ``(…, 3 M)`` as mixture rewards of batch shape ``(…)``."""
        logits, means, scales = at_least_float32(self._check(raw)).chunk(3, dim=-1)
        count = self.num_components
        levels = (torch.arange(count, dtype=means.dtype, device=means.device) + 0.5) / count
        stddevs = functional.softplus(scales).clamp(min=STDDEV_FLOOR)
        return MixtureReward(logits, means + torch.special.ndtri(levels), stddevs)
