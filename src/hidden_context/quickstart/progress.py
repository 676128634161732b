"""One progress display for the whole quickstart."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from transformers import TrainerCallback


class Progress:
    """A bar per stage on a terminal; a line per finished stage elsewhere.

    Args:
        disable: Show nothing.
    """

    def __init__(self, disable: bool = False) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        self._console = Console(stderr=True)
        self._disable = disable
        self._bars = RichProgress(
            TextColumn("{task.description:34}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(),
            console=self._console,
            disable=disable or not self._console.is_terminal,
        )

    def __enter__(self) -> Progress:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def add(self, name: str, total: int) -> Callable[[int], None]:
        """Add a stage.

        Args:
            name: What is shown.
            total: Number of its steps.

        Returns:
            A function to be called with the number of steps done.
        """
        task = self._bars.add_task(name, total=total)

        def update(done: int) -> None:
            self._bars.update(task, completed=done)
            if done == total and not self._console.is_terminal and not self._disable:
                self._console.print(f"done: {name}", highlight=False)

        return update


class StepProgress(TrainerCallback):
    """Reports a training's optimiser steps to a stage.

    Args:
        update: Called with the number of steps done.
    """

    def __init__(self, update: Callable[[int], None]) -> None:
        self._update = update

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Report the steps done, except the last: the stage ends when the model is saved."""
        if state.global_step < state.max_steps:
            self._update(state.global_step)
