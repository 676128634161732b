"""What an analysis of score files gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from hidden_context.analysis.compare import Comparison, SubsetDifference
from hidden_context.analysis.config import AnalyzeConfig
from hidden_context.analysis.measure.choices import FrontierPoint
from hidden_context.analysis.measure.records import PairRecord, ResponseRecord
from hidden_context.analysis.measure.votes import VoteAnalysis
from hidden_context.analysis.sections.accuracy import SectionAccuracy
from hidden_context.statistics.significance.permutation import TestResult

if TYPE_CHECKING:
    from hidden_context.contexts import Confound


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
        rows_left_out: Rows without a reward or a vote.
        groups: All rows, then the parts.
        with_likelihood: Whether loss and accuracy are those of the checkpoint's annotators and
            answers, as its ``likelihood.json`` says, rather than of nobody known.
        clusters: Number of prompts.
        calibration: ECE, Brier score, sharpness and reliability bins; None for responses.
        tests: Tests of hidden context and of caution.
        votes: Predictions against votes, where pairs have several or annotators are known.
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
    votes: VoteAnalysis | None = None
    frontier: list[FrontierPoint] = field(default_factory=list)
    subset_differences: list[SubsetDifference] = field(default_factory=list)
    borda: dict[str, Any] | None = None
    contexts: dict[str, Any] | None = None
    confounds: list[Confound] = field(default_factory=list)


@dataclass(frozen=True)
class FileSections:
    """Accuracies by section of a file in the style of a benchmark.

    Attributes:
        file: The file.
        name: The name given to the reward model; empty where it was the only one.
        style: Which benchmark: ``reward-bench``, ``reward-bench-2``, ``rm-bench``, ``judge-bench``.
        ties: How many comparisons are ties.
        rows_left_out: Rows without a score.
        records: Overall, then the sections with their subsets.
    """

    file: str
    name: str
    style: str
    ties: int
    rows_left_out: int
    records: list[SectionAccuracy]


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
