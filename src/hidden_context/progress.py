"""Progress messages and bars for stages of work."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def say(doing: str) -> None:
    """Print the current activity to stderr."""
    print(f"{doing} …", file=sys.stderr, flush=True)


@contextmanager
def stage(name: str, total: int, *, disable: bool = False) -> Iterator[Callable[[int], object]]:
    """Show a progress bar on a terminal, or elsewhere a line at the end of the block.

    Args:
        name: The name to show.
        total: The number of steps.
        disable: Whether to show nothing.

    Yields:
        A function that takes the number of steps done since the last call.
    """
    from tqdm.auto import tqdm

    terminal = sys.stderr.isatty()
    with tqdm(total=total, desc=name, disable=disable or not terminal) as bar:
        yield bar.update
    if not (disable or terminal):
        print(f"done: {name}", file=sys.stderr)
