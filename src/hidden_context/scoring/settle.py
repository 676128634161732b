"""Precision and threads of a scoring: what was asked for, what it was begun with, or a choice."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar, get_args

from hidden_context.models.placement import resolve_device, resolve_dtype
from hidden_context.models.threads import settle_threads, usable_cpus
from hidden_context.scoring.config import ModelOptions, Precision
from hidden_context.scoring.partial import read_header

OptionsT = TypeVar("OptionsT", bound=ModelOptions)


def settle(
    options: OptionsT, records: Iterable[Path] = (), *, here: bool = True
) -> tuple[OptionsT, int | None]:
    """Name the precision where the options leave it open, and choose the threads.

    A scoring that goes on keeps the precision that its record was begun with, and its threads as
    far as the machine has so many: both change how rewards are rounded.

    Args:
        options: The options.
        records: Where records of unfinished scorings would lie; none where they do not count.
        here: Whether the models run in this process; elsewhere each place chooses for itself.

    Returns:
        The options with ``precision`` named, and threads of the processor; None leaves the number
        that PyTorch has.
    """
    kept: dict[str, Any] = next(filter(None, map(read_header, records)), {})
    scoring = kept.get("scoring")
    begun = scoring if isinstance(scoring, dict) else {}
    device = resolve_device(options.device) if here else None
    if options.precision == "auto":
        precision = None
        if device is None or begun.get("device") == device.type:
            precision = _name(begun.get("dtype"))
        if precision is None and device is not None:
            precision = _name(resolve_dtype("auto", device))
        if precision is not None:
            options = dataclasses.replace(options, precision=precision)
    if device is None:
        return options, None
    if options.threads is None:
        if device.type != "cpu":
            return options, None
        threads = kept.get("threads")
        if isinstance(threads, int) and 0 < threads <= usable_cpus():
            return options, threads
    return options, settle_threads(options.threads)


def _name(dtype: object) -> Precision | None:
    """Name a precision that is known as PyTorch writes it."""
    return next((name for name in get_args(Precision) if str(dtype) == f"torch.{name}"), None)
