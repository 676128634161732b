"""Evaluating a checkpoint on what people said: raw outputs to a file, and metrics."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch

from hidden_context.data.example import Example
from hidden_context.data.files import to_plain, write_json, write_yaml_config
from hidden_context.data.groups import SplitOptions
from hidden_context.data.held_out import load_evaluation
from hidden_context.data.labels import annotator_names, labels_of
from hidden_context.data.locks import exclusive
from hidden_context.data.report import ReadReport
from hidden_context.errors import DataError, MissingFileError
from hidden_context.likelihood import AnnotatorNames, Labels, Likelihood
from hidden_context.models.threads import cpu_threads
from hidden_context.scoring.config import EvaluateConfig
from hidden_context.scoring.loading import load_model
from hidden_context.scoring.merge import (
    LazyModel,
    ScoreCounts,
    check_output,
    record_path,
    write_scores,
)
from hidden_context.scoring.rows import Scored, read_scored, rows_of
from hidden_context.scoring.settle import settle
from hidden_context.scoring.trained_rows import warn_of_trained_rows
from hidden_context.statistics.judged_items import judged_items
from hidden_context.statistics.judgement_metrics import grouped_judgement_metrics
from hidden_context.statistics.vote_results import VoteMetrics

_LEVEL: Final = 0.95
_RESAMPLES: Final = 1000
_NAME: Final = "evaluation"


@dataclasses.dataclass
class EvaluationResult:
    """What an evaluation gave.

    Attributes:
        path: The file of raw outputs.
        metrics: Loss in nats, accuracy, mean reward, mean σ, r² and, from heads that tell them
            apart, the causes of variance; by subset and objective too.
        counts: What became of the rows.
        report: What was read; every row that is scored counts as an example.
        votes: How predictions stand against votes; None where several people judged no pair and
            the model knows none who judged one.
    """

    path: Path
    metrics: dict[str, float]
    counts: ScoreCounts
    report: ReadReport
    votes: VoteMetrics | None = None


def metrics_of_file(path: Path, likelihood: Likelihood) -> dict[str, float]:
    """Compute metrics from a file of raw outputs; rows without rewards are left out.

    Args:
        path: The file, with the columns that say how its rows are labelled.
        likelihood: The likelihood: an annotator whom it knows is predicted as such, ties and
            strengths as answers of their own where it learned them.

    Returns:
        Metrics as ``statistics.grouped_judgement_metrics`` names them; every vote counts once.

    Raises:
        DataError: If no row has rewards, or a strength is beyond the likelihood's levels.
    """
    return _metrics(path, likelihood, read_scored(path))


def _metrics(path: Path, likelihood: Likelihood, scored: Scored) -> dict[str, float]:
    if not scored.examples:
        raise DataError(
            "no pair has rewards for both sides, and no other text has one",
            file=path,
            remedy="Raise --max_length, or take --over_length truncate",
        )
    labels = _labels(likelihood, scored.examples, path)
    groups = {
        column: [getattr(example, column) for example in scored.examples]
        for column in ("data_subset", "objective")
    }
    with torch.no_grad():
        return grouped_judgement_metrics(likelihood, scored.raw, labels, groups)


def votes_of_file(path: Path, likelihood: Likelihood, seed: int = 0) -> VoteMetrics | None:
    """Hold a file of raw outputs against its votes.

    Args:
        path: The file, with the columns that say how its rows are labelled.
        likelihood: The likelihood: an annotator whom it knows is predicted as such.
        seed: Of bootstraps.

    Returns:
        The metrics, with intervals by prompt; None where several people judged no pair, and the
        likelihood knows none who judged one.

    Raises:
        DataError: If a row is malformed, or a strength is beyond the likelihood's levels.
    """
    return _votes(path, likelihood, read_scored(path), seed)


def _votes(path: Path, likelihood: Likelihood, scored: Scored, seed: int) -> VoteMetrics | None:
    column, facts = likelihood.names.column, scored.facts
    everyone = AnnotatorNames(annotator_names(scored.examples, column), column)
    who = labels_of(scored.examples, everyone.index, column).comparisons.annotator
    items = judged_items(
        likelihood,
        scored.raw,
        _labels(likelihood, scored.examples, path),
        who,
        item=facts.item,
        turned=facts.swapped,
        cluster=facts.cluster,
        length=facts.length,
    )
    return None if items is None else items.metrics(level=_LEVEL, resamples=_RESAMPLES, seed=seed)


def _labels(likelihood: Likelihood, examples: Sequence[Example], file: str | Path) -> Labels:
    names = likelihood.names
    return labels_of(examples, names.index, names.column, likelihood.options.levels, file)


def evaluate(config: EvaluateConfig) -> EvaluationResult:
    """Score preference data with a checkpoint and compute metrics.

    Args:
        config: The options.

    Returns:
        The file written, metrics and counts.

    Raises:
        MissingFileError: If data or checkpoint is not there.
        DataError: If a row is malformed, a strength is beyond those the model knows, or no row
            is left.
        CheckpointError: If the checkpoint cannot be loaded.
        StorageError: If the file could not be written, or another process is writing it.
    """
    output = config.output_path
    records = [record_path(output, _NAME)] if config.resume else []
    config, threads = settle(config, records)
    with cpu_threads(threads):
        return _evaluate(config, output)


def _evaluate(config: EvaluateConfig, output: Path) -> EvaluationResult:
    """Score and compute metrics, with the threads that are in use."""
    if config.output is None and not Path(config.checkpoint).is_dir():
        raise MissingFileError(
            config.checkpoint,
            "Give the folder of a checkpoint, or name the file of results of a model on the hub "
            "with --output",
        )
    check_output(output, config.data_path)
    data = load_evaluation(
        config.data_path,
        config.data_subset,
        split=config.eval_split,
        train_split=config.train_split,
        eval_fraction=config.eval_fraction,
        limit=config.eval_dataset_size,
        on_malformed=config.on_malformed,
        seed=config.seed,
        options=SplitOptions.of(config.split_by, config.split_balance, config.data_path),
    )
    warn_of_trained_rows(config)
    model = load_model(config.checkpoint, config)
    _labels(model.likelihood, data.examples, config.data_path)  # what it cannot read is told first
    rows = rows_of(data.examples, config.data_subset)
    with exclusive(output):
        counts = write_scores(
            lambda: rows,
            {_NAME: LazyModel(lambda: model, config.checkpoint)},
            output,
            config,
            over_length=config.over_length,
            description={"on_malformed": config.on_malformed},
            total=len(rows),
            allow_empty=False,
            on_malformed=config.on_malformed,
        )
        data.report.rows += len(rows) - len(data.examples)
        data.report.too_long += counts.dropped
        data.report.kept = len(rows) - counts.dropped
        scored = read_scored(output)
        metrics = _metrics(output, model.likelihood, scored)
        votes = _votes(output, model.likelihood, scored, config.seed)
        data.report.warn_of_losses(
            counts.dropped,
            len(scored.examples) / len(rows),
            f"{counts}." if counts.unscored else "",
        )
        found = {"metrics": metrics, "votes": to_plain(votes), "read": data.report.to_dict()}
        write_json(
            output.with_name(f"{output.name}.metrics.json"),
            {**found, "counts": dataclasses.asdict(counts)},
        )
        write_yaml_config(output.with_name(f"{output.name}.config.yaml"), config)
    return EvaluationResult(output, metrics, counts, data.report, votes)
