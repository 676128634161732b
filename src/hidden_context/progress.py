"""Showing how far a stage of work is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def say(doing: str) -> None:
    """Say on stderr what is being done."""
    print(f"{doing} …", file=sys.stderr, flush=True)


@contextmanager
def stage(name: str, total: int, *, disable: bool = False) -> Iterator[Callable[[int], object]]:
    """Show a bar on a terminal, and a line at the end of the block elsewhere.

    Args:
        name: What is shown.
        total: Number of its steps.
        disable: Show nothing.

    Yields:
        A function that takes the number of steps done since the last call.
    """
    from tqdm.auto import tqdm

    terminal = sys.stderr.isatty()
    with tqdm(total=total, desc=name, disable=disable or not terminal) as bar:
        yield bar.update
    if not (disable or terminal):
        print(f"done: {name}", file=sys.stderr)
