"""The workflow of the quickstart: world, backbone, nine reward models, tables and figures."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import torch
from transformers import TrainerCallback

from hidden_context import heads, worlds
from hidden_context.analysis.config import SummarizeConfig
from hidden_context.data.storage.files import iter_jsonl, write_json, write_jsonl, write_yaml_config
from hidden_context.data.storage.locks import exclusive_folder
from hidden_context.paper.summary import Summary
from hidden_context.paper.workflow import EVALUATION_NAME
from hidden_context.paper.workflow import run as summarize
from hidden_context.progress import stage
from hidden_context.quickstart.config import QuickstartConfig
from hidden_context.quickstart.truth import (
    KindPair,
    Truth,
    best_accuracy,
    mean_absolute_error,
    preference_table,
    truth_of,
)
from hidden_context.report.config import ReportConfig
from hidden_context.report.workflow import run as make_report
from hidden_context.scoring.config import EvaluateConfig, ScoreConfig
from hidden_context.scoring.evaluation import EvaluationResult, evaluate
from hidden_context.scoring.files import score_file
from hidden_context.training.config import TrainConfig
from hidden_context.training.workflow import run as train
from hidden_context.worlds.dialogues import Split, World
from hidden_context.worlds.language_model import BackboneConfig, build_backbone
from hidden_context.worlds.utilities import TRAIN_SETS, TrainSet

Models: TypeAlias = dict[tuple[str, TrainSet], Path]
"""Folders of models by the type of their head and whose comparisons they were trained on."""


@dataclasses.dataclass
class ModelRecord:
    """The learned values of one model beside the truth that comparisons identify.

    Attributes:
        reward_model_type: Type of its head.
        train_set: The annotators of its training comparisons.
        path: The folder of the model.
        loss: Loss in nats on the test comparisons of both kinds of annotator.
        accuracy: Accuracy on the same comparisons.
        probability_error: Mean |learned − true| P(chosen ≻ rejected) on the same texts, with the
            truth of the annotators of its training comparisons.
        preferences: Learned and true P by pair of kinds.
        rewards: Mean and standard deviation of the reward by kind, averaged over texts and
            standardised by the model's mean rewards on the test texts.
    """

    reward_model_type: str
    train_set: TrainSet
    path: str
    loss: float
    accuracy: float
    probability_error: float
    preferences: list[KindPair]
    rewards: dict[str, tuple[float, float]]


@dataclasses.dataclass
class QuickstartResult:
    """Result of the quickstart.

    Attributes:
        config: The options.
        summary: The paper's tables for the nine models.
        truth: The world's true values of the same numbers, by train set.
        records: The learned values of each model.
        best_accuracy: Accuracy on the test comparisons that no model can beat in expectation.
        seconds: Wall time.
    """

    config: QuickstartConfig
    summary: Summary
    truth: dict[str, Truth]
    records: list[ModelRecord]
    best_accuracy: float
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form of ``results.json``."""
        return {
            "format": "hidden_context.quickstart",
            "version": 1,
            "config": dataclasses.asdict(self.config),
            "truth": {name: dataclasses.asdict(truth) for name, truth in self.truth.items()},
            "models": [dataclasses.asdict(record) for record in self.records],
            "best_accuracy": self.best_accuracy,
            "tables": self.summary.to_dict(),
            "seconds": self.seconds,
        }


def _rows(path: str | Path) -> list[dict[str, Any]]:
    return [row for _, row in iter_jsonl(path)]


def run(config: QuickstartConfig) -> QuickstartResult:
    """Generate the world, train the nine models, and compare them with the truth.

    Args:
        config: The options.

    Returns:
        Tables, records and the truth; data, models, scores, figures and ``results.json`` are in
        ``config.output_dir``.

    Raises:
        ConfigError: If options cannot work.
        StorageError: If results cannot be written.
    """
    with exclusive_folder(config.output_dir):
        return _run(config)


def _run(config: QuickstartConfig) -> QuickstartResult:
    started = time.perf_counter()
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    folder = config.folder
    write_yaml_config(folder / "config.yaml", config)
    world: World = worlds.make("dialogues", seed=config.seed, helpful_share=config.helpful_share)
    _write_data(world, config)
    models = _train_all(config, _backbone(config))
    records = _evaluate_all(config, world, models)
    places = {"data_dir": str(folder), "jailbreak_dir": str(folder)}
    models_dir = str(folder / "models")
    summary = summarize(SummarizeConfig(alpha=config.alpha, reward_models_dir=models_dir, **places))
    test = _rows(folder / "data" / "both" / "test.jsonl")
    jailbreaks = _rows(folder / "data" / "jailbreaks.jsonl")
    result = QuickstartResult(
        config,
        summary,
        {
            name: truth_of(world.annotators(name), test, jailbreaks, config.alpha)
            for name in TRAIN_SETS
        },
        records,
        best_accuracy(test, world.annotators("both")),
        time.perf_counter() - started,
    )
    write_json(folder / "results.json", result.to_dict())
    # on the models with a variance that learned from both objectives
    report = ReportConfig(
        files=[str(models[kind, "both"] / EVALUATION_NAME) for kind in heads.PAPER_TYPES[1:]],
        output=str(folder / "report.html"),
        title="Quickstart: hidden context in a generated world",
        resamples=499,
        seed=config.seed,
    )
    make_report(report, summary)
    return result


