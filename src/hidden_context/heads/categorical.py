"""The categorical head: probabilities on a grid of rewards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from hidden_context.distributions import CategoricalReward
from hidden_context.errors import ConfigError
from hidden_context.heads.base import Head


@dataclass(frozen=True)
class CategoricalHead(Head):
    r"""Softmax probabilities on atoms evenly spaced from 0 to 1.

    Args:
        num_atoms: Number K of atoms, at least 2.
        entropy_coeff: κ of the training penalty :math:`\kappa \sum_i \bar p_i \log \bar p_i`, with
            :math:`\bar p` the mean distribution over the batch, both sides. It is the negative
            entropy of the batch's mean, so it spreads rewards over the atoms without blurring any
            single one, and it belongs to a batch: micro-batches of gradient accumulation each have
            their own.

    Raises:
        ConfigError: If there are fewer than two atoms or the coefficient is negative.

    Source: DPL paper (arXiv 2312.08358), section 4 and appendix B.
    """

    num_atoms: int = 10
    entropy_coeff: float = 0.1
    type: ClassVar[str] = "categorical"
    meaning = "logits of the probabilities of rewards evenly spaced from 0 to 1"

    def __post_init__(self) -> None:
        if self.num_atoms < 2:
            raise ConfigError(f"num_atoms is {self.num_atoms}; at least 2 are needed.")
        if not self.entropy_coeff >= 0:
            raise ConfigError(f"entropy_coeff is {self.entropy_coeff}; it must be ≥ 0.")

    @property
    def num_outputs(self) -> int:
        """One logit per atom."""
        return self.num_atoms

    @classmethod
    def options_for_width(cls, width: int) -> dict[str, Any]:
        """Return the options of a head with one output per atom."""
        return {"num_atoms": max(width, 2)}

    def distribution(self, raw: Tensor) -> CategoricalReward:
        """Read raw ``(…, K)`` as logits of rewards of batch shape ``(…)``."""
        return CategoricalReward(self._check(raw))

    def penalty(self, raw_chosen: Tensor, raw_rejected: Tensor) -> Tensor:
        """Return the weighted negative entropy of the batch's mean distribution (see the class)."""
        if self.entropy_coeff == 0:
            return super().penalty(raw_chosen, raw_rejected)
        sides = torch.stack([raw_chosen, raw_rejected])
        log_probs = self.distribution(sides).log_probs.flatten(0, -2)
        log_count = torch.log(log_probs.new_tensor(float(log_probs.shape[0])))
        log_mean = torch.logsumexp(log_probs, dim=0) - log_count
        return self.entropy_coeff * (log_mean.exp() * log_mean).sum()
