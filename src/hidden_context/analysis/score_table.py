"""Rows of a score file while they are being read: numbers checked, and kept in little memory."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hidden_context.analysis.score_columns import ScoreSet, share_of, shown
from hidden_context.data.example import Example
from hidden_context.errors import DataError

_LARGEST: Final = sys.float_info.max


@dataclass
class RawOutputChecks:
    """Checks of raw outputs of one reward model, which all have the same width.

    Attributes:
        file: The score file.
        width: Numbers per text, K; 0 before the first.
        width_line: The line of the first.
    """

    file: str
    width: int = 0
    width_line: int = 0

    def numbers(self, value: Any, line: int, place: str) -> list[float] | None:
        """Check one raw output, K finite numbers as in the rows before; None stays None.

        Raises:
            DataError: If it is something else, naming file, line and field.
        """
        if value is None:
            return None
        if isinstance(value, list) and value and not self.width:
            self.width, self.width_line = len(value), line
        complaint = self._complaint(value)
        if complaint is not None:
            problem, remedy = complaint
            raise DataError(problem, file=self.file, line=line, field=place, remedy=remedy)
        return list(value)

    def _complaint(self, value: Any) -> tuple[str, str] | None:
        if not isinstance(value, list) or not value:
            return (
                f"a list of numbers is needed, not {shown(value)}",
                "A reward is written as a list even if it is one number, such as [0.25]",
            )
        for number in value:
            if type(number) is not float and type(number) is not int:
                return (
                    f"{shown(number)} stands where a number is needed",
                    "A text without a reward has null in place of the whole list",
                )
            if not abs(number) <= _LARGEST:
                return (
                    f"{shown(number)} is not a finite number",
                    "Score the file again; a finite reward model gives finite outputs",
                )
        if len(value) != self.width:
            return (
                f"its width is {len(value)}, but {self.width} on line {self.width_line}",
                "All outputs of one reward model have the same width",
            )
        return None


def no_reward(file: str, left_out: int, column: str) -> DataError:
    """Make the error of a file none of whose rows has a reward and a vote."""
    return DataError(
        f"none of its {left_out} rows has a reward and a vote",
        file=file,
        field=column,
        remedy="Were all texts too long, or did all annotators abstain? A larger --max_length "
        "scores longer texts",
    )


@dataclass
class ScoreTable:
    """Rows of one set of scores while they are being read."""

    file: str
    scores: ScoreSet
    checks: RawOutputChecks
    values: tuple[array[float], ...]
    preference: array[float] = field(default_factory=lambda: array("d"))
    counts: array[int] = field(default_factory=lambda: array("q"))
    labels: dict[str, list[str]] = field(default_factory=dict)
    rows: array[int] = field(default_factory=lambda: array("q"))
    said: list[Example] = field(default_factory=list)
    left_out: int = 0

    def add(
        self,
        row: int,
        outputs: Sequence[list[list[float]] | None],
        labels: dict[str, str],
        said: Example | None,
    ) -> None:
        """Append one row: per column its list of raw outputs, or None if one is missing."""
        share = 1.0 if said is None else share_of(said)
        if share is None or any(column is None for column in outputs):
            self.left_out += 1
            return
        for values, column in zip(self.values, outputs, strict=True):
            for output in column or ():
                values.extend(output)
        self.rows.append(row)
        self.counts.append(len(outputs[0] or ()))
        self.preference.append(share)
        if said is not None:
            self.said.append(said)
        for name, label in labels.items():
            self.labels[name].append(label)

    def arrays(self) -> list[NDArray[np.float64]]:
        """Return the values of each column as ``(M, K)`` arrays."""
        if not self.counts:
            raise no_reward(self.file, self.left_out, self.scores.columns[0])
        width = self.checks.width
        return [np.array(values, dtype=np.float64).reshape(-1, width) for values in self.values]

    def label_arrays(self) -> dict[str, NDArray[np.str_]]:
        """Return the label columns that hold anything."""
        return {name: np.array(texts) for name, texts in self.labels.items() if any(texts)}
