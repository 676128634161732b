"""Benchmarks by name: add a benchmark's class here and the command knows it."""

from __future__ import annotations

from typing import Final

from hidden_context.benchmark.base import Benchmark
from hidden_context.benchmark.judge_bench import JudgeBench
from hidden_context.benchmark.reward_bench_2 import RewardBench2
from hidden_context.benchmark.rm_bench import RMBench
from hidden_context.errors import ConfigError

_CLASSES: Final[dict[str, type[Benchmark]]] = {
    each.name: each for each in (RewardBench2, RMBench, JudgeBench)
}


def names() -> tuple[str, ...]:
    """Names of the benchmarks.

    >>> names()
    ('reward_bench_2', 'rm_bench', 'judge_bench')
    """
    return tuple(_CLASSES)


def make(name: str) -> Benchmark:
    """Make a benchmark by its name.

    Raises:
        ConfigError: If there is none of that name.
    """
    if name not in _CLASSES:
        raise ConfigError(f"there is no benchmark {name!r}; choose one of {', '.join(_CLASSES)}.")
    return _CLASSES[name]()
