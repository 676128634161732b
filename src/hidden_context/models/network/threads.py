"""Number of threads: as many as PyTorch would take, or fewer where that is faster.

PyTorch counts the machine's processors. In a container with a limited share of the processors, or
on a busy machine, so many threads wait for each other.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Final

import torch

from hidden_context.errors import HiddenContextWarning
from hidden_context.models.network.precision import MARGIN, seconds_of_layer

SLOW: Final = 1.5
"""A requested number brings a warning if fewer threads are this many times as fast."""


@contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """Let PyTorch use this many threads inside the block; None or 0 changes nothing."""
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def usable_cpus(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Count the processors that this process may keep busy: by its affinity and its quota.

    Args:
        cgroup: Folder of the control group.
    """
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        count = os.cpu_count() or 1
    quota = _quota(cgroup)
    return count if quota is None else max(1, min(count, math.ceil(quota)))


def _quota(cgroup: Path) -> float | None:
    """Return the processors that a control group of either version allows; None for no limit."""
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        with suppress(OSError, ValueError, ZeroDivisionError):  # not there, or "max"
            texts = [(cgroup / file).read_text(encoding="ascii") for file in files]
            quota, period = map(int, " ".join(texts).split())
            if quota / period > 0:  # -1 is no limit in the older version
                return quota / period
    return None


def candidates(most: int, cpus: int) -> list[int]:
    """Return the numbers of threads to compare, the largest first.

    >>> candidates(16, 16), candidates(16, 2), candidates(1, 16)
    ([16, 8, 1], [16, 2, 1], [1])

    Args:
        most: What is in use.
        cpus: Processors that may be kept busy.
    """
    usable = min(most, cpus)
    return sorted({most, usable, max(1, usable // 2), 1}, reverse=True)


def choose(seconds: Mapping[int, float], margin: float = MARGIN) -> int:
    """Choose a number of threads: the largest, unless fewer are faster by a margin.

    >>> choose({16: 9e-3, 2: 2e-3, 1: 3e-3}), choose({2: 1.0e-3, 1: 1.1e-3})
    (2, 2)

    Args:
        seconds: Seconds of the same work by the number of threads.
        margin: How many times as fast fewer have to be.
    """
    most, best = max(seconds), min(seconds, key=lambda count: (seconds[count], count))
    return best if seconds[most] >= margin * seconds[best] else most


@lru_cache
def measure(counts: tuple[int, ...]) -> dict[int, float]:
    """Time a layer's products in float32 with each number of threads, once per process."""
    found = {}
    for count in counts:
        with cpu_threads(count):
            found[count] = seconds_of_layer(torch.device("cpu"), torch.float32, rows=256)
    return found


def settle_threads(wanted: int | None) -> int:
    """Choose the number of threads for a run on a processor.

    A number that was set by an option or by ``OMP_NUM_THREADS`` is used, with a warning if fewer
    threads are much faster. A number within the available processors gets no such check.

    Args:
        wanted: The requested number, or None to choose: at most as many as are in use.

    Returns:
        The number.
    """
    asked = wanted if wanted is not None else _of_environment()
    most = wanted if wanted is not None else torch.get_num_threads()
    cpus = usable_cpus()
    counts = tuple(candidates(most, cpus))
    if len(counts) == 1 or (asked is not None and most <= cpus):
        return most
    seconds = measure(counts)
    if asked is None:
        return choose(seconds)
    best = choose(seconds, SLOW)
    if best != most:
        name = "OMP_NUM_THREADS is" if wanted is None else "--threads is"
        are = "thread is" if best == 1 else "threads are"
        shown = ", ".join(f"{count}: {1000 * value:.3g} ms" for count, value in seconds.items())
        warnings.warn(
            f"{name} {most}, but {best} {are} {seconds[most] / seconds[best]:.1f} times as fast "
            f"on this machine, where this process may use {cpus} (measured: a layer's products, "
            f"{shown}); use --threads {best}.",
            HiddenContextWarning,
            stacklevel=2,
        )
    return most


def _of_environment() -> int | None:
    text = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(text) if text.isdigit() and int(text) else None
