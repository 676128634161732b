"""From scores to a benchmark's metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch

from hidden_context.analysis.benchmark_accuracy import section_accuracies
from hidden_context.analysis.benchmark_files import section_scores
from hidden_context.benchmark.base import Benchmark, Floats
from hidden_context.benchmark.results import MeasureResult, Spread
from hidden_context.benchmark.scored import ScoredRow
from hidden_context.likelihood import Likelihood
from hidden_context.scoring.columns import People, rewards_of_people

_ALL: Final = "all"


def measure_result(
    benchmark: Benchmark, rows: Sequence[ScoredRow], measure: str, file: str, seed: int
) -> MeasureResult:
    """Compute the metrics of one model's scores by one risk measure.

    Args:
        benchmark: The benchmark.
        rows: All rows; those without a score for every answer count nowhere.
        measure: Name of the risk measure.
        file: Where the scores lie, for errors.
        seed: Of the intervals.

    Returns:
        The metrics.

    Raises:
        DataError: If no row has a score for every answer.
    """
    scored = [(row.number, benchmark.with_scores(row.row, row.scores(measure))) for row in rows]
    (scores,) = section_scores(scored, file)
    complete = [row for row in rows if row.is_complete]
    values: list[Floats] = [np.array(row.scores(measure), dtype=np.float64) for row in complete]
    details = benchmark.details([row.row for row in complete], values)
    return MeasureResult(section_accuracies(scores, seed=seed), scores.ties, details)


def spreads(
    benchmark: Benchmark, rows: Sequence[ScoredRow], likelihood: Likelihood
) -> list[Spread]:
    """Say what reward distributions say beside their scores.

    Args:
        benchmark: The benchmark.
        rows: All rows; those without a score for every answer count nowhere.
        likelihood: How the model's raw outputs are read.

    Returns:
        Of all rows, then of each part in the order they occur.
    """
    by_part: dict[str, list[Floats]] = {_ALL: []}
    for row in rows:
        if row.is_complete:
            numbers = _numbers(row, likelihood)
            by_part[_ALL].append(numbers)
            by_part.setdefault(benchmark.part_of(row.row), []).append(numbers)
    return [
        Spread(part, len(own), *np.mean(own, axis=0).tolist())
        for part, own in by_part.items()
        if own
    ]


def _numbers(row: ScoredRow, likelihood: Likelihood) -> Floats:
    """Compute mean σ, mean P(chosen ≻ rejected), and the share of pairs where that is above ½."""
    rewards = rewards_of_people(torch.tensor(row.raw, dtype=torch.float64), People(likelihood))
    right = len(row.candidates.chosen)
    log_p = rewards[:right, None].log_prob_greater(rewards[None, right:])
    p = log_p.exp().numpy()
    share = (p > 0.5).mean() + (p == 0.5).mean() / 2
    return np.array([rewards.stddev.mean().item(), p.mean(), share])
