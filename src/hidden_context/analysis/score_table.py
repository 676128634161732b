"""Rows of a score file while they are being read: numbers checked, and kept in little memory."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hidden_context.analysis.score_columns import ScoreSet, share_of, shown
from hidden_context.data.example import Example
from hidden_context.errors import DataError


@dataclass
class ScoreTable:
    """Rows of one set of scores while they are being read."""

    file: str
    scores: ScoreSet
    values: tuple[array[float], ...]
    preference: array[float] = field(default_factory=lambda: array("d"))
    counts: array[int] = field(default_factory=lambda: array("q"))
    labels: dict[str, list[str]] = field(default_factory=dict)
    rows: array[int] = field(default_factory=lambda: array("q"))
    said: list[Example] = field(default_factory=list)
    left_out: int = 0
    width: int = 0
    width_line: int = 0

    def numbers(self, value: Any, line: int, place: str) -> list[float] | None:
        """Check one raw output, K finite numbers as in the rows before; None stays None."""
        if value is None:
            return None
        if not isinstance(value, list) or not value:
            raise DataError(
                f"a list of numbers is needed, not {shown(value)}",
                file=self.file,
                line=line,
                field=place,
                remedy="A reward is written as a list even if it is one number, such as [0.25]",
            )
        for number in value:
            if type(number) is not float and type(number) is not int:
                raise DataError(
                    f"{shown(number)} stands where a number is needed",
                    file=self.file,
                    line=line,
                    field=place,
                    remedy="A text without a reward has null in place of the whole list",
                )
            if not _is_finite(number):
                raise DataError(
                    f"{shown(number)} is not a finite number",
                    file=self.file,
                    line=line,
                    field=place,
                    remedy="Score the file again; a finite reward model gives finite outputs",
                )
        if not self.width:
            self.width, self.width_line = len(value), line
        elif len(value) != self.width:
            raise DataError(
                f"its width is {len(value)}, but {self.width} on line {self.width_line}",
                file=self.file,
                line=line,
                field=place,
                remedy="All outputs of one reward model have the same width",
            )
        return value

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
            raise DataError(
                f"none of its {self.left_out} rows has a reward",
                file=self.file,
                field=self.scores.columns[0],
                remedy="Were all texts too long? Score them again with a larger --max_length",
            )
        return [
            np.array(values, dtype=np.float64).reshape(-1, self.width) for values in self.values
        ]

    def label_arrays(self) -> dict[str, NDArray[np.str_]]:
        """Return the label columns that hold anything."""
        return {name: np.array(texts) for name, texts in self.labels.items() if any(texts)}


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer beyond every float
        return False
