"""What fitting a model gives, whichever way it was fitted."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from torch import Tensor

from hidden_context.heads import Head
from hidden_context.models.head_file import RewardScale
from hidden_context.models.reward_model import RewardModel


def is_first_process() -> bool:
    """Whether this process writes and prints: of those a launcher started, the first one does."""
    return int(os.environ.get("RANK", "0")) == 0


@dataclasses.dataclass
class Fitted:
    """A fitted model and the record of its fit.

    Attributes:
        model: The trained reward model.
        metrics: Metrics on the test examples; empty where there are none.
        history: Log lines or epochs.
        examples: Number of examples used, by split.
        baselines: Metrics of baselines on the same features by name, and those of the ``probe``
            beside them; empty where there are none.
    """

    model: RewardModel
    metrics: dict[str, float]
    history: list[dict[str, Any]]
    examples: dict[str, int]
    baselines: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)


def reward_scale(head: Head, raw: Tensor) -> RewardScale:
    """Location and scale of mean rewards, from raw outputs of shape ``(N, K)``."""
    rewards = head.distribution(raw).mean
    return RewardScale(
        float(rewards.mean()), float(rewards.std(correction=0)), int(rewards.numel())
    )
