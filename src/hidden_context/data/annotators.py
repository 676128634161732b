"""Annotator tables beside the data, with columns such as age, country or survey answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from hidden_context.data.checks import Place, describe, read_annotator, read_number
from hidden_context.data.storage.files import write_jsonl
from hidden_context.data.storage.rows import data_suffix, iter_rows, require_row
from hidden_context.errors import DataError

Covariates: TypeAlias = "dict[str, dict[str, str | float]]"
"""The known values for each annotator's name: text is a group, a number a quantity."""

_REMEDY = 'Write one row for each annotator: {"annotator": "r12", "age": "30-39", "score": 0.4}'


def annotators_path(data_path: str | Path) -> Path:
    """Return the path of the annotator table that belongs to a data file.

    >>> annotators_path("people/votes.jsonl.gz").as_posix()
    'people/votes.annotators.jsonl'
    """
    path = Path(data_path)
    suffix = data_suffix(path) or ""
    return path.with_name(path.name[: len(path.name) - len(suffix)] + ".annotators.jsonl")


def read_annotators(path: str | Path) -> Covariates:
    """Read a table that has one row for each annotator and one column for each known fact.

    Args:
        path: A file in JSON Lines, JSON, parquet or CSV, plain or gzip, with the column
            ``annotator``. Values in other columns are text or numbers; null and empty cells are
            unknown values. In CSV, a column holds numbers if every filled cell is a number.

    Returns:
        The known values for each annotator's name. Names are text; text values are unchanged and
        numbers are floats.

    Raises:
        MissingFileError: If there is no such file.
        DataError: If a row lacks its annotator, has one that an earlier row had, or a value that is
            neither text nor a finite number, naming file, line and field; or if there is no row.
    """
    path = Path(path)
    known: Covariates = {}
    lines: dict[str, int] = {}
    seen: dict[str, tuple[str | float, int | None]] = {}
    rows = ((line, require_row(row)) for line, row in iter_rows(path))
    for line, row in _with_numbers([*rows]) if ".csv" in (data_suffix(path) or "") else rows:
        place = Place(path, line)
        name = read_annotator(row.get("annotator"), "annotator", place)
        if name is None:
            raise place.error("the row names no annotator", "annotator", _REMEDY)
        who = str(name)
        if who in known:
            problem = f"annotator {who!r} is already on line {lines[who]}"
            raise place.error(problem, "annotator", "Keep one row for each annotator")
        lines[who] = line
        known[who] = _read_values(row, place, seen)
    if not known:
        raise DataError("the file holds no rows", file=path, remedy=_REMEDY)
    return known


def write_annotators(path: str | Path, known: Mapping[str, Mapping[str, str | float]]) -> int:
    """Write an annotator table for ``read_annotators``; return the number of annotators.

    A column that is text for one annotator is written as text for all.

    Raises:
        StorageError: If it cannot be written.
    """
    texts = {n for values in known.values() for n, v in values.items() if isinstance(v, str)}
    rows = (
        {"annotator": who, **{n: str(v) if n in texts else v for n, v in values.items()}}
        for who, values in known.items()
    )
    return write_jsonl(path, rows)


def _with_numbers(rows: list[tuple[int, dict[str, Any]]]) -> list[tuple[int, dict[str, Any]]]:
    """Convert CSV columns that hold only numbers to floats; annotator names stay text."""
    names = [name for name in (rows[0][1] if rows else ()) if name != "annotator"]
    numeric = [name for name in names if all(_is_number(row[name]) for _, row in rows)]
    return [
        (line, {**row, **{n: float(row[n]) for n in numeric if row[n] not in (None, "")}})
        for line, row in rows
    ]


def _is_number(cell: Any) -> bool:
    try:
        return cell in (None, "") or isinstance(float(cell), float)
    except (TypeError, ValueError):
        return False


def _read_values(
    row: Mapping[str, Any], place: Place, seen: dict[str, tuple[str | float, int | None]]
) -> dict[str, str | float]:
    """Read what a row knows; ``seen`` is the first value of each column, and its line."""
    values: dict[str, str | float] = {}
    for field, value in row.items():
        if field == "annotator" or value is None or value == "":
            continue
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            problem = f"text or a number is needed, not {describe(value)}"
            raise place.error(problem, field, "Write one column for each fact, as text or a number")
        values[field] = value if isinstance(value, str) else read_number(value, field, place) or 0.0
        first, line = seen.setdefault(field, (values[field], place.line))
        if isinstance(first, str) != isinstance(value, str):
            problem = f"this row has {describe(value)}, but line {line} has {describe(first)}"
            remedy = "Write the whole column as text (one group for each value) or as numbers"
            raise place.error(problem, field, remedy)
    return values
