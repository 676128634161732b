"""Le-Wi-Di's files: an object of items by their names, or of annotators by theirs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hidden_context.data.checks import Place, describe
from hidden_context.data.collections.published import number_of, rows_of
from hidden_context.data.files import GZIP_ERRORS, open_binary
from hidden_context.data.json_arrays import holds_array
from hidden_context.data.rows import data_suffix
from hidden_context.data.unique_names import loads
from hidden_context.errors import DataError

_OF_ITEMS: Final = ("annotation task", "annotators", "annotations")
_OF_PEOPLE: Final = ("Age", "Gender")
_UNKNOWN: Final = (None, "", "nan", "DATA_EXPIRED", "CONSENT_REVOKED")
_TRAILING_COMMA: Final = re.compile(rb",(\s*[}\]])")


def sort_files(files: Sequence[Path], remedy: str) -> tuple[list[Path], list[Path]]:
    """Tell the files of items from the tables of annotators, by what they hold.

    Args:
        files: The files that were given.
        remedy: Which files are needed, for errors.

    Returns:
        The files of items, and those of annotators.

    Raises:
        DataError: If a file holds nothing, or neither.
    """
    items: list[Path] = []
    people: list[Path] = []
    for path in files:
        _, _, first = next(iter_entries(path, remedy), (None, None, None))
        if first is None:
            raise DataError("the file holds no rows", file=path, remedy=remedy)
        if all(name in first for name in _OF_ITEMS):
            items.append(path)
        elif any(name in first for name in _OF_PEOPLE) and _is_document(path):
            people.append(path)
        else:
            has = ", ".join(list(first)[:12])
            problem = f"the columns {', '.join(_OF_ITEMS)} are needed, the file has {has}"
            raise DataError(problem, file=path, remedy=remedy)
    return items, people


def iter_entries(path: Path, remedy: str) -> Iterator[tuple[Place, Any, dict[str, Any]]]:
    """Yield what a file holds: each with its place, its name, and what is said of it.

    Args:
        path: A JSON file that is one object, as published; or rows that have their name in the
            column ``id``, as JSON Lines, a JSON array or parquet.
        remedy: Which files are needed, for errors.

    Yields:
        The place (in an object the number of the entry, from 1), the name and the entry.

    Raises:
        DataError: If the file is damaged, or an entry is no object.
    """
    if not _is_document(path):
        for place, row in rows_of(path):
            yield place, row.get("id"), row
        return
    for number, (name, entry) in enumerate(_read_document(path, remedy).items(), start=1):
        if not isinstance(entry, dict):
            problem = f"an object is needed, not {describe(entry)}"
            raise Place(path, number).error(problem, name, remedy)
        yield Place(path, number), name, entry


def read_people(path: Path, remedy: str) -> dict[str, dict[str, str | float]]:
    """Read a table of annotators: what they say of themselves, age as a number.

    Args:
        path: The file.
        remedy: Which files are needed, for errors.

    Returns:
        For each annotator, such as ``Ann12``, what is known; of one data set a number alone is
        published for a name.

    Raises:
        DataError: If a value is neither text nor a number, or an age is no number.
    """
    known: dict[str, dict[str, str | float]] = {}
    for place, name, said in iter_entries(path, remedy):
        who = f"Ann{name}" if name.isdigit() else name
        values: dict[str, str | float] = {}
        for field, value in said.items():
            if value in _UNKNOWN or (isinstance(value, float) and math.isnan(value)):
                continue
            if field == "Age":
                values["age"] = number_of(said, field, place, 0, 150, f"{name}.")
            elif isinstance(value, str):
                values[field.lower().replace(" ", "_")] = value
            else:
                problem = f"text is needed, not {describe(value)}"
                raise place.error(problem, f"{name}.{field}", remedy)
        known[who] = values
    return known


def _is_document(path: Path) -> bool:
    return data_suffix(path) in (".json", ".json.gz") and not holds_array(path)


def _read_document(path: Path, remedy: str) -> Mapping[str, Any]:
    """Read an object; two of the published ones have a comma behind their last entries."""
    with open_binary(path) as file:
        try:
            text = file.read()
        except GZIP_ERRORS as error:
            raise DataError(f"the gzip file is damaged ({error})", file=path) from error
    try:
        document = loads(text)
    except ValueError as error:
        try:
            document = loads(_TRAILING_COMMA.sub(rb"\1", text))
        except ValueError:
            line = getattr(error, "lineno", None)
            raise DataError(f"not valid JSON: {error}", file=path, line=line) from error
    if not isinstance(document, dict):
        problem = f"an object is needed, not {describe(document)}"
        raise DataError(problem, file=path, remedy=remedy)
    return document
