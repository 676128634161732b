"""Evaluating a checkpoint on judgements: raw outputs to a file, and metrics."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch

from hidden_context.data.example import Example
from hidden_context.data.labels import annotator_names, labels_of
from hidden_context.data.report import ReadReport
from hidden_context.data.sources import is_single_table
from hidden_context.data.splits.division import SplitOptions
from hidden_context.data.splits.held_out import DEFAULT_EVAL_FRACTION, load_evaluation
from hidden_context.data.storage.files import to_plain, write_json, write_yaml_config
from hidden_context.data.storage.locks import exclusive
from hidden_context.errors import DataError, HiddenContextWarning, MissingFileError
from hidden_context.likelihood import AnnotatorNames, Labels, Likelihood
from hidden_context.models.network.threads import cpu_threads
from hidden_context.scoring.config import EvaluateConfig
from hidden_context.scoring.files import ScoreCounts, check_output, record_path, write_scores
from hidden_context.scoring.loading import load_model, settle
from hidden_context.scoring.rows import Scored, read_scored, rows_of
from hidden_context.scoring.stream import run_here
from hidden_context.statistics.evaluation.judgement_metrics import grouped_judgement_metrics
from hidden_context.statistics.evaluation.predictions import judged_items
from hidden_context.statistics.evaluation.vote_metrics import VoteMetrics, judged_metrics
from hidden_context.statistics.interval import Resampling

TRAINING_CONFIG: Final = "training_config.yaml"
_NO_BALANCE: Final = (None, "", "false")
_NAME: Final = "evaluation"


@dataclasses.dataclass
class EvaluationResult:
    """Result of an evaluation.

    Attributes:
        path: The file of raw outputs.
        metrics: Loss in nats, accuracy, mean reward, mean σ, r² and, for heads that separate them,
            the causes of variance; by subset and objective too.
        counts: Counts of rows and texts.
        report: What was read; every scored row counts as an example.
        votes: Predictions compared with votes; None if no pair was judged by several people, nor
            by an annotator whom the model knows.
    """

    path: Path
    metrics: dict[str, float]
    counts: ScoreCounts
    report: ReadReport
    votes: VoteMetrics | None = None


def measure(
    scored: Scored, likelihood: Likelihood, path: str | Path, seed: int = 0
) -> tuple[dict[str, float], VoteMetrics | None]:
    """Compare the raw outputs of a file with its judgements.

    Args:
        scored: The file's rows with rewards, and how they are labelled.
        likelihood: The likelihood. It predicts each annotator whom it knows as that annotator, and
            ties and strengths as separate answers if it learned them.
        path: The file, for errors.
        seed: Seed of the bootstrap.

    Returns:
        Metrics as ``statistics.grouped_judgement_metrics`` names them, of which every vote counts
        once; and the predictions compared with votes, with intervals by prompt: None if no pair
        was judged by several people, nor by an annotator whom the likelihood knows.

    Raises:
        DataError: If no row has rewards, or a strength is beyond the likelihood's levels.
    """
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
        metrics = grouped_judgement_metrics(likelihood, scored.raw, labels, groups)
    column, facts = likelihood.names.column, scored.facts
    everyone = AnnotatorNames(annotator_names(scored.examples, column), column)
    who = labels_of(scored.examples, everyone.index, column).comparisons.annotator
    items = judged_items(
        likelihood,
        scored.raw,
        labels,
        who,
        item=facts.item,
        turned=facts.swapped,
        cluster=facts.cluster,
        length=facts.length,
    )
    votes = None if items is None else judged_metrics(items, Resampling(resamples=1000, seed=seed))
    return metrics, votes


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
        DataError: If a row is malformed, the model does not know a strength, or no row
            is left.
        CheckpointError: If the checkpoint cannot be loaded.
        StorageError: If the file could not be written, or another process is writing it.
    """
    output = config.output_path
    records = [record_path(output, _NAME)] if config.resume else []
    config, threads = settle(config, records)
    if config.output is None and not Path(config.checkpoint).is_dir():
        raise MissingFileError(
            config.checkpoint,
            "Give the folder of a checkpoint; for a model on the hub, name the file of results "
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
    rows = rows_of(data.examples, config.data_subset)
    with exclusive(output), cpu_threads(threads):
        model = load_model(config.checkpoint, config)
        _labels(model.likelihood, data.examples, config.data_path)  # errors before any scoring
        models = {_NAME: partial(run_here, lambda: model, config.checkpoint)}
        how = {"on_malformed": config.on_malformed}
        counts = write_scores(
            lambda: rows, models, output, config, how, total=len(rows), allow_empty=False
        )
        data.report.rows += len(rows) - len(data.examples)
        data.report.too_long += counts.dropped
        data.report.kept = len(rows) - counts.dropped
        scored = read_scored(output)
        metrics, votes = measure(scored, model.likelihood, output, config.seed)
        unscored = f"{counts}." if counts.unscored else ""
        data.report.warn_of_losses(counts.dropped, len(scored.examples) / len(rows), unscored)
        found = {"metrics": metrics, "votes": to_plain(votes), "read": data.report.to_dict()}
        found["counts"] = dataclasses.asdict(counts)
        write_json(output.with_name(f"{output.name}.metrics.json"), found)
        write_yaml_config(output.with_name(f"{output.name}.config.yaml"), config)
    return EvaluationResult(output, metrics, counts, data.report, votes)


def warn_of_trained_rows(config: EvaluateConfig) -> None:
    """Warn if an evaluation covers more than the part of the data that training held out.

    The ``training_config.yaml`` of a local checkpoint says what training did. Without that file, or
    with other data, there is no warning.
    """
    trained = _training_options(Path(config.checkpoint) / TRAINING_CONFIG)
    fraction = _fraction_held_out(trained, config)
    if not fraction:
        return
    by, balance = trained.get("split_by"), trained.get("split_balance")
    balanced = balance not in _NO_BALANCE
    same = config.split_by == by and (config.split_balance not in _NO_BALANCE) == balanced
    if same and 0 < config.eval_fraction <= fraction:
        return
    flags = f"--eval_fraction {fraction:g}" + (f" --split_by {by}" if by else "")
    if balanced:
        flags += " --split_balance" + ("" if balance == "true" else f" {balance}")
    warnings.warn(
        f"some of the evaluated rows were used to train {config.checkpoint}; {flags} takes only "
        "the rows that its training held out.",
        HiddenContextWarning,
        stacklevel=3,
    )


def _training_options(path: Path) -> dict[str, Any]:
    import yaml

    if not path.is_file():
        return {}
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def _fraction_held_out(trained: dict[str, Any], config: EvaluateConfig) -> float:
    """Return the share of the evaluated split that training held out, or 0."""
    path = trained.get("data_path")
    if path != config.data_path and Path(str(path)).resolve() != Path(config.data_path).resolve():
        return 0.0
    splits = trained.get("train_split"), trained.get("eval_split")
    single = is_single_table(config.data_path)
    fraction = trained.get("eval_fraction")
    if fraction is None:
        fraction = DEFAULT_EVAL_FRACTION if single or splits[0] == splits[1] else 0.0
    # a fraction means that training found only one of its two splits, and divided it
    return float(fraction) if single or config.eval_split in splits else 0.0
