"""Evaluating a checkpoint on preference pairs: raw outputs to a file, and metrics."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import torch

from hidden_context.data.files import iter_jsonl, write_json, write_yaml_config
from hidden_context.data.held_out import load_evaluation
from hidden_context.data.labels import labels_for
from hidden_context.data.preferences import Preference
from hidden_context.data.report import ReadReport
from hidden_context.data.responses import ScoringRow
from hidden_context.errors import DataError, MissingFileError
from hidden_context.heads import Head
from hidden_context.objectives import Objective
from hidden_context.scoring.config import EvaluateConfig
from hidden_context.scoring.identity import describe_model, digest_pairs
from hidden_context.scoring.loading import load_model
from hidden_context.scoring.merge import LazyModel, ScoreCounts, check_output, write_scores
from hidden_context.statistics import grouped_pair_metrics


@dataclasses.dataclass
class EvaluationResult:
    """What an evaluation gave.

    Attributes:
        path: The file of raw outputs.
        metrics: Loss in nats, accuracy, mean reward, mean σ, r² and, from heads that tell them
            apart, the causes of variance; by subset and objective too.
        counts: What became of the pairs.
        report: What was read.
    """

    path: Path
    metrics: dict[str, float]
    counts: ScoreCounts
    report: ReadReport


def _rows(pairs: list[Preference], data_subset: str) -> Iterator[ScoringRow]:
    for index, pair in enumerate(pairs):
        columns = {**pair.columns}
        if columns.get("data_subset") is None:
            columns["data_subset"] = data_subset
        yield ScoringRow(index, index + 1, columns, (pair.chosen, pair.rejected), "pair")


def metrics_of_file(path: Path, head: Head, objective: Objective | None = None) -> dict[str, float]:
    """Compute metrics from a file of raw outputs; pairs without rewards are left out.

    Args:
        path: The file, with the columns that say how its pairs are labelled.
        head: The head.
        objective: What the model learned beside its network: an annotator whom it knows is
            predicted as such, ties and strengths as answers of their own. None, or one that learned
            nothing, takes labels as shares of the population.

    Returns:
        Metrics as ``statistics.grouped_pair_metrics`` names them; every pair counts once.

    Raises:
        DataError: If no pair has rewards, or a strength is beyond the objective's levels.
    """
    pairs = [
        Preference("", "", "", row, line)  # whose texts are of no account here
        for line, row in iter_jsonl(path)
        if row["reward_output_chosen"] is not None and row["reward_output_rejected"] is not None
    ]
    if not pairs:
        raise DataError(
            "no pair has rewards for both sides",
            file=path,
            remedy="Raise --max_length, or take --over_length truncate",
        )
    chosen, rejected = (
        torch.tensor([pair.columns[f"reward_output_{side}"] for pair in pairs], dtype=torch.float64)
        for side in ("chosen", "rejected")
    )
    shares = torch.tensor([pair.preference for pair in pairs], dtype=torch.float64)
    groups = {
        column: {
            i: str(pair.columns[column])
            for i, pair in enumerate(pairs)
            if pair.columns.get(column) not in (None, "")
        }
        for column in ("data_subset", "objective")
    }
    labels = None
    if objective is not None and not objective.is_plain:
        labels = labels_for(objective, pairs, path)
    with torch.no_grad():
        return grouped_pair_metrics(
            head, chosen, rejected, shares, torch.arange(len(pairs)), groups, objective, labels
        )


def evaluate(config: EvaluateConfig) -> EvaluationResult:
    """Score preference pairs with a checkpoint and compute metrics.

    Args:
        config: The options.

    Returns:
        The file written, metrics and counts.

    Raises:
        MissingFileError: If data or checkpoint is not there.
        DataError: If a row is malformed, a strength is beyond those the model knows, or no pair
            is left.
        CheckpointError: If the checkpoint cannot be loaded.
    """
    output = config.output_path
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
    )
    pairs = data.preferences
    model = load_model(config.checkpoint, config)
    if not model.objective.is_plain:
        labels_for(model.objective, pairs, config.data_path)  # what it cannot read is told first
    counts = write_scores(
        lambda: _rows(pairs, config.data_subset),
        {"evaluation": LazyModel(lambda: model, describe_model(config.checkpoint, config))},
        output,
        config,
        over_length=config.over_length,
        description={"data": config.data_path, "pairs": digest_pairs(pairs)},
        total=len(pairs),
        allow_empty=False,
    )
    data.report.too_long += counts.dropped
    data.report.kept -= counts.dropped
    metrics = metrics_of_file(output, model.head, model.objective)
    write_json(
        output.with_name(f"{output.name}.metrics.json"),
        {"metrics": metrics, "read": data.report.to_dict(), "counts": dataclasses.asdict(counts)},
    )
    write_yaml_config(output.with_name(f"{output.name}.config.yaml"), config)
    return EvaluationResult(output, metrics, counts, data.report)
