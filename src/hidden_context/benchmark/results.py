"""Results of a benchmark's run; ``docs/guides/benchmark.md`` shows the file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hidden_context.analysis.sections.accuracy import SectionAccuracy

FORMAT: Final = "hidden_context.benchmark"
FORMAT_VERSION: Final = 1


@dataclass(frozen=True)
class Unscored:
    """A text without a score.

    Attributes:
        row: Its row in the file, from 1.
        id: What the row calls itself, or None.
        response: Which of the answers, such as ``rejected[0]``.
        reason: Why it has none.
    """

    row: int
    id: str | None
    response: str
    reason: str


@dataclass(frozen=True)
class Spread:
    """What reward distributions of one part of the rows say beside their scores.

    Attributes:
        part: The subset, domain or source; ``all`` for every row.
        n: Rows.
        stddev: Mean over rows of the mean standard deviation of their answers, in reward units.
        preferred: Mean over rows of the mean of P(chosen ≻ rejected), over all such pairs.
        right: Mean over rows of the share of these pairs in which that is above one half; exactly
            one half counts half. Of a model that knows how sure it is, ``preferred`` is as high.
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
        details: What else the benchmark states.
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
        distribution: What the distributions say, of all rows and of each part.
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
