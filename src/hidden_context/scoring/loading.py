"""Loading the models that score: head, precision and threads."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar, get_args

from hidden_context import heads
from hidden_context.errors import CheckpointError, ConfigError, MissingFileError
from hidden_context.likelihood import Likelihood
from hidden_context.models.checkpoint.contents import CONFIGS, find_file
from hidden_context.models.checkpoint.head_file import HEAD_FILE, HeadFile
from hidden_context.models.checkpoint.likelihood_file import load_likelihood
from hidden_context.models.engine.forward import classifier_of
from hidden_context.models.frozen import FrozenRewardModel
from hidden_context.models.network.precision import (
    resolve_device,
    resolve_dtype,
    warn_if_slow,
    width_of,
)
from hidden_context.models.network.threads import settle_threads, usable_cpus
from hidden_context.models.network.weights import load_config
from hidden_context.models.reward_model import RewardModel
from hidden_context.models.sequence import SequenceRewardModel
from hidden_context.scoring.config import ModelOptions, Precision
from hidden_context.scoring.record import read_header

OptionsT = TypeVar("OptionsT", bound=ModelOptions)


def wanted_head(options: ModelOptions) -> heads.Head | None:
    """Return the head that the options name, or None if they leave it to the checkpoint."""
    if options.head is None:
        if options.num_outputs is None:
            return None
        return heads.for_num_outputs(options.num_outputs, likelihood=options.likelihood)
    if options.num_outputs is None:
        available = {"likelihood": options.likelihood}
        return heads.make(options.head, **heads.options_for(options.head, available))
    head = heads.for_width(options.head, options.num_outputs, likelihood=options.likelihood)
    if options.num_outputs != head.num_outputs:
        raise ConfigError(
            f"the {head.type} head has num_outputs {head.num_outputs}, but --num_outputs is "
            f"{options.num_outputs}."
        )
    return head


def looks_local(name: str) -> bool:
    """Tell whether a name cannot be a hub id."""
    return name.startswith((".", "/", "~")) or name.count("/") > 1


def _check_local(checkpoint: str) -> None:
    """Refuse a local path without a checkpoint before it is looked for on the hub."""
    path = Path(checkpoint)
    if path.is_dir() and not any((path / name).is_file() for name in CONFIGS):
        inside = sorted(p.parent.name for name in CONFIGS for p in path.glob(f"*/{name}"))
        hint = f" There is one in {path / inside[-1]}." if inside else ""
        raise CheckpointError(
            f"{checkpoint} holds no checkpoint: none of {', '.join(CONFIGS)} is in it.{hint}"
        )
    if path.is_file():
        raise CheckpointError(f"{checkpoint} is a file; give the folder of a checkpoint.")
    beside_others = path.parent != Path(".") and path.parent.is_dir()
    if not path.exists() and (looks_local(checkpoint) or beside_others):
        raise MissingFileError(checkpoint, "Give the folder of a checkpoint, or a hub id")


def read_likelihood(checkpoint: str, options: ModelOptions) -> Likelihood:
    """Read a checkpoint's head and its annotators, thresholds and noise, but not the network.

    Raises:
        MissingFileError: If it is a local folder that is not there.
        CheckpointError: If its files are damaged.
    """
    _check_local(checkpoint)
    path = find_file(checkpoint, HEAD_FILE, options.revision)
    head = wanted_head(options) if path is None else HeadFile.load(path).head
    if head is None:
        head = heads.make("base")  # any other head has to be named
    return load_likelihood(checkpoint, head, options.revision)


def load_model(checkpoint: str, options: ModelOptions, *, reference: bool = True) -> RewardModel:
    """Load a checkpoint to score with.

    Where the checkpoint says what its head is, the options have to agree in type and size, and the
    checkpoint's likelihood is used. With ``reference`` false, the
    checkpoint's reference is not read.

    Raises:
        MissingFileError: If it is a local folder that is not there.
        CheckpointError: If it cannot be loaded, or has another number of outputs.
    """
    _check_local(checkpoint)
    head = wanted_head(options)
    head_path = find_file(checkpoint, HEAD_FILE, options.revision)
    if head is not None and head_path is not None:
        stored = HeadFile.load(head_path).head
        other_type = options.head is not None and head.type != stored.type
        if other_type or options.num_outputs not in (None, stored.num_outputs):
            raise CheckpointError(
                f"{checkpoint} has a {stored.type} head (num_outputs {stored.num_outputs}), but "
                f"{head.type} (num_outputs {head.num_outputs}) was asked for. Leave out "
                f"{'--num_outputs' if options.head is None else '--head'}, or give the "
                "checkpoint's own."
            )
        head = None
    model = RewardModel.from_pretrained(
        checkpoint,
        head=head,
        base_model=options.base_model,
        dtype=options.precision,
        device=options.device,
        max_length=options.max_length,
        tokenizer_name=options.tokenizer_name,
        revision=options.revision,
        trust_remote_code=options.trust_remote_code,
        reference=reference,
    )
    if options.precision != "auto":
        device = resolve_device(options.device)
        warn_if_slow(resolve_dtype(options.precision, device), device, _width(model))
    if options.compile:
        model.compile()
    return model


def _width(model: RewardModel) -> int | None:
    """Return the width of a model's backbone."""
    if isinstance(model, FrozenRewardModel):
        used = model.featurizer
        return width_of(load_config(used.backbone, **used.source))
    if isinstance(model, SequenceRewardModel):
        return width_of(classifier_of(model.module).config)
    return None


def settle(
    options: OptionsT, records: Iterable[Path] = (), *, here: bool = True
) -> tuple[OptionsT, int | None]:
    """Choose the precision, if the options leave it open, and the number of threads.

    A resumed scoring keeps the precision of its record, and the threads where the machine has that
    many: both change how rewards are rounded.

    Args:
        options: The options.
        records: Where records of unfinished scorings would lie; none to ignore them.
        here: Whether the models run in this process; each worker of a cluster chooses for itself.

    Returns:
        The options with ``precision`` named, and threads on the CPU; None keeps PyTorch's number.
    """
    kept: dict[str, Any] = next(filter(None, map(read_header, records)), {})
    scoring = kept.get("scoring")
    begun = scoring if isinstance(scoring, dict) else {}
    device = resolve_device(options.device) if here else None
    if options.precision == "auto":
        known = {f"torch.{name}": name for name in get_args(Precision)}
        same = device is None or begun.get("device") == device.type
        precision = known.get(str(begun.get("dtype"))) if same else None
        if precision is None and device is not None:
            precision = known.get(str(resolve_dtype("auto", device)))
        options = dataclasses.replace(options, precision=precision or "auto")
    if device is None or (options.threads is None and device.type != "cpu"):
        return options, None
    threads = kept.get("threads")
    if options.threads is None and isinstance(threads, int) and 0 < threads <= usable_cpus():
        return options, threads
    return options, settle_threads(options.threads)
