"""The analysis of score files: its content, and its file ``analysis.json``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from hidden_context.analysis.compare import Comparison, SubsetDifference
from hidden_context.analysis.config import AnalyzeConfig
from hidden_context.analysis.measure.choices import FrontierPoint
from hidden_context.analysis.measure.records import PairRecord, ResponseRecord
from hidden_context.analysis.measure.votes import VoteAnalysis
from hidden_context.analysis.sections.benchmarks import SectionAccuracy
from hidden_context.data.checks import Place
from hidden_context.data.storage.files import read_json, to_plain
from hidden_context.errors import DataError, HiddenContextError
from hidden_context.statistics.significance.permutation import TestResult

if TYPE_CHECKING:
    from hidden_context.contexts import Confound

_FORMAT: Final = "hidden_context.analysis"
_VERSION: Final = 3
_READABLE: Final = (2, 3)
_CAUSES_OF_VERSION_2: Final = {"disagreement": "shared_context", "epistemic": "ignorance"}


@dataclass(frozen=True)
class Group:
    """The numbers of the rows that share some labels; no labels means all rows.

    Attributes:
        labels: The labels, by column.
        record: The numbers.
        intervals: By metric, the interval by prompt, None if it is not defined; for metrics by risk
            measure, a mapping from measure to interval.
    """

    labels: dict[str, str]
    record: PairRecord | ResponseRecord
    intervals: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoresAnalysis:
    """The analysis of one set of scores: a file's pairs or responses, scored by one reward model.

    Attributes:
        file: The score file.
        kind: Whether the records are of pairs or of responses.
        name: The reward model's name in the columns; empty for pairs scored by a single model.
        head: The head that the raw outputs were read with, in its JSON form.
        rows_left_out: Number of rows without a reward or a vote.
        groups: All rows, then the parts.
        with_likelihood: Whether loss and accuracy use the annotators and answers of the
            checkpoint's ``likelihood.json``; otherwise no annotator is known.
        clusters: Number of prompts.
        calibration: ECE, Brier score, sharpness and reliability bins; None for responses.
        tests: Tests of hidden context and of caution.
        votes: Predictions against votes, if pairs have several votes or annotators are known.
        subset_differences: Differences between the two parts of each column with two values.
        borda: Borda counts of responses; None for pairs.
        frontier: Costs and benefits of each degree of caution.
        contexts: Clusters of prompts by variance, if requested.
        confounds: Tests of whether variance merely follows length or position.
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
        name: The name given to the reward model; empty if it was the only one.
        style: Which benchmark: ``reward-bench``, ``reward-bench-2``, ``rm-bench``, ``judge-bench``.
        ties: Number of comparisons that are ties.
        rows_left_out: Number of rows without a score.
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
    """The analysis of all score files, in the order of the files.

    Attributes:
        config: The options.
        analyses: One entry per file and set of scores in the file.
        comparisons: Comparisons of two models on the same rows, if requested.
        sections: Accuracies by section of files in the style of a benchmark.
    """

    config: AnalyzeConfig
    analyses: list[ScoresAnalysis]
    comparisons: list[Comparison] = field(default_factory=list)
    sections: list[FileSections] = field(default_factory=list)


def to_json(analysis: Analysis) -> dict[str, Any]:
    """Return the JSON form of an analysis; see ``docs/guides/analyze.md`` for its fields."""
    found = {"format": _FORMAT, "version": _VERSION, **to_plain(analysis)}
    for scores in found["analyses"]:
        scores["with_objective"] = scores.pop("with_likelihood")  # the files' name for it
        if scores["votes"] is not None:
            scores["votes"] = {**scores["votes"].pop("metrics"), **scores["votes"]}
        for group in scores["groups"]:
            group |= group.pop("record")
    return found


def read_analysis(path: str | Path) -> dict[str, Any]:
    """Read an analysis that ``analyze --output`` wrote for score files.

    Args:
        path: The file.

    Returns:
        The file's content, converted to the present version.

    Raises:
        MissingFileError: If the file does not exist.
        DataError: If it is another kind of file, or of an unsupported version.
    """
    content = read_json(path)
    found = content.get("format") if isinstance(content, dict) else None
    if found != _FORMAT:
        problem = f"this is not {_FORMAT}" + (f" but {found}" if found else "")
        remedy = "Write one with: hidden-context analyze SCORES --contexts --output FILE"
        raise Place(path).error(problem, "format", remedy)
    version = content.get("version")
    if version not in _READABLE:
        problem = f"its version is {version}, but only {_READABLE[0]} to {_VERSION} are supported"
        remedy = "Analyze the score files again with this version"
        raise Place(path).error(problem, "version", remedy)
    with naming_the_file(path):
        return content if version == _VERSION else _from_version_2(content)


def _from_version_2(content: Mapping[str, Any]) -> dict[str, Any]:
    """Rename causes of variance, and drop agreement, which counted "equal" as contested."""

    def renamed(group: Mapping[str, Any]) -> dict[str, Any]:
        shares, names = group.get("variance_shares"), _CAUSES_OF_VERSION_2
        shares = shares and {names.get(name, name): value for name, value in shares.items()}
        return {**group, "variance_shares": shares}

    analyses = []
    for scores in content.get("analyses", []):
        kept = {name: value for name, value in scores.items() if name != "agreement"}
        groups = [renamed(group) for group in scores.get("groups", [])]
        analyses.append({**kept, "groups": groups, "votes": None})
    return {**content, "version": _VERSION, "analyses": analyses}


@contextlib.contextmanager
def naming_the_file(path: str | Path | None) -> Iterator[None]:
    """Turn an error about an analysis's content into an error that names its file.

    Args:
        path: The file; None if the analysis was just made, so that the error is a bug.

    Raises:
        DataError: If the ``with`` block fails on the file's content.
    """
    from jinja2 import UndefinedError

    try:
        yield
    except HiddenContextError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, UndefinedError) as error:
        if path is None:
            raise
        problem = f"a field is missing or has the wrong type ({type(error).__name__} {error})"
        remedy = "Was the file changed by hand? Analyze the score files again"
        raise DataError(problem, file=path, remedy=remedy) from error
