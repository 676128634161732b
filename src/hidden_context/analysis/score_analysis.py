"""Analysis of any score files: loss, accuracy, rewards and r², whole and by label."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hidden_context.analysis.config import AnalyzeConfig
from hidden_context.analysis.metrics import (
    Count,
    PairRecord,
    ResponseRecord,
    label_groups,
    pair_record,
    response_record,
)
from hidden_context.analysis.score_files import (
    CHOSEN,
    PairScores,
    ResponseScores,
    read_score_file,
)
from hidden_context.analysis.score_heads import guess_head_type, head_for_width
from hidden_context.data.files import write_json
from hidden_context.errors import ConfigError

if TYPE_CHECKING:
    from hidden_context.heads import Head

FORMAT, FORMAT_VERSION = "hidden_context.analysis", 1

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Group:
    """Numbers of the rows that share some labels; no labels means all rows."""

    labels: dict[str, str]
    record: PairRecord | ResponseRecord


@dataclass(frozen=True)
class ScoresAnalysis:
    """Numbers of one set of scores: a file's pairs, or one of its columns of responses.

    Attributes:
        file: The score file.
        kind: What the groups' records are of.
        name: The name in the responses' column; empty for pairs.
        head: The head that the raw outputs were read with, in its JSON form.
        rows_left_out: Rows without a reward.
        groups: All rows, then the parts.
    """

    file: str
    kind: Literal["pairs", "responses"]
    name: str
    head: dict[str, Any]
    rows_left_out: int
    groups: list[Group]


@dataclass(frozen=True)
class Analysis:
    """Numbers of all score files, in the order of the files."""

    config: AnalyzeConfig
    analyses: list[ScoresAnalysis]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; see ``docs/analyze.md`` for its fields."""
        return {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "config": dataclasses.asdict(self.config),
            "analyses": [
                {
                    "file": analysis.file,
                    "kind": analysis.kind,
                    "name": analysis.name,
                    "head": analysis.head,
                    "rows_left_out": analysis.rows_left_out,
                    "groups": [
                        {"labels": group.labels, **_record_to_dict(group.record)}
                        for group in analysis.groups
                    ],
                }
                for analysis in self.analyses
            ],
        }


def _record_to_dict(record: PairRecord | ResponseRecord) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, Count):
            return value.to_dict()
        if isinstance(value, dict):
            return {name: plain(item) for name, item in value.items()}
        return value

    return {f.name: plain(getattr(record, f.name)) for f in dataclasses.fields(record)}


def _head(config: AnalyzeConfig, scores: PairScores | ResponseScores) -> Head:
    name, column = "", CHOSEN
    if isinstance(scores, ResponseScores):
        name, column = scores.name, scores.column
    return head_for_width(
        config.head or guess_head_type(scores.width, file=scores.file, name=name),
        scores.width,
        file=scores.file,
        field=column,
        likelihood=config.likelihood,
    )


def analyze_pairs(scores: PairScores, head: Head, risk_names: list[str]) -> list[Group]:
    """Compute the numbers of pairs, of all rows and of each part."""
    return [
        Group(labels, pair_record(head, scores.chosen[rows], scores.rejected[rows], risk_names))
        for labels, rows in label_groups(scores.labels, len(scores.chosen))
    ]


def analyze_responses(scores: ResponseScores, head: Head, risk_names: list[str]) -> list[Group]:
    """Compute the numbers of responses, of all rows and of each part."""
    counts = scores.num_responses
    return [
        Group(
            labels,
            response_record(
                head, scores.outputs[np.repeat(rows, counts)], counts[rows], risk_names
            ),
        )
        for labels, rows in label_groups(scores.labels, len(counts))
    ]


def _analyze_pair_scores(
    config: AnalyzeConfig, scores: PairScores, risk_names: list[str]
) -> ScoresAnalysis:
    head = _head(config, scores)
    groups = analyze_pairs(scores, head, risk_names)
    return ScoresAnalysis(scores.file, "pairs", "", head.to_dict(), scores.left_out, groups)


def _analyze_response_scores(
    config: AnalyzeConfig, scores: ResponseScores, risk_names: list[str]
) -> ScoresAnalysis:
    head = _head(config, scores)
    groups = analyze_responses(scores, head, risk_names)
    return ScoresAnalysis(
        scores.file, "responses", scores.name, head.to_dict(), scores.left_out, groups
    )


def run(config: AnalyzeConfig) -> Analysis:
    """Analyse score files, and write the numbers if asked to.

    Args:
        config: The files, how to read them, and the risk measures.

    Returns:
        One entry per file and set of scores in it.

    Raises:
        ConfigError: If there is no file, or the head or a risk measure is unknown.
        MissingFileError: If a file does not exist.
        DataError: If a file cannot be used.
        StorageError: If the output cannot be written.
    """
    from hidden_context import risk

    if not config.files:
        raise ConfigError("no score file is named.")
    risk_names = list(dict.fromkeys(text.strip() for text in config.risk))
    for name in risk_names:
        risk.parse(name)  # a wrong name is told before any file is read
    analyses = []
    for path in config.files:
        scores = read_score_file(path)
        if scores.pairs is not None:
            analyses.append(_analyze_pair_scores(config, scores.pairs, risk_names))
        analyses += [
            _analyze_response_scores(config, responses, risk_names)
            for responses in scores.responses.values()
        ]
    analysis = Analysis(config, analyses)
    if config.output:
        write_json(config.output, analysis.to_dict())
        _logger.info("wrote %s", config.output)
    return analysis
