"""From the file of scores to a benchmark's metrics, as ``docs/guides/benchmark.md`` shows them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from hidden_context.analysis.sections.benchmarks import SectionAccuracy, section_accuracies
from hidden_context.analysis.sections.read import section_scores
from hidden_context.benchmark.benchmarks import Benchmark, Candidates
from hidden_context.data.checks import Place
from hidden_context.data.storage.files import iter_jsonl
from hidden_context.likelihood import Likelihood
from hidden_context.scoring.columns import People, rewards_of_people
from hidden_context.statistics.checks import Floats
from hidden_context.statistics.interval import RESAMPLES, Resampling

FORMAT: Final = "hidden_context.benchmark"
FORMAT_VERSION: Final = 1


@dataclass(frozen=True)
class Unscored:
    """A text without a score.

    Attributes:
        row: Its row in the file, from 1.
        id: The row's id; None if it has none.
        response: Which of the answers, such as ``rejected[0]``.
        reason: Why it has none.
    """

    row: int
    id: str | None
    response: str
    reason: str


@dataclass(frozen=True)
class Spread:
    """Summary of the reward distributions of one part of the rows.

    Attributes:
        part: The subset, domain or source; ``all`` for every row.
        n: Rows.
        stddev: Mean over rows of the mean standard deviation of their answers, in reward units.
        preferred: Mean over rows of the mean of P(chosen ≻ rejected), over all such pairs.
        right: Mean over rows of the share of these pairs whose P is above one half; a P of exactly
            one half counts half. For a calibrated model, ``preferred`` is as high.
    """

    part: str
    n: int
    stddev: float
    preferred: float
    right: float


@dataclass(frozen=True)
class MeasureResult:
    """The metrics of one risk measure.

    Attributes:
        records: Accuracies: overall, then sections with their subsets.
        ties: Comparisons of a chosen with a rejected answer of the same score.
        details: Other statistics of the benchmark.
    """

    records: list[SectionAccuracy]
    ties: int
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelResult:
    """The metrics of one model.

    Attributes:
        name: Its name in the output.
        checkpoint: The checkpoint's folder or hub id.
        head: The head, as JSON.
        rows_left_out: Rows without a score for every answer, which count nowhere.
        unscored: The answers without a score.
        measures: Metrics by the name of the risk measure.
        distribution: Summaries of the reward distributions, of all rows and of each part.
    """

    name: str
    checkpoint: str
    head: dict[str, Any]
    rows_left_out: int
    unscored: list[Unscored]
    measures: dict[str, MeasureResult]
    distribution: list[Spread]


@dataclass(frozen=True)
class BenchmarkResult:
    """The metrics of all models, beside each other.

    Attributes:
        benchmark: Its name.
        title: Its title.
        input: The file of rows.
        rows: Their number.
        texts_cut: Texts whose beginning was cut, of all models.
        scores: The file that keeps raw outputs and scores.
        models: One entry for each model.
    """

    benchmark: str
    title: str
    input: str
    rows: int
    texts_cut: int
    scores: Path
    models: list[ModelResult]

    def to_dict(self) -> dict[str, Any]:
        """Return what is written as JSON, in which dataclasses are objects."""
        return {"format": FORMAT, "version": FORMAT_VERSION, **vars(self)}


@dataclass(frozen=True)
class ScoredRow:
    """A row with one model's outputs for its n answers, the right answers first.

    Attributes:
        number: The row's place in the file, from 1.
        row: The row as it was published.
        candidates: Its answers.
        raw: Raw outputs, K each; None where an answer has no score.
        values: Values of the risk measures by their names; None likewise.
        reasons: Why an answer has no score; None where it has one.
    """

    number: int
    row: dict[str, Any]
    candidates: Candidates
    raw: list[list[float] | None]
    values: list[dict[str, float] | None]
    reasons: list[str | None]

    @property
    def is_complete(self) -> bool:
        """Whether every answer has a score."""
        return all(value is not None for value in self.values)

    def scores(self, measure: str) -> list[float | None]:
        """Return the values of one risk measure."""
        return [None if value is None else value[measure] for value in self.values]

    @property
    def unscored(self) -> list[Unscored]:
        """The answers without a score."""
        name = next((self.row[key] for key in ("id", "pair_id") if key in self.row), None)
        own = None if name is None else str(name)
        return [
            Unscored(self.number, own, self.candidates.label(place), reason)
            for place, reason in enumerate(self.reasons)
            if reason is not None
        ]


def read_scored(
    path: Path, benchmark: Benchmark, name: str, *, several_models: bool
) -> Iterator[ScoredRow]:
    """Read back the rows with one model's scores.

    Args:
        path: The file of scores.
        benchmark: Whose rows they are.
        name: The model's name.
        several_models: Whether other models scored the same rows.

    Yields:
        The rows, in order.
    """
    tail = f"_{name}" if several_models else ""
    for number, (line, row) in enumerate(iter_jsonl(path), start=1):
        candidates = benchmark.candidates(row, Place(path, line))
        if benchmark.kind == "pair":
            raw, values, reasons = (
                [row.get(name.format(f"{side}{tail}")) for side in ("chosen", "rejected")]
                for name in ("reward_output_{}", "rewards_{}", "reward_output_{}_reason")
            )
        else:
            column = f"reward_outputs_{name}"
            raw, values = row[column], row[f"rewards_{name}"]
            reasons = row.get(f"{column}_reason") or [None] * len(raw)
        yield ScoredRow(number, row, candidates, raw, values, reasons)


def measure_result(
    benchmark: Benchmark, rows: Sequence[ScoredRow], measure: str, file: str, seed: int
) -> MeasureResult:
    """Compute the metrics of one model's scores by one risk measure.

    Args:
        benchmark: The benchmark.
        rows: All rows; a row without a score for every answer does not count.
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
    found = section_accuracies(scores, Resampling(resamples=RESAMPLES, seed=seed))
    return MeasureResult(found, scores.ties, details)


def spreads(
    benchmark: Benchmark, rows: Sequence[ScoredRow], likelihood: Likelihood
) -> list[Spread]:
    """Summarise the reward distributions of all rows and of each part.

    Args:
        benchmark: The benchmark.
        rows: All rows; a row without a score for every answer does not count.
        likelihood: How the model's raw outputs are read.

    Returns:
        Of all rows, then of each part in the order they occur.
    """
    by_part: dict[str, list[Floats]] = {"all": []}
    for row in rows:
        if row.is_complete:
            numbers = _numbers(row, likelihood)
            by_part["all"].append(numbers)
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
