"""Scoring and evaluating files: streaming, in input order, and resumable."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hidden_context.scoring.config import EvaluateConfig, ScoreConfig

if TYPE_CHECKING:
    from hidden_context.scoring.evaluation import EvaluationResult, evaluate
    from hidden_context.scoring.files import ScoreResult, score_file

_HOMES = {
    "EvaluationResult": "evaluation",
    "evaluate": "evaluation",
    "ScoreResult": "files",
    "score_file": "files",
}

__all__ = [
    "EvaluateConfig",
    "EvaluationResult",
    "ScoreConfig",
    "ScoreResult",
    "evaluate",
    "score_file",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
