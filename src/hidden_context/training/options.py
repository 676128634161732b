"""Options of the training loop, as small values passed whole."""

from __future__ import annotations

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class EngineOptions:
    """How a step's examples are run.

    Attributes:
        engine: ``tree``, ``padded``, or ``auto`` for the tree where it is right for the model.
        tokens_per_batch: Most tokens of a forward pass; None leaves it to the device.
        length_window: Steps whose examples are sorted by length together.
        pad_to_multiple_of: Padded lengths are rounded up to a multiple of this.
    """

    engine: Literal["auto", "tree", "padded"] = "auto"
    tokens_per_batch: int | None = None
    length_window: int = 50
    pad_to_multiple_of: int = 1


@dataclasses.dataclass(frozen=True)
class LoopOptions:
    """What Transformers' arguments do not say.

    Attributes:
        engine: How a step's examples are run.
        schedule: ``cosine`` or ``step`` for the paper's schedules; others are Transformers' own.
        likelihood_learning_rate: Peak rate of what is learned beside the network.
        prior_warmup: Share of training over which the annotators' prior sets in.
        num_weights: Weights of the network beside its embeddings, to count operations by.
        checkpoints_activations: Whether layers run again in the backward pass to save memory.
    """

    engine: EngineOptions = EngineOptions()
    schedule: str = "cosine"
    likelihood_learning_rate: float = 0.02
    prior_warmup: float = 0.25
    num_weights: int = 0
    checkpoints_activations: bool = False
