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
from hidden_context.analysis.outputs import check_output
from hidden_context.analysis.score_files import (
    PairScores,
    ResponseScores,
    read_score_file,
)
from hidden_context.analysis.score_heads import (
    checkpoint_files_beside,
    choose_head,
    saved_objective,
)
from hidden_context.data.files import write_json
from hidden_context.errors import ConfigError

if TYPE_CHECKING:
    from hidden_context.heads import Head
    from hidden_context.objectives import Labels, Objective
    from hidden_context.risk import RiskMeasure

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
        with_objective: Whether loss and accuracy are those of the checkpoint's annotators and
            answers, as its ``objective.json`` says, rather than of labels as shares.
    """

    file: str
    kind: Literal["pairs", "responses"]
    name: str
    head: dict[str, Any]
    rows_left_out: int
    groups: list[Group]
    with_objective: bool = False


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
                    "with_objective": analysis.with_objective,
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


def analyze_pairs(
    scores: PairScores, head: Head, risk_names: list[str], objective: Objective | None = None
) -> list[Group]:
    """Compute the numbers of pairs, of all rows and of each part.

    Args:
        scores: The pairs; with what annotators said of them where an objective is given.
        head: The head that reads the raw outputs.
        risk_names: Risk measures by which the pairs are compared as well.
        objective: What the model learned beside its network; None takes labels as shares.

    Returns:
        The groups, all rows first.
    """
    import torch

    labels = None if objective is None else _labels(scores, objective)
    return [
        Group(
            group,
            pair_record(
                head,
                scores.chosen[rows],
                scores.rejected[rows],
                risk_names,
                scores.preference[rows],
                objective,
                None if labels is None else labels.select(torch.from_numpy(rows)),
            ),
        )
        for group, rows in label_groups(scores.labels, len(scores.chosen))
    ]


def _labels(scores: PairScores, objective: Objective) -> Labels:
    from hidden_context.data.labels import labels_of

    known = objective.annotators
    if known is None:
        return labels_of(scores.said)
    return labels_of(scores.said, known.index, known.column)


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
    config: AnalyzeConfig, path: str, measures: dict[str, RiskMeasure]
) -> list[ScoresAnalysis]:
    objective = saved_objective(path)
    saved = None if objective is None else objective.head
    if objective is not None and objective.is_plain:
        objective = None
    column = None
    if objective is not None:
        column = objective.annotators.column if objective.annotators else "annotator"
    file = read_score_file(path, annotator_column=column)
    every = file.all_scores()
    # The checkpoint around the file can have written one set of scores, not those of several models
    if len(every) > 1:
        objective = saved = None
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
        _check_measures(measures, head, scores)
        kind: Literal["pairs", "responses"]
        own = objective if head == saved and isinstance(scores, PairScores) else None
        if isinstance(scores, PairScores):
            kind, groups = "pairs", analyze_pairs(scores, head, list(measures), own)
        else:
            kind, groups = "responses", analyze_responses(scores, head, list(measures))
        analyses.append(
            ScoresAnalysis(
                scores.file,
                kind,
                scores.name,
                head.to_dict(),
                scores.left_out,
                groups,
                own is not None,
            )
        )
    return analyses


def _check_measures(
    measures: dict[str, RiskMeasure], head: Head, scores: PairScores | ResponseScores
) -> None:
    from hidden_context.heads import FactorHead

    relative = next((name for name, measure in measures.items() if measure.is_relative), None)
    if relative is not None and not isinstance(head.members[0], FactorHead):
        raise ConfigError(
            f"--risk {relative} needs a head that knows what the answers to a prompt have in "
            f"common: factor, or an ensemble of such; {scores.column} in {scores.file} is of a "
            f"{head.type} head."
        )


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
        CheckpointError: If a checkpoint's head, or what it learned beside its network, is damaged.
        StorageError: If the output cannot be written.
    """
    from hidden_context import risk

    if not config.files:
        raise ConfigError("no score file is named.")
    # a wrong name is told before any file is read
    measures = {name: risk.parse(name) for name in (text.strip() for text in config.risk)}
    if config.output:
        beside = [path for file in config.files for path in checkpoint_files_beside(file)]
        check_output(config.output, [*config.files, *beside])
    analyses: list[ScoresAnalysis] = []
    for path in config.files:
        analyses += _analyze_file(config, path, measures)
    analysis = Analysis(config, analyses)
    if config.output:
        write_json(config.output, analysis.to_dict())
        _logger.info("wrote %s", config.output)
    return analysis
