"""Analysis of any score files: loss, accuracy, rewards and r², whole and by label."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
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
from hidden_context.analysis.outputs import check_output
from hidden_context.analysis.score_files import (
    PairScores,
    ResponseScores,
    ScoreFile,
    read_score_file,
)
from hidden_context.analysis.score_heads import choose_head, head_file_beside, saved_head
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
    """Numbers of one set of scores: a file's pairs, or its responses, by one reward model.

    Attributes:
        file: The score file.
        kind: What the groups' records are of.
        name: The reward model's name in the columns; empty for pairs scored by a single one.
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


def analyze_pairs(scores: PairScores, head: Head, risk_names: list[str]) -> list[Group]:
    """Compute the numbers of pairs, of all rows and of each part."""
    return [
        Group(
            labels,
            pair_record(
                head,
                scores.chosen[rows],
                scores.rejected[rows],
                risk_names,
                scores.preference[rows],
            ),
        )
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


def _analyze_file(
    config: AnalyzeConfig, file: ScoreFile, risk_names: list[str]
) -> list[ScoresAnalysis]:
    every = file.all_scores()
    # The checkpoint around the file can have written one set of scores, not those of several models
    saved = saved_head(file.file) if len(every) == 1 else None
    analyses = []
    for scores in every:
        head = choose_head(
            scores.width,
            file=scores.file,
            field=scores.column,
            name=scores.name,
            saved=saved,
            head_type=config.head,
            likelihood=config.likelihood,
        )
        kind: Literal["pairs", "responses"]
        if isinstance(scores, PairScores):
            kind, groups = "pairs", analyze_pairs(scores, head, risk_names)
        else:
            kind, groups = "responses", analyze_responses(scores, head, risk_names)
        analyses.append(
            ScoresAnalysis(scores.file, kind, scores.name, head.to_dict(), scores.left_out, groups)
        )
    return analyses


def run(config: AnalyzeConfig) -> Analysis:
    """Analyse score files, and write the numbers if asked to.

    Args:
        config: The files, how to read them, and the risk measures.

    Returns:
        One entry per file and set of scores in it.

    Raises:
        ConfigError: If there is no file, the head or a risk measure is unknown, or the output is
            one of the inputs.
        MissingFileError: If a file does not exist.
        DataError: If a file cannot be used.
        CheckpointError: If a checkpoint's head file beside a score file is damaged.
        StorageError: If the output cannot be written.
    """
    from hidden_context import risk

    if not config.files:
        raise ConfigError("no score file is named.")
    risk_names = list(dict.fromkeys(text.strip() for text in config.risk))
    for name in risk_names:
        risk.parse(name)  # a wrong name is told before any file is read
    if config.output:
        inputs = [(Path(path), head_file_beside(path)) for path in config.files]
        check_output(config.output, [path for both in inputs for path in both])
    analyses: list[ScoresAnalysis] = []
    for path in config.files:
        analyses += _analyze_file(config, read_score_file(path), risk_names)
    analysis = Analysis(config, analyses)
    if config.output:
        write_json(config.output, analysis.to_dict())
        _logger.info("wrote %s", config.output)
    return analysis
