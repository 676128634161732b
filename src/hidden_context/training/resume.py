"""Resuming a run: the point to resume from, and the check that it is the same run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from transformers.trainer_utils import get_last_checkpoint

from hidden_context.config import by_present_names
from hidden_context.data.example import Example
from hidden_context.data.splits.held_out import Splits
from hidden_context.data.tokens.cache import day_of, tokenizer_digest
from hidden_context.errors import CheckpointError, HiddenContextWarning, MissingFileError
from hidden_context.models.checkpoint.contents import read_checkpoint_json
from hidden_context.models.checkpoint.identity import weight_digests
from hidden_context.training.config import OutputOptions, TrainConfig
from hidden_context.training.dataset import load_run_tokenizer
from hidden_context.training.fitted import num_processes

RUN_FILE: Final = "run.json"
MEMBERS_FILE: Final = "members.json"
_FORMAT: Final = 1

# Options that may change when a run is resumed: the change is printed, or has no influence.
# A change of any other option is refused.
_PRINTED: Final = {
    *("num_train_epochs", "max_steps", "logging_steps", "eval_steps", "eval_first_step"),
    *("evaluate_at_end", "save_steps", "save_total_limit", "per_device_eval_batch_size"),
    *("tokens_per_batch", "engine", "pad_to_multiple_of", "gradient_checkpointing", "deepspeed"),
    *("early_stopping_patience", "min_judgements"),
}
_WITHOUT_INFLUENCE: Final = {
    *("output_dir", "final_dir", "cache_dir", "resume_from_checkpoint", "report_to", "quiet"),
    *("disable_tqdm", "local_rank", "push_to_hub", "hub_model_id", "trust_remote_code"),
    "threads",  # the number in use is compared
}
# Options that are compared by the content they name.
_CONTENTS: Final = {
    "data": (
        *("data_path", "data_subset", "train_split", "eval_split", "eval_fraction", "split_by"),
        *("split_balance", "validation_fraction", "train_dataset_size", "eval_dataset_size"),
        "on_malformed",
    ),
    "tokenizer": ("tokenizer_name", "chat_template"),
    "backbone": ("model_name", "revision"),
}
_OF_A_STEP: Final = ("per_device_train_batch_size", "gradient_accumulation_steps")
# Beginnings of the names of Transformers' arguments that change no number.
_FREE_ARGUMENTS: Final = (
    *("log", "save_", "eval_", "report_to", "run_name", "project", "disable_tqdm", "dataloader_"),
    *("ddp_", "hub_", "push_to_hub", "num_train_epochs", "max_steps", "output_dir", "local_rank"),
    *("gradient_checkpointing", "activation_checkpointing", "trackio_", "use_cpu", "no_cuda"),
)


def resume_wanted(config: OutputOptions) -> bool | str:
    """Read ``resume_from_checkpoint``: False, True for the last checkpoint, or a folder."""
    wanted = str(config.resume_from_checkpoint or "false")
    if wanted.lower() in ("false", "no", "0", "none"):
        return False
    return wanted.lower() in ("true", "yes", "1") or wanted


def last_checkpoint(folder: str | Path) -> str | None:
    """Return the folder of the last checkpoint within a run's folder, or None."""
    return get_last_checkpoint(str(folder)) if Path(folder).is_dir() else None


def resume_point(config: OutputOptions) -> str | None:
    """Return the folder of the checkpoint to resume from, or None.

    Raises:
        MissingFileError: If there is none where one was asked for.
    """
    wanted = resume_wanted(config)
    if wanted is False:
        return None
    if wanted is True:
        last = last_checkpoint(config.output_dir)
        if last is None:
            raise MissingFileError(
                f"{config.output_dir}/checkpoint-*", "Nothing to resume: train without it first"
            )
        return last
    if not Path(wanted).is_dir():
        raise MissingFileError(wanted, "Give --resume_from_checkpoint a checkpoint's folder")
    return wanted


def describe_run(config: TrainConfig, splits: Splits) -> dict[str, Any]:
    """Describe everything that changes a run's numbers, for its checkpoints.

    Args:
        config: The options.
        splits: The examples.
    """
    tokenizer = load_run_tokenizer(config)
    sets = {"training": splits.train, "validation": splits.validation, "evaluation": splits.test}
    options = dataclasses.asdict(config)
    return {
        "format": _FORMAT,
        "options": {n: value for n, value in options.items() if n not in _WITHOUT_INFLUENCE},
        "processes": num_processes(),
        "threads": torch.get_num_threads(),
        "day": day_of(tokenizer.chat_template),
        "data": {name: _digest(part, config.annotator_column) for name, part in sets.items()},
        "tokenizer": tokenizer_digest(tokenizer),
        "backbone": weight_digests(config.model_name, revision=config.revision),
    }


