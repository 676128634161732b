"""Rows of CSV files: cells are text, numbers in some columns, or the JSON of messages."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from hidden_context.data.storage.files import GZIP_ERRORS, loads, open_binary, require_unique
from hidden_context.errors import DataError

# Cells of these columns are numbers, all others text.
_NUMBERS: Final = {"preference", "margin", "strength", "rating_chosen", "rating_rejected", "weight"}
# An empty cell in these columns is empty text; elsewhere it is null.
_TEXT_COLUMNS: Final = ("prompt", "chosen", "rejected", "response", "text")
_CONVERSATIONS: Final = (*_TEXT_COLUMNS, "messages")

# The start of a list of objects, or of one message, in JSON or in Python's notation.
_OBJECTS = re.compile(r"\s*(?:(?:array\()?(?:[\[(]\s*)+\{|\{\s*['\"](?:role|content)['\"]\s*:)")
_KEY = re.compile(r"['\"](\w+)['\"]\s*:")
# The keys for the sender and for the content of a message.
_WHO: Final = {"role", "from"}
_WHAT: Final = {"content", "tool_calls", "value"}

_QUOTING: Final = (
    'Write cells with quotes, commas or line breaks as "...", each quote in them doubled (""), '
    "and the file in UTF-8"
)


def iter_csv_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | DataError]]:
    """Yield the rows of a CSV file in UTF-8, plain or gzip, one after the other.

    The first line names the columns. An empty cell is null, or empty text where a column holds
    texts. A cell that holds chat messages as JSON becomes a list of messages.

    Args:
        path: The file.

    Yields:
        The row number, from 1, and the row, or the error that says why there is none.

    Raises:
        DataError: If two columns have one name, or the file is damaged, naming the line.
    """
    # Dialogues are long; this is the highest limit that every system allows.
    csv.field_size_limit(2**31 - 1)
    number, start, names = 0, 1, list[str]()
    with open_binary(path) as raw, io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, strict=True)
        try:
            for cells in lines:
                if cells and not names:
                    _check_names(cells, path)
                    names = cells
                elif cells:  # skip blank lines
                    number += 1
                    yield number, _read_row(names, cells, path, number, start)
                start = lines.line_num + 1
        except (csv.Error, UnicodeDecodeError, *GZIP_ERRORS) as error:
            problem = f"the CSV file cannot be read from line {start} on: {error}"
            raise DataError(problem, file=path, remedy=_QUOTING) from error


def _check_names(names: Sequence[str], path: Path) -> None:
    require_unique(names, path)
    found = next((mark for mark in ";\t" if len(names) == 1 and mark in names[0]), None)
    if found is not None:
        problem = f"commas are needed between cells, but the header has {found!r}"
        raise DataError(problem, file=path, line=1, remedy="Write it again with commas")


def _read_row(
    names: Sequence[str], cells: Sequence[str], path: Path, number: int, start: int
) -> dict[str, Any] | DataError:
    if len(cells) != len(names):
        problem = (
            f"the CSV file cannot be read: the row that begins on its line {start} has "
            f"{len(cells)} cells, the header {len(names)}"
        )
        return DataError(problem, file=path, line=number, remedy=_QUOTING)
    row: dict[str, Any] = {}
    for name, cell in zip(names, cells, strict=True):
        # In a row with a pair, a column "rating" is not part of the schema.
        is_number = name in _NUMBERS or (name == "rating" and "chosen" not in names)
        try:
            if cell == "" and name not in _TEXT_COLUMNS:
                row[name] = None
            elif is_number:
                row[name] = float(cell)
            else:
                row[name] = _read_messages(cell) if name in _CONVERSATIONS else cell
        except ValueError as error:
            problem = f"the cell looks like chat messages but is not valid JSON ({error})"
            remedy = (
                "Write it with json.dumps(messages), not str(messages), or use JSON Lines or "
                "parquet, which tell texts from messages"
            )
            if is_number:
                problem = f"a number is needed, not {cell[:40]!r}"
                remedy = f"Leave the cell empty where {name!r} is not known"
            return DataError(problem, file=path, line=number, field=name, remedy=remedy)
    return row


def _read_messages(cell: str) -> Any:
    """Read the JSON of chat messages; other cells are text.

    Raises:
        ValueError: If messages are there, but not as JSON.
    """
    if not _OBJECTS.match(cell) or not _are_of_a_message(set(_KEY.findall(cell))):
        return cell
    value = loads(cell)
    return value if _has_messages(value) else cell


def _has_messages(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_has_messages, value))
    return isinstance(value, dict) and _are_of_a_message(value)


def _are_of_a_message(keys: Iterable[str]) -> bool:
    return not _WHO.isdisjoint(keys) and not _WHAT.isdisjoint(keys)
