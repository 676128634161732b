"""Device and precision of a model: by name, or by timing matrix products.

A processor without bfloat16 instructions is many times slower in bfloat16 than in float32. A
processor with AMX is several times faster. A GPU may only emulate bfloat16. A processor's name does
not show which case applies, so a few products are timed.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from statistics import median
from typing import Any, Final, Literal

import torch
from torch.nn import functional

from hidden_context.errors import ConfigError, HiddenContextWarning

Name = Literal["float32", "bfloat16"]

MARGIN: Final = 1.3
"""How many times as fast a precision has to be measured before it is told from another."""

MIN_WIDTH: Final = 256
"""Below this width of a model products are too small for their precision to matter."""

WIDTH: Final = 768
"""Width of the layer that is timed: that of GPT-2 and BERT, between small and large models."""

_DTYPES = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """Return the named device; ``auto`` is the accelerator if there is one, else the CPU.

    Raises:
        ConfigError: If the name is no device, or that device is not there.
    """
    if str(device) == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(
            f"device {device!r} is not known; use auto, cpu, cuda or cuda:0."
        ) from error
    here = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    count = here.get(resolved.type)
    if count is not None and (resolved.index or 0) >= count:
        raise ConfigError(
            f"device {str(device)!r} was requested, but the number of {resolved.type} devices on "
            f"this machine is {count}; use auto or cpu."
        )
    return resolved


def resolve_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """Return the named precision; ``auto`` is bfloat16 on a GPU that has it, else float32.

    A GPU that only emulates bfloat16 does not count. The head and everything after it are float32,
    whatever the backbone's precision.

    Raises:
        ConfigError: If the name is unknown.
    """
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if fast else torch.float32
    if dtype not in _DTYPES:
        raise ConfigError(f"precision {dtype!r} is not known; choose auto, {', '.join(_DTYPES)}.")
    return _DTYPES[dtype]


@dataclass(frozen=True)
class Timings:
    """Measured times of a layer's product in each precision.

    Attributes:
        device: Type of the device.
        threads: Threads of the processor.
        seconds: Seconds of a layer's product by precision, ``float32`` and others.
        backward: Whether the product of the backward pass is among them.
    """

    device: str
    threads: int
    seconds: Mapping[str, float]
    backward: bool = False

    def speedup(self, precision: str) -> float:
        """Return how many times as fast as float32 a precision is; below 1 if it is slower."""
        return self.seconds["float32"] / self.seconds[precision]

    def __str__(self) -> str:
        parts = [f"{name} {1000 * value:.3g} ms" for name, value in self.seconds.items()]
        place = self.device
        if place == "cpu":
            place = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        ways = " forward and backward" if self.backward else ""
        return f"a layer{ways} on {place}: {', '.join(parts)}"


def measure(
    device: torch.device, precision: str = "bfloat16", *, backward: bool = False
) -> Timings:
    """Time float32 and another precision on a device, with the threads in use, once per process.

    Args:
        device: The device.
        precision: The other precision.
        backward: Whether a training is to be told of, which also runs backward.

    Returns:
        The timings, within about a third of a second.
    """
    return _measured(str(device), torch.get_num_threads(), precision, backward)


@lru_cache
def _measured(device: str, threads: int, precision: str, backward: bool) -> Timings:
    place = torch.device(device)
    seconds = {
        name: seconds_of_layer(
            place, getattr(torch, name), 64, backward=backward, clock=work_clock(place)
        )
        for name in dict.fromkeys(("float32", precision))
    }
    return Timings(place.type, threads, seconds, backward)


def choose(timings: Timings) -> Name:
    """Choose bfloat16 if it is faster than float32 by a margin, else float32.

    >>> choose(Timings("cpu", 1, {"float32": 1.2e-3, "bfloat16": 0.4e-3}))
    'bfloat16'
    >>> choose(Timings("cpu", 1, {"float32": 1.2e-3, "bfloat16": 1.0e-3}))
    'float32'
    """
    return "bfloat16" if timings.speedup("bfloat16") >= MARGIN else "float32"


def for_training(device: torch.device, width: int | None) -> tuple[Name, Timings | None]:
    """Choose the precision for training.

    Args:
        device: Where it runs.
        width: Width of the model's hidden states; None where it is not known.

    Returns:
        On a processor what is measured to be faster, with the timings; on others, and for a model
        whose products are small, what ``resolve_dtype`` takes, and None.
    """
    if device.type != "cpu" or width is None or width < MIN_WIDTH:
        return ("bfloat16" if resolve_dtype("auto", device) is torch.bfloat16 else "float32"), None
    timings = measure(device, backward=True)
    return choose(timings), timings


def warn_if_slow(
    dtype: torch.dtype,
    device: torch.device,
    width: int | None,
    *,
    backward: bool = False,
    remedy: str = "take --precision float32",
) -> None:
    """Warn if a requested precision is measured to be slower than float32.

    Args:
        dtype: The precision.
        device: Where it is used.
        width: Width of the model's hidden states; nothing is measured for a small one.
        backward: Whether the model is trained.
        remedy: What the warning ends with.
    """
    if dtype not in (torch.bfloat16, torch.float16) or width is None or width < MIN_WIDTH:
        return
    name = str(dtype).removeprefix("torch.")
    timings = measure(device, name, backward=backward)
    factor = 1 / timings.speedup(name)
    if factor < MARGIN:
        return
    what = "processor" if device.type == "cpu" else f"{device.type} device"
    warnings.warn(
        f"{name} is {factor:.1f} times slower than float32 on this {what} (measured: {timings}); "
        f"{remedy}.",
        HiddenContextWarning,
        stacklevel=2,
    )


def width_of(config: Any) -> int | None:
    """Return the width of a model's hidden states from its configuration, or None if unknown."""
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    width = getattr(text, "hidden_size", None)
    return width if isinstance(width, int) else None


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
        Seconds of one run; of the first run if it spent the budget by itself.
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

    It makes timings of two precisions comparable: on a busy machine, a product that takes one
    millisecond may wait for a hundred.

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

    The backward product takes the matrix transposed, which is far slower on some processors.

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