def _write_data(world: World, config: QuickstartConfig) -> None:
    folder = config.folder / "data"
    sizes: dict[Split, int] = {"train": config.comparisons, "test": config.test_comparisons}
    for train_set in TRAIN_SETS:
        for split, size in sizes.items():
            rows = world.generate_comparisons(size, train_set, split)
            write_jsonl(folder / train_set / f"{split}.jsonl", rows)
    write_jsonl(folder / "jailbreaks.jsonl", world.jailbreak_rows(config.jailbreaks))


class _Steps(TrainerCallback):
    """A callback that reports each optimiser step of a training."""

    def __init__(self, advance: Callable[[int], object]) -> None:
        self.advance = advance

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.advance(1)


def _backbone(config: QuickstartConfig) -> Path:
    rows = _rows(config.folder / "data" / "both" / "train.jsonl")
    texts = [row[side] for row in rows for side in ("chosen", "rejected")]
    shape = BackboneConfig(seed=config.seed, pretraining_steps=config.pretraining_steps)
    name, steps = "small language model", config.pretraining_steps
    with stage(name, steps, disable=config.disable_progress) as advance:
        return build_backbone(config.folder / "backbone", texts, shape, advance)


def train_config(
    config: QuickstartConfig, backbone: Path, head_type: str, train_set: str
) -> TrainConfig:
    """Return the options of one of the nine trainings, as for ``hidden-context train``."""
    name = f"{head_type}_quickstart_peft_last_checkpoint"
    every = max(1, config.total_steps // config.evaluations)
    return TrainConfig(
        data_path=str(config.folder / "data"),
        data_subset=train_set,
        model_name=str(backbone.resolve()),
        reward_model_type=head_type,
        likelihood=config.likelihood,
        validation_fraction=0.1,
        max_length=128,
        learning_rate=config.learning_rate,
        weight_decay=0.01,
        lora_dropout=0.1,  # such a small data set is soon memorised
        disable_dropout=False,
        length_window=0,  # all of its texts are short
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=128,
        max_steps=config.total_steps,
        eval_steps=every,
        save_steps=every,
        save_total_limit=1,
        logging_steps=every,
        evaluate_at_end=True,
        seed=config.seed,
        quiet=True,
        output_dir=str(config.folder / "runs" / train_set / head_type),
        final_dir=str(config.folder / "models" / train_set / name),
        training_arguments={"warmup_steps": config.total_steps // 10},
    )


def _train_all(config: QuickstartConfig, backbone: Path) -> Models:
    models: Models = {}
    for train_set in TRAIN_SETS:
        for head_type in heads.PAPER_TYPES:
            options = train_config(config, backbone, head_type, train_set)
            name, steps = f"{head_type} on {train_set}", config.total_steps
            with stage(name, steps, disable=config.disable_progress) as advance:
                models[head_type, train_set] = train(options, callbacks=[_Steps(advance)]).path
    return models


def _evaluate_all(config: QuickstartConfig, world: World, models: Models) -> list[ModelRecord]:
    folder = config.folder
    data_path = str(folder / "data")
    options: dict[str, Any] = {"batch_size": 128, "device": "cpu", "disable_tqdm": True}
    total = len(models) + len(heads.PAPER_TYPES)
    records = []
    with stage("evaluation", total, disable=config.disable_progress) as advance:
        for of, path in models.items():
            found = evaluate(EvaluateConfig(checkpoint=str(path), data_path=data_path, **options))
            records.append(_record(config, world, of, found))
            advance(1)
        for head_type in heads.PAPER_TYPES:
            suffix = "" if head_type == "base" else f"_{head_type}"
            own = {name: path for (kind, name), path in models.items() if kind == head_type}
            score_file(
                ScoreConfig(
                    input=str(folder / "data" / "jailbreaks.jsonl"),
                    output=str(folder / f"jailbroken_evaluations_{head_type}.jsonl"),
                    models=[str(path) for path in own.values()],
                    names=[name + suffix for name in own],
                    kind="responses",
                    **options,
                )
            )
            advance(1)
    return records


def _record(
    config: QuickstartConfig, world: World, of: tuple[str, TrainSet], found: EvaluationResult
) -> ModelRecord:
    head_type, train_set = of
    rows = _rows(found.path)
    head = heads.make(head_type, **heads.options_for(head_type, {"likelihood": config.likelihood}))
    chosen, rejected = (
        torch.tensor([row[f"reward_output_{side}"] for row in rows], dtype=torch.float64)
        for side in ("chosen", "rejected")
    )
    learned = head.log_prob_preferred(chosen, rejected).exp().numpy()
    rewards = head.distribution(torch.cat([chosen, rejected]))
    location, scale = rewards.mean.mean(), rewards.mean.std(correction=0)
    kinds = [row[f"{side}_kind"] for side in ("chosen", "rejected") for row in rows]
    by_kind = {}
    for kind in dict.fromkeys(kinds):
        mask = torch.tensor([name == kind for name in kinds])
        mean = (rewards.mean[mask].mean() - location) / scale
        stddev = rewards.variance[mask].mean().sqrt() / scale
        by_kind[kind] = (float(mean), float(stddev))
    annotators = world.annotators(train_set)
    return ModelRecord(
        head_type,
        train_set,
        str(found.path.parent),
        found.metrics["loss"],
        found.metrics["accuracy"],
        mean_absolute_error(rows, learned, annotators),
        preference_table(rows, learned, annotators),
        by_kind,
    )
