"""Annotator tables beside the data, with columns such as age, country or survey answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from hidden_context.data.checks import Place, describe, read_annotator, read_number
from hidden_context.data.storage.files import write_jsonl
from hidden_context.data.storage.rows import data_suffix, iter_rows, require_row
from hidden_context.errors import DataError

Covariates: TypeAlias = "dict[str, dict[str, str | float]]"
"""For each annotator's name what is known: text is a group, a number a quantity."""

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
    for line, row in _read_rows(path):
        place = Place(path, line)
        name = read_annotator(row.get("annotator"), "annotator", place)
        if name is None:
            raise place.error("the row names no annotator", "annotator", _REMEDY)
        who = str(name)
        if who in known:
            problem = f"{who!r} is on line {lines[who]} already"
            raise place.error(problem, "annotator", "Keep one row for each annotator")
        lines[who] = line
        known[who] = _read_values(row, place)
    if not known:
        raise DataError("the file holds no rows", file=path, remedy=_REMEDY)
    _check_kinds(known, path, lines)
    return known


def write_annotators(path: str | Path, known: Mapping[str, Mapping[str, str | float]]) -> int:
    """Write an annotator table for ``read_annotators``; return the number of annotators.

    Raises:
        StorageError: If it cannot be written.
    """
    return write_jsonl(path, ({"annotator": who, **values} for who, values in known.items()))


def _read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    rows = ((line, require_row(row)) for line, row in iter_rows(path))
    return iter(_with_numbers(list(rows))) if ".csv" in (data_suffix(path) or "") else rows


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


def _read_values(row: Mapping[str, Any], place: Place) -> dict[str, str | float]:
    values: dict[str, str | float] = {}
    for field, value in row.items():
        if field == "annotator" or value is None or value == "":
            continue
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            problem = f"text or a number is needed, not {describe(value)}"
            raise place.error(problem, field, "Write one column for each thing that is known")
        values[field] = value if isinstance(value, str) else read_number(value, field, place) or 0.0
    return values


def _check_kinds(known: Covariates, path: Path, lines: Mapping[str, int]) -> None:
    """Refuse a column that is text for one annotator and a number for another."""
    kinds: dict[str, tuple[bool, str]] = {}
    for who, values in known.items():
        for field, value in values.items():
            is_text, first = kinds.setdefault(field, (isinstance(value, str), who))
            if is_text != isinstance(value, str):
                problem = f"{describe(value)} is here, {describe(known[first][field])} on line "
                remedy = "Write the whole column as text, a group each, or as numbers"
                raise Place(path, lines[who]).error(problem + str(lines[first]), field, remedy)
