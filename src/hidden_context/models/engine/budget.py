"""Token budgets of forward passes: defaults, tuning, and running out of memory."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

import torch

DEFAULT_TOKENS: Final = {"cpu": 1024, "mps": 4096, "cuda": 8192}
"""Tokens per forward pass where none are named: enough for matrices at full speed, no more."""

_NO_MEMORY: Final = (
    *("out of memory", "can't allocate memory", "not enough memory"),
    "CUBLAS_STATUS_ALLOC_FAILED",
)
_logger = logging.getLogger(__name__)


def default_tokens(device: torch.device, dtype: torch.dtype = torch.float32) -> int:
    """Return the first number of tokens per forward pass to try on a device.

    Args:
        device: Where the model runs.
        dtype: What its matrices are multiplied in. A processor is so much faster in half precision
            that it takes more rows to keep it busy.
    """
    tokens = DEFAULT_TOKENS.get(device.type, DEFAULT_TOKENS["cuda"])
    half = device.type == "cpu" and dtype in (torch.bfloat16, torch.float16)
    return 2 * tokens if half else tokens


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that a device or the machine has no memory left."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _NO_MEMORY)


def release_memory() -> None:
    """Release cached device memory, so that a smaller batch fits in one piece."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class TokenBudget:
    """Largest number of tokens in a forward pass; once set, it only shrinks.

    Args:
        tokens: The budget.

    Attributes:
        tokens: The budget.
        limit: Most tokens of sequences that are kept together although they exceed the budget;
            None until memory has run out.
    """

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.limit: int | None = None

    def halve(self, tried: int) -> None:
        """Halve the budget after memory ran out, and write it to the log.

        Args:
            tried: Tokens of the forward pass that ran out of memory.
        """
        before, self.tokens = self.tokens, max(1, min(self.tokens, tried) // 2)
        self.limit = max(1, min(self.limit or tried, tried) // 2)
        release_memory()
        _logger.warning(
            "out of memory with %d tokens in one forward pass; tokens_per_batch goes from %d to %d",
            tried,
            before,
            self.tokens,
        )


def tune(
    run: Callable[[int], int],
    start: int,
    most: int = 2**18,
    clock: Callable[[], float] = time.perf_counter,
) -> int:
    """Find the smallest budget at which throughput stops growing, by doubling the budget.

    Args:
        run: Runs about so many tokens in one forward pass, waits for the end, and returns how
            many it ran.
        start: The first budget tried.
        most: The largest one.
        clock: Gives the time in seconds.

    Returns:
        The budget: doubling it gained less than 5 %, or ran out of memory.
    """
    best = budget = start
    speed = 0.0
    while budget <= most:
        try:
            run(budget)  # the first pass of a shape pays for kernels being chosen
            started = clock()
            done = run(budget)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            release_memory()
            break
        reached = done / max(clock() - started, 1e-9)
        if reached < 1.05 * speed:
            break
        best, speed = budget, reached
        if done < budget // 2:
            break  # there is no more to run
        budget *= 2
    return best
