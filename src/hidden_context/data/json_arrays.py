"""Files that are one JSON array of rows, as some benchmarks are published."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hidden_context.data.files import open_binary, read_json
from hidden_context.errors import DataError


def holds_array(path: str | Path) -> bool:
    """Tell whether a JSON file, plain or gzip, begins as an array.

    Raises:
        MissingFileError: If the file does not exist.
    """
    with open_binary(path) as file:
        try:
            return file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
        except (OSError, EOFError):  # a damaged gzip file, which its reader names
            return False


def iter_array(path: str | Path) -> Iterator[tuple[int, dict[str, Any] | DataError]]:
    """Yield ``(place from 1, row)`` of a JSON array; it is held in memory whole.

    Args:
        path: The file, plain or gzip.

    Yields:
        The place and the row, or, where an item is no object, the error that says so.

    Raises:
        MissingFileError: If the file does not exist.
        DataError: If it is not valid JSON.
    """
    for number, item in enumerate(read_json(path), start=1):
        problem = f"item {number} of the array is {repr(item)[:40]}, not an object"
        remedy = "An array has one {…} for each row"
        is_row = isinstance(item, dict)
        yield number, item if is_row else DataError(problem, file=path, line=number, remedy=remedy)
