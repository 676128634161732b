"""What an analysis of score files gives, and its JSON form."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from hidden_context.analysis.benchmark_accuracy import SectionAccuracy
from hidden_context.analysis.comparison import Comparison
from hidden_context.analysis.config import AnalyzeConfig
from hidden_context.analysis.frontier import FrontierPoint
from hidden_context.analysis.records import Count, PairRecord, ResponseRecord
from hidden_context.analysis.subsets import SubsetDifference
from hidden_context.statistics.context_tests import TestResult
from hidden_context.statistics.interval import Interval

FORMAT, FORMAT_VERSION = "hidden_context.analysis", 2


@dataclass(frozen=True)
class Group:
    """Numbers of the rows that share some labels; no labels means all rows.

    Attributes:
        labels: The labels, by column.
        record: The numbers.
        intervals: By metric its interval by prompt, None where it is not defined; those of risk
            measures by measure.
    """

    labels: dict[str, str]
    record: PairRecord | ResponseRecord
    intervals: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoresAnalysis:
    """Numbers of one set of scores: a file's pairs, or its responses, by one reward model.

    Attributes:
        file: The score file.
        kind: What the groups' records are of.
        name: The reward model's name in the columns; empty for pairs scored by a single one.
        head: The head that the raw outputs were read with, in its JSON form.
        rows_left_out: Rows without a reward.
        groups: All rows, then the parts.
        with_likelihood: Whether loss and accuracy are those of the checkpoint's annotators and
            answers, as its ``likelihood.json`` says, rather than of nobody known.
        clusters: Number of prompts.
        calibration: ECE, Brier score, sharpness and reliability bins; None for responses.
        tests: Tests of hidden context and of caution.
        agreement: Probabilities against vote shares, where pairs have several labels.
        subset_differences: Of columns with two values, one part against the other.
        borda: Borda counts of responses; None for pairs.
        frontier: What each degree of caution costs and prevents.
        contexts: Clusters of prompts by variance, where they were asked for.
        confounds: Whether variance merely follows length or position.
    """

    file: str
    kind: Literal["pairs", "responses"]
    name: str
    head: dict[str, Any]
    rows_left_out: int
    groups: list[Group]
    with_likelihood: bool = False
    clusters: int = 0
    calibration: dict[str, Any] | None = None
    tests: list[TestResult] = field(default_factory=list)
    agreement: dict[str, Any] | None = None
    frontier: list[FrontierPoint] = field(default_factory=list)
    subset_differences: list[SubsetDifference] = field(default_factory=list)
    borda: dict[str, Any] | None = None
    contexts: dict[str, Any] | None = None
    confounds: list[dict[str, Any]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; see ``docs/analyze.md`` for its fields."""
        found = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        found["with_objective"] = found.pop("with_likelihood")  # as files have always had it
        found["groups"] = [
            {
                "labels": group.labels,
                **_plain(group.record),
                "intervals": _plain(group.intervals),
            }
            for group in self.groups
        ]
        found["subset_differences"] = [each.to_dict() for each in self.subset_differences]
        found["tests"] = [test.to_dict() for test in self.tests]
        found["frontier"] = [point.to_dict() for point in self.frontier]
        return found


@dataclass(frozen=True)
class FileSections:
    """Accuracies by section of a file in the style of a benchmark.

    Attributes:
        file: The file.
        style: ``reward-bench`` or ``rm-bench``.
        ties: How many comparisons are ties, which count as wrong.
        rows_left_out: Rows without a score.
        records: Overall, then the sections with their subsets.
    """

    file: str
    style: str
    ties: int
    rows_left_out: int
    records: list[SectionAccuracy]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; see ``docs/analyze.md`` for its fields."""
        return {**vars(self), "records": [record.to_dict() for record in self.records]}


@dataclass(frozen=True)
class Analysis:
    """Numbers of all score files, in the order of the files.

    Attributes:
        config: The options.
        analyses: One entry per file and set of scores in it.
        comparisons: Of two models on the same rows, where that was asked for.
        sections: Accuracies by section of files in the style of a benchmark.
    """

    config: AnalyzeConfig
    analyses: list[ScoresAnalysis]
    comparisons: list[Comparison] = field(default_factory=list)
    sections: list[FileSections] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; see ``docs/analyze.md`` for its fields."""
        return {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "config": dataclasses.asdict(self.config),
            "analyses": [analysis.to_dict() for analysis in self.analyses],
            "comparisons": [comparison.to_dict() for comparison in self.comparisons],
            "sections": [sections.to_dict() for sections in self.sections],
        }


def _plain(value: Any) -> Any:
    """Return records, counts and intervals as JSON has them."""
    if isinstance(value, (Count, Interval)):
        return value.to_dict()
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (PairRecord, ResponseRecord)):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return value