def _digest(examples: Sequence[Example], annotator_column: str) -> str:
    """Compute a digest of what training reads from the examples, in order."""
    digest = hashlib.blake2b(digest_size=20)
    for each in examples:
        said = [(one, one.columns.get(annotator_column)) for one in each.judgements]
        content = [each.texts, each.tools, said, each.data_subset, each.objective]
        digest.update(json.dumps(content, sort_keys=True, default=repr).encode() + b"\n")
    return digest.hexdigest()


def check_same_run(config: TrainConfig, run: Mapping[str, Any]) -> None:
    """Check that a resumed run is the run that wrote its checkpoint.

    Prints the differences that are allowed: length, intervals, processes, and how examples are run.

    Args:
        config: The options.
        run: Description of the run by ``describe_run``.

    Raises:
        MissingFileError: If there is nothing to resume.
        CheckpointError: If data, options or models are others, naming them.
    """
    if resume_wanted(config) is False:
        return
    place, stored = stored_run(config)
    if stored is None:
        warnings.warn(
            f"{place} was written by an earlier version and has no record of its options. Resume "
            "it only with the same data and options.",
            HiddenContextWarning,
            stacklevel=3,
        )
        return
    if stored.get("format") != _FORMAT:
        raise CheckpointError(
            f"{place} has format {stored.get('format')}, but this version reads {_FORMAT}; upgrade "
            "hidden-context."
        )
    if not isinstance(stored.get("options"), dict) or not {"processes", *_CONTENTS} <= {*stored}:
        raise CheckpointError(
            f"{place} is damaged: its record is incomplete. Give another checkpoint."
        )
    refused, printed = _compare(stored, run, grows=config.ensemble == "lora")
    if refused:
        raise CheckpointError(
            f"{place} was trained with other options or data: {'; '.join(refused)}. To resume it, "
            "give its original options; to start again, leave out --resume_from_checkpoint and "
            "name another --output_dir."
        )
    if printed:
        print(f"resuming {place} with other options: {'; '.join(printed)}", file=sys.stderr)


def stored_run(config: TrainConfig) -> tuple[Path, dict[str, Any] | None]:
    """Return where a run's description is stored, and the description if it exists.

    Args:
        config: The options of a run that is to go on.

    Raises:
        MissingFileError: If there is nothing to resume.
        CheckpointError: If the description is damaged.
    """
    if config.ensemble == "lora":
        place = Path(config.output_dir) / MEMBERS_FILE
        stored = read_checkpoint_json(place).get("run") if place.is_file() else None
    else:
        place = Path(resume_point(config) or config.output_dir)
        file = place / RUN_FILE
        stored = read_checkpoint_json(file) if file.is_file() else None
    if stored is not None and isinstance(stored.get("options"), dict):
        stored["options"] = by_present_names(stored["options"], TrainConfig)
    return place, stored


def _compare(
    old: Mapping[str, Any], new: Mapping[str, Any], *, grows: bool
) -> tuple[list[str], list[str]]:
    """List differences between two runs: the refused ones, and the ones that are only printed."""
    # an option that an earlier version lacked has its default
    before = _flat(dataclasses.asdict(TrainConfig()) | dict(old["options"]))
    after = _flat(new["options"])
    by_content = {name for names in _CONTENTS.values() for name in names}
    free = _PRINTED | ({"ensemble_members"} if grows else set())
    if {*_votes(old)} & {*_votes(new)}:
        free |= {*_OF_A_STEP}
    changes = {
        name: f"--{name} was {before.get(name)}, is {after.get(name)}"
        for name in after
        if before.get(name) != after.get(name)
    }
    refused = [text for name, text in changes.items() if name not in free | by_content]
    printed = [text for name, text in changes.items() if name in free]
    for part, options in _CONTENTS.items():
        if old[part] != new[part]:
            causes = [changes[name] for name in options if name in changes]
            names = _changed(old[part], new[part])
            what = f"{names} data differ" if part == "data" else f"{part} differs"
            within = [names] if names and part != "data" else []
            refused.append(f"the {what} ({', '.join([*causes, *within]) or 'in content'})")
    printed += [
        f"{name} was {old.get(name)}, is {new.get(name)}"
        for name in ("processes", "day", "threads")
        if old.get(name) != new.get(name) and (name in old or name != "threads")
    ]
    return refused, printed


def _flat(options: Mapping[str, Any]) -> dict[str, Any]:
    """Add Transformers' arguments that change numbers to the options."""
    flat = dict(json.loads(json.dumps(options, default=str)))
    arguments = flat.pop("training_arguments", {})
    return flat | {n: v for n, v in arguments.items() if not n.startswith(_FREE_ARGUMENTS)}


def _votes(run: Mapping[str, Any]) -> tuple[tuple[str, int], tuple[str, int]]:
    """Return the votes of an optimiser step, of one process and of all processes."""
    first, second = (int(run["options"][name]) for name in _OF_A_STEP)
    return ("one", first * second), ("all", first * second * int(run["processes"]))


def _changed(old: Any, new: Any) -> str:
    """Name the entries that differ."""
    if not isinstance(old, dict):
        return ""
    return " and ".join(sorted(name for name in {*old, *new} if old.get(name) != new.get(name)))
