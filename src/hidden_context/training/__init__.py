"""Training workflow: ``run(config)`` trains a reward model on preference data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hidden_context.training.config import TrainConfig

if TYPE_CHECKING:
    from hidden_context.training.workflow import TrainResult, run

__all__ = ["TrainConfig", "TrainResult", "run"]


def __getattr__(name: str) -> Any:
    if name in ("run", "TrainResult"):
        import importlib

        return getattr(importlib.import_module("hidden_context.training.workflow"), name)
    raise AttributeError(f"module 'hidden_context.training' has no attribute {name!r}")
