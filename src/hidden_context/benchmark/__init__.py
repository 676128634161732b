"""Public benchmarks of reward models, scored with a risk measure by name."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hidden_context.benchmark.config import BenchmarkConfig

if TYPE_CHECKING:
    from hidden_context.benchmark.results import BenchmarkResult
    from hidden_context.benchmark.workflow import run

_HOMES = {"BenchmarkResult": "results", "run": "workflow"}

__all__ = ["BenchmarkConfig", "BenchmarkResult", "run"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
