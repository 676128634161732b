"""Clocks: interleaved rounds, the machine's matrix rate, and memory."""

from __future__ import annotations

import contextlib
import gc
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata, util
from pathlib import Path
from typing import Any, NamedTuple

import torch
from kit import processor
from throughput.data import Group
from transformers import TrainerCallback

from hidden_context.models.engine.budget import is_out_of_memory, release_memory

Row = Callable[[Sequence[Group]], float]  # runs the texts and returns the seconds it took


class Key(NamedTuple):
    """Which way, in which precision."""

    row: str
    precision: str


class SkippedError(Exception):
    """A row cannot be run here; the message says why."""


def free_memory() -> None:
    """Give back what no tensor holds any more."""
    gc.collect()
    release_memory()


@contextlib.contextmanager
def device_peak(device: torch.device) -> Iterator[list[int]]:
    """Measure device memory above what is held before; nothing on a CPU."""
    found: list[int] = []
    gc.collect()
    if device.type != "cuda":
        yield found
        return
    torch.cuda.reset_peak_memory_stats(device)
    held = torch.cuda.memory_allocated(device)
    yield found
    found.append(torch.cuda.max_memory_allocated(device) - held)


@dataclass
class Timing:
    """What was measured of a row.

    Attributes:
        seconds: Seconds of each round.
        peak_bytes: Most device memory above what was held before, None on a CPU.
        skipped: Why there is nothing, or None.
    """

    seconds: list[float] = field(default_factory=list)
    peak_bytes: int | None = None
    skipped: str | None = None


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(run: Callable[[], Any], device: torch.device) -> float:
    """Time a call, waiting for the device before and after."""
    synchronize(device)
    started = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - started


class StepClock(TrainerCallback):
    """Times the steps, and keeps the loss of each step in nats."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.started: float | None = None
        self.ended = 0.0
        self.losses: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock at the first step."""
        if self.started is None:
            synchronize(self.device)
            self.started = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Take the time, in case this is the last step."""
        synchronize(self.device)
        self.ended = time.perf_counter()

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **_: Any
    ) -> None:
        """Keep the loss."""
        if logs and "loss" in logs:
            self.losses.append(float(logs["loss"]))

    @property
    def seconds(self) -> float:
        """Seconds from the beginning of the first step to the end of the last."""
        return self.ended - self.started


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def time_rows(
    rows: Mapping[Key, Row], samples: Sequence[Any], warm_up: Sequence[Group], device: torch.device
) -> dict[Key, Timing]:
    """Run every row once on every sample: rounds interleaved, the order of rows drawn anew.

    Args:
        rows: The rows.
        samples: One set of texts per round.
        warm_up: A few texts run first, not timed.
        device: Where they run.

    Returns:
        Timings; a row that is skipped or runs out of memory says so and does not come again.
    """
    timings = {key: Timing() for key in rows}
    for number, texts in enumerate([warm_up, *samples]):
        order = list(rows)
        random.Random(number).shuffle(order)
        for key in order:
            if timings[key].skipped is None:
                _run(rows[key], texts, timings[key], device)
        if not number:  # what tuning tried is no part of the peak
            for timing in timings.values():
                timing.seconds, timing.peak_bytes = [], None
        say(f"round {number} of {len(samples)}" if number else "warmed up")
    return timings


def _run(row: Row, texts: Sequence[Group], timing: Timing, device: torch.device) -> None:
    try:
        with device_peak(device) as peak:
            timing.seconds.append(row(texts))
    except SkippedError as error:
        timing.skipped = str(error)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        timing.skipped = "out of memory"
    if timing.skipped is not None:  # outside the handler, whose frames hold tensors
        timing.seconds = []
        free_memory()
    elif peak:
        timing.peak_bytes = max(timing.peak_bytes or 0, *peak)


def matrix_rate(
    widths: tuple[int, int], dtype: torch.dtype, device: torch.device, seconds: float = 0.3
) -> float:
    """Measure how fast the machine multiplies matrices of a model's shape.

    Args:
        widths: Inputs and outputs of a linear layer.
        dtype: Precision.
        device: Where.
        seconds: Time spent on each number of rows.

    Returns:
        FLOPs per second: the best, over several numbers of rows, of the median.
    """
    best = 0.0
    for rows in (512, 1024, 2048) if device.type == "cpu" else (4096, 8192, 16384):
        left = torch.randn(rows, widths[0], device=device).to(dtype)
        right = torch.randn(widths[1], widths[0], device=device).to(dtype)
        repeats = 1 if device.type == "cpu" else 10

        def run(a: torch.Tensor = left, b: torch.Tensor = right, n: int = repeats) -> None:
            for _ in range(n):
                torch.nn.functional.linear(a, b)

        with torch.inference_mode():
            run()
            times = [seconds_of(run, device)]
            until = time.perf_counter() + seconds
            while time.perf_counter() < until:
                times.append(seconds_of(run, device))
        best = max(best, 2.0 * rows * widths[0] * widths[1] * repeats / statistics.median(times))
    return best


# dense products in bfloat16, FLOPs per second, of the makers' data sheets
PEAKS = {"A100": 312e12, "H100 80GB HBM3": 989e12, "H200": 989e12}


def peak_rate(device: torch.device, tflops: float | None = None) -> float | None:
    """Look up the rate that a device's maker states for bfloat16; None where it is not known.

    Args:
        device: The device.
        tflops: The rate in TFLOP/s, if it is told.

    Returns:
        FLOPs per second.
    """
    if tflops is not None:
        return tflops * 1e12
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return next((rate for part, rate in PEAKS.items() if part in name), None)


def resident_bytes(peak: bool = False) -> int:
    """Memory this process holds, or the most it has held since ``forget_peak`` where that works."""
    # not getrusage where this exists: its maximum is inherited from the parent process
    status, name = Path("/proc/self/status"), "VmHWM:" if peak else "VmRSS:"
    for line in status.read_text().splitlines() if status.is_file() else ():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    import psutil

    return int(psutil.Process().memory_info().rss)


def forget_peak() -> None:
    """Reset the peak to the memory held now: building a model has its own peak."""
    with contextlib.suppress(OSError):  # not Linux, or not allowed: building's peak counts too
        Path("/proc/self/clear_refs").write_text("5")


def machine(device: torch.device) -> dict[str, Any]:
    """Describe the machine, its bfloat16 instructions, and the libraries."""
    import peft
    import transformers

    info = Path("/proc/cpuinfo")
    words = set(info.read_text().split()) if info.is_file() else set()
    gpu = torch.cuda.get_device_properties(device) if device.type == "cuda" else None
    return {
        "processor": processor(),
        "instructions": [name for name in ("amx_bf16", "avx512_bf16") if name in words],
        "threads": torch.get_num_threads(),
        "device": str(device),
        "gpu": gpu and gpu.name,
        "gpu_bytes": gpu and gpu.total_memory,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "trl": trl_version(),
    }


def trl_version() -> str | None:
    """Version of TRL, or None where it is not installed."""
    return metadata.version("trl") if util.find_spec("trl") else None
