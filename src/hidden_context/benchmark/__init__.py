"""Public benchmarks of reward models, scored with a risk measure by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hidden_context.benchmark.config import BenchmarkConfig
from hidden_context.lazy import lazy_names

if TYPE_CHECKING:
    from hidden_context.benchmark.metrics import BenchmarkResult
    from hidden_context.benchmark.workflow import run

__all__ = ["BenchmarkConfig", "BenchmarkResult", "run"]

__getattr__ = lazy_names(__name__, {"BenchmarkResult": "metrics", "run": "workflow"})
