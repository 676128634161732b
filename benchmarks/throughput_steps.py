"""A clock that runs along with optimiser steps, and what it shows at the end."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

import torch
from throughput_measure import synchronize
from transformers import TrainerCallback


@dataclasses.dataclass
class Run:
    """What came of a training run.

    Attributes:
        seconds: Seconds of its steps.
        losses: Loss of each step, in nats.
        budget: Tokens of a pass at the end, for our own loop.
    """

    seconds: float
    losses: list[float]
    budget: int | None = None


class StepClock(TrainerCallback):
    """Times the steps and keeps the losses that are logged."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.started: float | None = None
        self.ended = 0.0
        self.losses: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock at the first step."""
        if self.started is None:
            synchronize(self.device)
            self.started = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Take the time, in case this is the last step."""
        synchronize(self.device)
        self.ended = time.perf_counter()

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **_: Any
    ) -> None:
        """Keep the loss."""
        if logs and "loss" in logs:
            self.losses.append(float(logs["loss"]))

    def run(self) -> Run:
        """Return what was measured."""
        assert self.started is not None
        return Run(self.ended - self.started, self.losses)
