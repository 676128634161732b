"""Precision and threads of a run: given, kept from the start of a resumed run, or chosen."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from typing import Final

import torch

from hidden_context.errors import CheckpointError
from hidden_context.models.network.precision import (
    Name,
    for_training,
    resolve_device,
    resolve_dtype,
    warn_if_slow,
    width_of,
)
from hidden_context.models.network.threads import settle_threads, usable_cpus
from hidden_context.models.network.weights import load_config
from hidden_context.training.config import BackboneOptions, TrainConfig
from hidden_context.training.fitted import is_first_process, num_processes
from hidden_context.training.resume import resume_wanted, stored_run

_NAMES: Final[tuple[Name, ...]] = ("float32", "bfloat16")


def threads_of(config: TrainConfig) -> int | None:
    """Return the number of CPU threads of a run; None leaves PyTorch's number.

    A resumed run keeps its number of threads if the machine has that many, because sums over
    another number of threads round differently.

    Args:
        config: The options.
    """
    if config.threads is None:
        if num_processes() > 1 or _device(config).type != "cpu":
            return None  # a launcher divides the processors, and a GPU needs no threads
        kept = _kept(config, "threads")
        if isinstance(kept, int) and 0 < kept <= usable_cpus():
            return kept
    return settle_threads(config.threads)


def with_precision(config: TrainConfig) -> TrainConfig:
    """Settle the precision of a run if the options leave it open.

    A resumed run keeps its precision. Otherwise the precision that is fast on this machine is
    chosen (see ``models.network.precision``), with three exceptions: features of a frozen backbone
    have to come out the same when they are scored, several processes have to agree, and DeepSpeed
    or float16 may set mixed precision.

    Args:
        config: The options.

    Returns:
        The options with ``precision`` float32 or bfloat16. A warning says where bfloat16, kept or
        asked for, is slow here.
    """
    device, stored = _device(config), _kept(config, "precision")
    kept = next((name for name in _NAMES if name == stored), None)
    if config.precision == "auto" and kept is None:
        return dataclasses.replace(config, precision=_chosen(config, device))
    if config.precision == "auto" and kept is not None:
        config = dataclasses.replace(config, precision=kept)
    if config.bf16 and is_first_process():
        keeps = "a resumed run keeps its precision"
        warn_if_slow(
            torch.bfloat16,
            device,
            _width(config),
            backward=not config.freeze_backbone,
            remedy="take --precision float32" if kept is None else keeps,
        )
    return config


def _chosen(config: TrainConfig, device: torch.device) -> Name:
    """Choose a precision, and print it if it was measured to be faster than float32."""
    if config.freeze_backbone:
        return "bfloat16" if resolve_dtype("auto", device) is torch.bfloat16 else "float32"
    if config.deepspeed or config.training_arguments.get("fp16"):
        return "float32"
    width = _width(config) if num_processes() == 1 else None
    precision, timings = for_training(device, width)
    if timings is not None and precision == "bfloat16" and not config.quiet:  # a single process
        times = f"{timings.speedup(precision):.1f} times as fast as float32"
        print(f"precision: bfloat16, {times} (measured: {timings})", file=sys.stderr)
    return precision


def _device(config: TrainConfig) -> torch.device:
    """Device of the run, by Transformers' rules."""
    return torch.device("cpu") if config.training_arguments.get("use_cpu") else resolve_device()


def _width(config: BackboneOptions) -> int | None:
    """Width of the backbone; None if it cannot be loaded, which is reported later."""
    with contextlib.suppress(CheckpointError):
        return width_of(
            load_config(
                config.model_name,
                revision=config.revision,
                trust_remote_code=config.trust_remote_code,
            )
        )
    return None


def _kept(config: TrainConfig, name: str) -> object:
    """Return the value that a resumed run began with for an option, or None."""
    if config.freeze_backbone or resume_wanted(config) is False:
        return None
    stored = stored_run(config)[1] or {}
    options = stored.get("options")
    return stored.get(name, options.get(name) if isinstance(options, dict) else None)
