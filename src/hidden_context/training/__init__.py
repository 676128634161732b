"""Training workflow: ``run(config)`` trains a reward model on preference data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hidden_context.lazy import lazy_names
from hidden_context.training.config import TrainConfig

if TYPE_CHECKING:
    from hidden_context.training.workflow import TrainResult, run

__all__ = ["TrainConfig", "TrainResult", "run"]

__getattr__ = lazy_names(__name__, dict.fromkeys(["TrainResult", "run"], "workflow"))
