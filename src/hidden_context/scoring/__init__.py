"""Scoring and evaluating files: streaming, in input order, and resumable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hidden_context.lazy import lazy_names
from hidden_context.scoring.config import EvaluateConfig, ScoreConfig

if TYPE_CHECKING:
    from hidden_context.scoring.evaluation import EvaluationResult, evaluate
    from hidden_context.scoring.files import ScoreResult, score_file

__all__ = [
    "EvaluateConfig",
    "EvaluationResult",
    "ScoreConfig",
    "ScoreResult",
    "evaluate",
    "score_file",
]

__getattr__ = lazy_names(
    __name__,
    dict.fromkeys(["EvaluationResult", "evaluate"], "evaluation")
    | dict.fromkeys(["ScoreResult", "score_file"], "files"),
)
