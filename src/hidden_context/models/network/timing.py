"""How fast a device multiplies matrices, measured on a few products of a typical layer."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from statistics import median
from typing import Final

import torch
from torch.nn import functional

WIDTH: Final = 768
"""Width of the layer that is timed: that of GPT-2 and BERT, between small and large models."""


def seconds_of(
    run: Callable[[], None],
    budget: float = 0.08,
    most: int = 15,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Time a function: the median of a few runs after a warm-up run.

    Args:
        run: What is timed; it waits for its end.
        budget: Seconds after which it is not run again; a single run tells what is slow.
        most: Most runs that count.
        clock: Gives the time in seconds.

    Returns:
        Seconds of one run; those of the first one where it spent the budget by itself.
    """
    started = before = clock()
    taken: list[float] = []
    while len(taken) <= most:
        run()
        now = clock()
        taken.append(now - before)
        before = now
        if now - started >= budget:
            break
    return median(taken[1:] or taken)


def work_clock(device: torch.device) -> Callable[[], float]:
    """Make a clock of a device's work; it stands still while other processes use the processor.

    Two precisions are compared by it: on a busy machine a product of a millisecond may well wait
    for a hundred.

    Args:
        device: The device; with the threads in use.

    Returns:
        A clock in seconds of processor time for each thread. For an accelerator, and where the
        system counts too coarsely, one of time that passes.
    """
    coarse = time.get_clock_info("process_time").resolution > 1e-5
    if device.type != "cpu" or coarse:
        return time.perf_counter
    threads = torch.get_num_threads()
    return lambda: time.process_time() / threads


def seconds_of_layer(
    device: torch.device,
    dtype: torch.dtype,
    rows: int,
    *,
    backward: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Time the product of a linear layer and, if asked, the product of its backward pass.

    The second has its matrix the other way round, at which some processors are far slower.

    Args:
        device: Where they are run, with the threads in use.
        dtype: Precision of inputs and weights.
        rows: Tokens that are multiplied together.
        backward: Whether the second is timed too.
        clock: Gives the time in seconds.

    Returns:
        Seconds; infinity where the device has no such product.
    """
    try:
        inputs = torch.ones(rows, WIDTH, dtype=dtype, device=device)
        weight = torch.ones(WIDTH, WIDTH, dtype=dtype, device=device) / WIDTH

        def run() -> None:
            outputs = functional.linear(inputs, weight)
            if backward:
                torch.mm(outputs, weight)
            synchronize(device)

        with torch.inference_mode():
            return seconds_of(run, clock=clock)
    except (RuntimeError, TypeError):  # such as bfloat16 on an early release of macOS
        return math.inf


def synchronize(device: torch.device) -> None:
    """Wait until an accelerator has finished its work; a processor needs no waiting."""
    if device.type != "cpu":
        getattr(torch, device.type).synchronize()
