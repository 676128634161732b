"""From raw reward outputs on disk to the numbers people quote: r², jailbreak rate, accuracy."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hidden_context.analysis.config import AnalyzeConfig, SummarizeConfig
    from hidden_context.analysis.results import Analysis
    from hidden_context.analysis.score_files import ScoreFile, read_score_file
    from hidden_context.analysis.summary import Summary

_HOMES = {
    "AnalyzeConfig": "config",
    "SummarizeConfig": "config",
    "Analysis": "results",
    "ScoreFile": "score_files",
    "read_score_file": "score_files",
    "Summary": "summary",
}

__all__ = [
    "Analysis",
    "AnalyzeConfig",
    "ScoreFile",
    "SummarizeConfig",
    "Summary",
    "read_score_file",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
