"""Running a training: configuration in, trained reward model and metrics out."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hidden_context.data.example import Example
from hidden_context.data.importers import read_row
from hidden_context.data.report import ReadReport
from hidden_context.data.reshape import merge_prompts
from hidden_context.data.sources import ExampleData, limit_examples
from hidden_context.data.splits.division import SplitOptions
from hidden_context.data.splits.held_out import Splits, divide_sets, load_splits
from hidden_context.data.storage.files import write_json, write_yaml_config
from hidden_context.data.storage.locks import exclusive, exclusive_folder
from hidden_context.errors import (
    ConfigError,
    HiddenContextWarning,
    MissingDependencyError,
    first_line,
)
from hidden_context.heads import Head
from hidden_context.models.network.threads import cpu_threads
from hidden_context.training.config import TrainConfig
from hidden_context.training.fitted import Fitted, is_first_process
from hidden_context.training.labels import check_labels, make_head
from hidden_context.training.settle import threads_of, with_precision

if TYPE_CHECKING:
    from transformers import TrainerCallback

Rows = Sequence[Example] | Sequence[Mapping[str, Any]] | Any


@dataclasses.dataclass(kw_only=True)
class TrainResult(Fitted):
    """Result of a training: the fitted model, its metrics and history, and its folder.

    Attributes:
        path: Folder it was saved to.
        reports: Counts of what was read and dropped, by split.
    """

    path: Path
    reports: dict[str, ReadReport]


def as_examples(rows: Rows) -> list[Example]:
    """Convert in-memory rows (examples, dictionaries or a ``datasets.Dataset``) to examples."""
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


def load_run_data(
    config: TrainConfig, train_dataset: Rows = None, eval_dataset: Rows = None
) -> Splits:
    """Load a configuration's data or take the given rows, and warn of prompts in both splits."""
    shared: dict[str, Any] = {
        "validation_fraction": config.validation_fraction,
        "train_limit": config.train_dataset_size,
        "eval_limit": config.eval_dataset_size,
        "seed": config.seed,
        "options": SplitOptions.of(config.split_by, config.split_balance, config.data_path),
    }
    if train_dataset is not None:
        splits = divide_sets(
            _in_memory(train_dataset, "training"),
            None if eval_dataset is None else _in_memory(eval_dataset, "evaluation"),
            eval_fraction=config.eval_fraction or 0,
            **shared,
        )
    else:
        splits = load_splits(
            config.data_path,
            config.data_subset,
            train_split=config.train_split,
            eval_split=config.eval_split,
            eval_fraction=config.eval_fraction,
            on_malformed=config.on_malformed,
            **shared,
        )
    if splits.prompt_overlap:
        what = "prompts" if config.split_by is None else f"values of {config.split_by!r}"
        warnings.warn(
            f"{splits.prompt_overlap} {what} are in both the training and the evaluation split "
            "of this data; evaluation on them is optimistic. --train_split and --eval_fraction can "
            "divide one split instead.",
            HiddenContextWarning,
            stacklevel=2,
        )
    return splits


def _merge(splits: Splits) -> None:
    """Merge training rows of one prompt into one example, whose responses are run together."""
    rows = len(splits.train)
    apart = None if splits.options.by is None else splits.options.keys(splits.train)
    splits.train = merge_prompts(splits.train, apart)
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
        DataError: If data is malformed, or no example is left.
        ConfigError: If options cannot work.
        CheckpointError: If the backbone cannot be loaded.
        DivergedError: If the loss or a gradient is not finite.
        MissingDependencyError: If an experiment tracker is not installed.
        StorageError: If another process trains into the same folder.
    """
    _check_reporters(config)
    head = make_head(config)
    splits = load_run_data(config, train_dataset, eval_dataset)
    check_labels(config, splits.train)
    source = config.data_path if train_dataset is None else "in memory"
    with contextlib.ExitStack() as held:
        if is_first_process():
            held.enter_context(exclusive_folder(config.output_dir))
            held.enter_context(exclusive(config.final_path))
        held.enter_context(cpu_threads(threads_of(config)))
        return _train(with_precision(config), head, splits, callbacks, source)


def _train(
    config: TrainConfig,
    head: Head,
    splits: Splits,
    callbacks: Sequence[TrainerCallback],
    source: str,
) -> TrainResult:
    """Fit the model and save it; the first process writes."""
    description = _description(config, splits) if is_first_process() else None
    if config.merge_prompts:
        _merge(splits)
    if is_first_process():
        write_yaml_config(Path(config.output_dir) / "config.yaml", config)
    if config.freeze_backbone:
        from hidden_context.training.frozen.fit import fit as fit_frozen

        fitted = fit_frozen(config, head, splits)
    elif config.ensemble == "lora":
        from hidden_context.training.lora_ensemble import fit as fit_lora_ensemble

        fitted = fit_lora_ensemble(config, head, splits, callbacks, description)
    else:
        from hidden_context.training.finetune import fit as fit_finetuned

        fitted = fit_finetuned(config, head, splits, callbacks, description)
    model = fitted.model
    model.card = {
        "data": {
            "source": source,
            "subset": config.data_subset,
            **{f"{name} examples": count for name, count in fitted.examples.items()},
        },
        "metrics": fitted.metrics,
        "precision": config.precision,
    }
    if is_first_process():
        model.save_pretrained(config.final_path)
        write_yaml_config(config.final_path / "training_config.yaml", config)
        write_json(
            Path(config.output_dir) / "metrics.json",
            {
                "metrics": fitted.metrics,
                "baselines": fitted.baselines,
                "read": {name: report.to_dict() for name, report in splits.reports.items()},
                "history": fitted.history,
            },
        )
        if config.push_to_hub:
            from huggingface_hub import HfApi

            name = config.hub_model_id or Path(config.final_dir or config.output_dir).name
            api = HfApi()
            repo = api.create_repo(name, exist_ok=True, private=True)
            api.upload_folder(repo_id=repo.repo_id, folder_path=str(config.final_path))
    return TrainResult(**vars(fitted), path=config.final_path, reports=splits.reports)


def _description(config: TrainConfig, splits: Splits) -> dict[str, Any] | None:
    """Describe the run, and refuse to resume another; None for a frozen backbone."""
    from hidden_context.training.resume import check_same_run, describe_run, resume_wanted

    if config.freeze_backbone:
        if resume_wanted(config):
            raise ConfigError(
                "--resume_from_checkpoint has nothing to resume with --freeze_backbone: "
                "features are cached, and the probe trains in seconds."
            )
        return None
    description = describe_run(config, splits)
    check_same_run(config, description)
    return description


def _check_reporters(config: TrainConfig) -> None:
    """Check that the experiment trackers that a run names are known and installed."""
    wanted = config.training_arguments.get("report_to", config.report_to) or ()
    names = {wanted} if isinstance(wanted, str) else {*wanted}
    for name in sorted(names - {"none", "all"}):  # "all" takes what is installed
        from transformers.integrations import get_reporting_integration_callbacks

        try:
            for kind in get_reporting_integration_callbacks([name]):
                kind()
        except ValueError as error:
            raise ConfigError(f"--report_to {name}: {first_line(error)}") from error
        except (RuntimeError, ImportError) as error:
            raise MissingDependencyError(
                f"--report_to {name} cannot be used: {first_line(error).rstrip('.')}, or leave "
                "--report_to out."
            ) from error
