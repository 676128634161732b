"""What sources share: published rows with their places, files told apart, values checked."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hidden_context.data.checks import Place, describe, read_annotator, read_list, read_number
from hidden_context.data.rows import iter_rows, require_row
from hidden_context.errors import DataError

_AS_PUBLISHED = "Give the file as it is published"


def rows_of(path: Path) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Yield the rows of a published file, each with its place for errors.

    Args:
        path: JSON Lines, JSON, parquet or CSV, plain or gzip.

    Yields:
        The place and the row.

    Raises:
        DataError: If the file is damaged, or a line is no row.
    """
    for line, row in iter_rows(path):
        yield Place(path, line), require_row(row)


def sort_files(
    files: Iterable[Path], kinds: Mapping[str, Sequence[str]], remedy: str
) -> dict[str, list[Path]]:
    """Tell the files of a source apart by the columns of their first rows, not by their names.

    Args:
        files: The files that were given.
        kinds: For each kind of file the columns that only it has all of; the first kind that fits
            is taken.
        remedy: Which files are needed, for the error.

    Returns:
        The files of each kind, in their order; an empty list for a kind that was not given.

    Raises:
        DataError: If a file is empty or of no kind, naming what it has and what each kind needs.
    """
    found: dict[str, list[Path]] = {kind: [] for kind in kinds}
    for path in files:
        _, first = next(rows_of(path), (None, None))
        if first is None:
            raise DataError("the file holds no rows", file=path, remedy=remedy)
        fits = (kind for kind, needed in kinds.items() if all(name in first for name in needed))
        kind = next(fits, None)
        if kind is None:
            needed = " or ".join(", ".join(names) for names in kinds.values())
            has = ", ".join(list(first)[:12]) + (" …" if len(first) > 12 else "")
            problem = f"the columns {needed} are needed, the file has {has}"
            raise DataError(problem, file=path, remedy=remedy)
        found[kind].append(path)
    return found


def entries_of(
    row: Mapping[str, Any], field: str, place: Place
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the objects of a column that lists them.

    Args:
        row: The row.
        field: The column.
        place: Where it stands, for errors.

    Yields:
        What errors put before the name of a value, such as ``votes[1].``, and the object.

    Raises:
        DataError: If it is no list of objects, or empty.
    """
    for number, entry in enumerate(
        read_list(row.get(field), field, place, _AS_PUBLISHED, "object")
    ):
        if not isinstance(entry, dict):
            problem = f"an object is needed, not {describe(entry)}"
            raise place.error(problem, f"{field}[{number}]", _AS_PUBLISHED)
        yield f"{field}[{number}].", entry


def kept(row: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return the columns of these names that have a value, to pass through."""
    return {name: row[name] for name in names if row.get(name) is not None}


def text_of(row: Mapping[str, Any], field: str, place: Place, prefix: str = "") -> str:
    """Return a column that has to be text; ``prefix`` goes before its name in errors.

    Raises:
        DataError: If it is missing or something else.
    """
    value = row.get(field)
    if not isinstance(value, str):
        problem = f"text is needed, not {describe(value)}"
        raise place.error(problem, prefix + field, _AS_PUBLISHED)
    return value


def person_of(row: Mapping[str, Any], field: str, place: Place, prefix: str = "") -> str:
    """Return who judged, as text.

    Raises:
        DataError: If it is missing, or no name or number.
    """
    who = read_annotator(row.get(field), prefix + field, place)
    if who is None:
        problem = "an annotator's name is needed, not null"
        raise place.error(problem, prefix + field, _AS_PUBLISHED)
    return str(who)


def choice_of(
    row: Mapping[str, Any], field: str, place: Place, choices: Sequence[str], prefix: str = ""
) -> str:
    """Return a column that has to be one of a few words.

    Raises:
        DataError: If it is something else, listing the words.
    """
    value = row.get(field)
    if value not in choices:
        problem = f"one of {', '.join(choices)} is needed, not {describe(value)}"
        raise place.error(problem, prefix + field, _AS_PUBLISHED)
    return str(value)


def number_of(
    row: Mapping[str, Any],
    field: str,
    place: Place,
    low: float = -math.inf,
    high: float = math.inf,
    prefix: str = "",
) -> float:
    """Return a column that has to be a number of a range; a text that holds one, as in CSV, is one.

    Raises:
        DataError: If it is missing or something else.
    """
    value = row.get(field)
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = float(value)
    name = prefix + field
    number = read_number(value, name, place, low=low, high=high, remedy=_AS_PUBLISHED)
    if number is None:
        raise place.error("a number is needed, not null", name, _AS_PUBLISHED)
    return number


def level_of(
    row: Mapping[str, Any],
    field: str,
    place: Place,
    low: float = -math.inf,
    high: float = math.inf,
    prefix: str = "",
) -> int:
    """Return a column that has to be a whole number of a range; a text that holds one is one.

    Raises:
        DataError: If it is missing or something else.
    """
    number = number_of(row, field, place, low, high, prefix)
    if not number.is_integer():
        problem = f"an integer is needed, not {number!r}"
        raise place.error(problem, prefix + field, _AS_PUBLISHED)
    return int(number)
