"""Score files: JSON Lines with raw reward outputs, read into arrays and checked on the way.

A *pair* file has ``reward_output_chosen`` and ``reward_output_rejected``, each a list of K
numbers. A *response* file has one or more columns ``reward_outputs_{name}``, each a list with one
list of K numbers per response. A file may be both. ``null`` in place of a reward (a text that was
too long to score) leaves that row out and is counted.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hidden_context.data.files import iter_jsonl
from hidden_context.errors import DataError

CHOSEN, REJECTED = "reward_output_chosen", "reward_output_rejected"
RESPONSES_PREFIX = "reward_outputs_"
LABEL_COLUMNS = ("data_subset", "objective")
"""Columns that say which part of the data a row belongs to."""


@dataclass(frozen=True, eq=False)
class PairScores:
    """Raw outputs of a pair file.

    Attributes:
        file: Where they come from.
        chosen: ``(N, K)`` float64, raw outputs of the chosen texts.
        rejected: ``(N, K)`` float64, raw outputs of the rejected texts.
        labels: Per label column that occurs, ``(N,)`` strings; empty where a row has none.
        left_out: Number of rows without a reward.
    """

    file: str
    chosen: NDArray[np.float64]
    rejected: NDArray[np.float64]
    labels: dict[str, NDArray[np.str_]]
    left_out: int

    @property
    def width(self) -> int:
        """Numbers per text, K."""
        return int(self.chosen.shape[1])


@dataclass(frozen=True, eq=False)
class ResponseScores:
    """Raw outputs of one ``reward_outputs_{name}`` column.

    Attributes:
        file: Where they come from.
        column: The column's full name.
        outputs: ``(M, K)`` float64, the raw outputs of all responses, row after row.
        num_responses: ``(N,)`` integers that sum to M, how many responses each row has.
        labels: Per label column that occurs, ``(N,)`` strings; empty where a row has none.
        left_out: Number of rows with at least one response that has no reward.
    """

    file: str
    column: str
    outputs: NDArray[np.float64]
    num_responses: NDArray[np.int64]
    labels: dict[str, NDArray[np.str_]]
    left_out: int

    @property
    def name(self) -> str:
        """The name given to the reward model when the responses were scored."""
        return self.column.removeprefix(RESPONSES_PREFIX)

    @property
    def width(self) -> int:
        """Numbers per response, K."""
        return int(self.outputs.shape[1])

    def as_pairs(self) -> NDArray[np.float64] | None:
        """Return the outputs as ``(N, 2, K)``, or None unless every row has two responses."""
        if not (self.num_responses == 2).all():
            return None
        return self.outputs.reshape(-1, 2, self.width)


@dataclass(frozen=True, eq=False)
class ScoreFile:
    """What one score file holds: pairs, named columns of responses, or both."""

    file: str
    pairs: PairScores | None
    responses: dict[str, ResponseScores]


@dataclass
class _Table:
    """Rows of one column (or of the chosen and rejected pair) while they are being read."""

    file: str
    columns: tuple[str, ...]
    values: tuple[array[float], ...]
    counts: array[int] = field(default_factory=lambda: array("q"))
    labels: dict[str, list[str]] = field(default_factory=lambda: {c: [] for c in LABEL_COLUMNS})
    left_out: int = 0
    width: int = 0
    width_line: int = 0

    def numbers(self, value: Any, line: int, place: str) -> list[float] | None:
        """Check one raw output, K finite numbers as in the rows before; None stays None."""
        if value is None:
            return None
        if not isinstance(value, list) or not value:
            raise DataError(
                f"a list of numbers is needed, not {_shown(value)}",
                file=self.file,
                line=line,
                field=place,
                remedy="A reward is written as a list even if it is one number, such as [0.25]",
            )
        for number in value:
            if type(number) is not float and type(number) is not int:
                raise DataError(
                    f"{_shown(number)} stands where a number is needed",
                    file=self.file,
                    line=line,
                    field=place,
                    remedy="A text without a reward has null in place of the whole list",
                )
            if not _is_finite(number):
                raise DataError(
                    f"{_shown(number)} is not a finite number",
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

    def add(self, outputs: Sequence[list[list[float]] | None], labels: dict[str, str]) -> None:
        """Append one row: per column its list of raw outputs, or None if one is missing."""
        if any(column is None for column in outputs):
            self.left_out += 1
            return
        for values, column in zip(self.values, outputs, strict=True):
            for output in column or ():
                values.extend(output)
        self.counts.append(len(outputs[0] or ()))
        for name, label in labels.items():
            self.labels[name].append(label)

    def arrays(self) -> list[NDArray[np.float64]]:
        """Return the values of each column as ``(M, K)`` arrays."""
        if not self.counts:
            raise DataError(
                f"none of its {self.left_out} rows has a reward",
                file=self.file,
                field=self.columns[0],
                remedy="Were all texts too long? Score them again with a larger --max_length",
            )
        return [
            np.array(values, dtype=np.float64).reshape(-1, self.width) for values in self.values
        ]

    def label_arrays(self) -> dict[str, NDArray[np.str_]]:
        """Return the label columns that hold anything."""
        return {name: np.array(texts) for name, texts in self.labels.items() if any(texts)}


def _shown(value: Any) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer beyond every float
        return False


def _reward_columns(row: dict[str, Any]) -> frozenset[str]:
    return frozenset(
        name for name in row if name in (CHOSEN, REJECTED) or name.startswith(RESPONSES_PREFIX)
    )


def _new_tables(columns: frozenset[str], file: str, line: int) -> list[_Table]:
    """Set up one table for the pairs, if there are any, and one per column of responses."""
    if not columns:
        raise DataError(
            f"there is no {CHOSEN} and {REJECTED}, nor a {RESPONSES_PREFIX}… column",
            file=file,
            line=line,
            remedy="Score files come from the evaluate and score commands",
        )
    tables = []
    for name, other in ((CHOSEN, REJECTED), (REJECTED, CHOSEN)):
        if name in columns and other not in columns:
            raise DataError(f"{name} has no {other} beside it", file=file, line=line, field=other)
    if CHOSEN in columns:
        tables.append(_Table(file, (CHOSEN, REJECTED), (array("d"), array("d"))))
    names = sorted(name for name in columns if name.startswith(RESPONSES_PREFIX))
    return tables + [_Table(file, (name,), (array("d"),)) for name in names]


def _labels(row: dict[str, Any], file: str, line: int) -> dict[str, str]:
    labels = {}
    for name in LABEL_COLUMNS:
        value = row.get(name)
        if value is not None and not isinstance(value, str):
            raise DataError(
                f"a text is needed, not {_shown(value)}", file=file, line=line, field=name
            )
        labels[name] = value or ""
    return labels


def _row_outputs(table: _Table, row: dict[str, Any], line: int) -> list[list[list[float]] | None]:
    if table.columns == (CHOSEN, REJECTED):
        sides = [table.numbers(row[name], line, name) for name in table.columns]
        return [None if side is None else [side] for side in sides]
    name = table.columns[0]
    value = row[name]
    if value is None:
        return [None]
    if not isinstance(value, list) or not value:
        raise DataError(
            f"a list with one output per response is needed, not {_shown(value)}",
            file=table.file,
            line=line,
            field=name,
        )
    outputs = [table.numbers(item, line, f"{name}[{i}]") for i, item in enumerate(value)]
    scored = [output for output in outputs if output is not None]
    return [scored if len(scored) == len(outputs) else None]


def read_score_file(path: str | Path, require: Sequence[str] = ()) -> ScoreFile:
    """Read a score file, plain or gzip, row by row.

    Args:
        path: The file.
        require: Label columns that every row must have.

    Returns:
        Its pairs and responses as float64 arrays.

    Raises:
        MissingFileError: If the file does not exist.
        DataError: If it is empty, a line is broken, a column is missing on some line, or an
            output is not a list of finite numbers of one width; names file, line and field.
    """
    file = str(path)
    columns: frozenset[str] = frozenset()
    tables: list[_Table] = []
    for line, row in iter_jsonl(path, allow_empty=False):
        found = _reward_columns(row)
        if not tables:
            tables, columns, first_line = _new_tables(found, file, line), found, line
        elif found != columns:
            name = min(found ^ columns)
            problem = "missing here, but stands" if name in columns else "here, but missing"
            raise DataError(
                f"the column is {problem} on line {first_line}", file=file, line=line, field=name
            )
        labels = _labels(row, file, line)
        for name in require:
            if not labels[name]:
                raise DataError("the column is missing", file=file, line=line, field=name)
        for table in tables:
            table.add(_row_outputs(table, row, line), labels)
    return _score_file(file, tables)


def _score_file(file: str, tables: list[_Table]) -> ScoreFile:
    pairs = None
    responses = {}
    for table in tables:
        arrays, labels = table.arrays(), table.label_arrays()
        if len(arrays) == 2:
            pairs = PairScores(file, arrays[0], arrays[1], labels, table.left_out)
            continue
        scores = ResponseScores(
            file=file,
            column=table.columns[0],
            outputs=arrays[0],
            num_responses=np.array(table.counts, dtype=np.int64),
            labels=labels,
            left_out=table.left_out,
        )
        responses[scores.name] = scores
    return ScoreFile(file, pairs, responses)
