"""Running a training: configuration in, trained reward model and metrics out."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hidden_context.data.example import Example
from hidden_context.data.files import write_json, write_yaml_config
from hidden_context.data.held_out import Splits, check_sides, load_splits
from hidden_context.data.importers import read_row
from hidden_context.data.merge import merge_prompts
from hidden_context.data.report import ReadReport
from hidden_context.data.sources import ExampleData, limit_examples
from hidden_context.data.splits import EVALUATION_SALT, VALIDATION_SALT, split_by_prompt
from hidden_context.errors import HiddenContextWarning
from hidden_context.models.reward_model import RewardModel
from hidden_context.training.config import TrainConfig
from hidden_context.training.fitted import is_first_process
from hidden_context.training.labels import check_labels, make_head

if TYPE_CHECKING:
    from transformers import TrainerCallback

Rows = Sequence[Example] | Sequence[Mapping[str, Any]] | Any


@dataclasses.dataclass
class TrainResult:
    """What a training gave.

    Attributes:
        model: The trained reward model.
        path: Folder it was saved to.
        metrics: Metrics on the evaluation examples (empty where there are none).
        history: The log lines of the run.
        reports: What was read and dropped, by split.
    """

    model: RewardModel
    path: Path
    metrics: dict[str, float]
    history: list[dict[str, Any]]
    reports: dict[str, ReadReport]


def as_examples(rows: Rows) -> list[Example]:
    """Bring in-memory rows (examples, dictionaries or a ``datasets.Dataset``) to examples."""
    found = []
    for number, row in enumerate(rows, start=1):
        example = row if isinstance(row, Example) else read_row(dict(row), line=number)
        if not example.source_lines:
            example = dataclasses.replace(example, source_lines=(number,))
        found.append(example)
    return found


def _in_memory(rows: Rows, name: str) -> ExampleData:
    data = ExampleData(report=ReadReport(f"{name} rows in memory"))
    for example in as_examples(rows):
        data.add(example)
    return limit_examples(data, 0)  # counts what is kept


def _hold_out(data: ExampleData, fraction: float, salt: str, name: str) -> ExampleData:
    """Move a share of prompts out of ``data`` into data of their own."""
    rest, held_out = split_by_prompt(data.examples, fraction, salt)
    check_sides(data, rest, held_out)
    part = ExampleData(held_out, data.report.part(f"held out for {name}", held_out))
    data.examples, data.report.rows = rest, data.report.rows - len(held_out)
    limit_examples(data, 0)
    return part


def split_in_memory(config: TrainConfig, train_dataset: Rows, eval_dataset: Rows) -> Splits:
    """Divide rows in memory by the options that divide those of files."""
    train, validation = _in_memory(train_dataset, "training"), ExampleData()
    if eval_dataset is not None:
        test = _in_memory(eval_dataset, "evaluation")
    elif config.eval_fraction:
        test = _hold_out(train, config.eval_fraction, EVALUATION_SALT, "eval")
    else:
        test = ExampleData()
    if config.validation_fraction:
        validation = _hold_out(train, config.validation_fraction, VALIDATION_SALT, "validation")
    limit_examples(train, config.train_dataset_size, config.seed)
    limit_examples(test, config.eval_dataset_size, config.seed)
    sets = {"train": train, "validation": validation, "test": test}
    return Splits(
        train.examples,
        validation.examples,
        test.examples,
        {name: data.report for name, data in sets.items() if data.examples},
    )


def load_run_data(
    config: TrainConfig, train_dataset: Rows = None, eval_dataset: Rows = None
) -> Splits:
    """Load the data a configuration names, or take those given; warn of prompts on both sides."""
    if train_dataset is not None:
        return split_in_memory(config, train_dataset, eval_dataset)
    splits = load_splits(
        config.data_path,
        config.data_subset,
        train_split=config.train_split,
        eval_split=config.eval_split,
        eval_fraction=config.eval_fraction,
        validation_fraction=config.validation_fraction,
        train_limit=config.train_dataset_size,
        eval_limit=config.eval_dataset_size,
        on_malformed=config.on_malformed,
        seed=config.seed,
    )
    if splits.prompt_overlap:
        warnings.warn(
            f"{splits.prompt_overlap} prompts stand in both the training and the evaluation split "
            "of this data; evaluation on them is optimistic. --train_split and --eval_fraction can "
            "divide one split by prompt instead.",
            HiddenContextWarning,
            stacklevel=2,
        )
    return splits


def _merge(splits: Splits) -> None:
    """Let training rows of one prompt be one example, whose responses are run together."""
    rows = len(splits.train)
    splits.train = merge_prompts(splits.train)
    report = splits.reports.get("train")
    if report is not None:
        report.kept -= rows - len(splits.train)
        report.merged += rows - len(splits.train)


def run(
    config: TrainConfig,
    train_dataset: Rows = None,
    eval_dataset: Rows = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> TrainResult:
    """Train a reward model.

    Args:
        config: The options.
        train_dataset: Rows in memory instead of ``config.data_path``: examples, dictionaries with
            ``chosen`` and ``rejected`` or other columns that importers know, or a
            ``datasets.Dataset``.
        eval_dataset: Rows in memory to evaluate on.
        callbacks: Further callbacks of Transformers' kind.

    Returns:
        The trained model, where it was saved, and its metrics.

    Raises:
        DataError: If data is malformed, or nothing is left of it.
        ConfigError: If options cannot work.
        CheckpointError: If the backbone cannot be loaded.
        DivergedError: If the loss or a gradient is not finite.
    """
    head = make_head(config)
    splits = load_run_data(config, train_dataset, eval_dataset)
    check_labels(config, splits.train)
    if config.merge_prompts:
        _merge(splits)
    if is_first_process():
        write_yaml_config(Path(config.output_dir) / "config.yaml", config)
    if config.freeze_backbone:
        from hidden_context.training.frozen import fit as fit_frozen

        fitted = fit_frozen(config, head, splits)
    elif config.ensemble == "lora":
        from hidden_context.training.lora_ensemble import fit as fit_lora_ensemble

        fitted = fit_lora_ensemble(config, head, splits, callbacks)
    else:
        from hidden_context.training.finetune import fit as fit_finetuned

        fitted = fit_finetuned(config, head, splits, callbacks)
    model = fitted.model
    model.card = {
        "data": {
            "source": config.data_path if train_dataset is None else "in memory",
            "subset": config.data_subset,
            **{f"{name} examples": count for name, count in fitted.examples.items()},
        },
        "metrics": fitted.metrics,
    }
    if is_first_process():
        model.save_pretrained(config.final_path)
        write_yaml_config(config.final_path / "training_config.yaml", config)
        write_json(
            Path(config.output_dir) / "metrics.json",
            {
                "metrics": fitted.metrics,
                "read": {name: report.to_dict() for name, report in splits.reports.items()},
                "history": fitted.history,
            },
        )
        if config.push_to_hub:
            _push(config)
    return TrainResult(model, config.final_path, fitted.metrics, fitted.history, splits.reports)


def _push(config: TrainConfig) -> None:
    from huggingface_hub import HfApi

    name = config.hub_model_id or Path(config.final_dir or config.output_dir).name
    api = HfApi()
    repo = api.create_repo(name, exist_ok=True, private=True)
    api.upload_folder(repo_id=repo.repo_id, folder_path=str(config.final_path))
