"""Rows of a data file, whatever its format: JSON Lines, gzip, parquet or CSV."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from hidden_context.data.storage.csv_files import iter_csv_rows
from hidden_context.data.storage.files import (
    GZIP_ERRORS,
    iter_lines,
    open_binary,
    parse_json_line,
    read_json,
    require_file,
)
from hidden_context.data.storage.tables import BATCH_ROWS, iter_table_rows
from hidden_context.errors import DataError

SUFFIXES = (".jsonl.gz", ".jsonl", ".json.gz", ".json", ".parquet", ".csv.gz", ".csv")

# A row, or the error that says why the line holds no row.
Row: TypeAlias = "dict[str, Any] | DataError"


def data_suffix(path: str | Path) -> str | None:
    """Return the suffix by which a file is read (``.jsonl.gz``, ``.parquet`` …), or None."""
    name = Path(path).name.lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)


def iter_rows(path: str | Path) -> Iterator[tuple[int, Row]]:
    """Yield the rows of a data file one after the other, without holding the file in memory.

    Args:
        path: A file in JSON Lines (``.jsonl`` or ``.json``, plain or gzip; ``.json`` may also be
            one array of rows, which is held in memory), parquet or CSV.

    Yields:
        The line number (for parquet and CSV the row number, from 1) and the row, or, where a
        line is not a JSON object, the error that says so: the caller raises or counts it.

    Raises:
        MissingFileError: If the file does not exist.
        DataError: If it is of an unknown kind or damaged as a whole.
    """
    path = require_file(path)
    suffix = data_suffix(path)
    if suffix is None:
        known = f"Known kinds: {', '.join(SUFFIXES)}"
        raise DataError("files of this kind are not read", file=path, remedy=known)
    if suffix == ".parquet":
        return _iter_parquet(path)
    if suffix.startswith(".csv"):
        return iter_csv_rows(path)
    if not suffix.startswith(".jsonl") and holds_array(path):
        return iter_array(path)
    return _iter_json_lines(path)


def holds_array(path: str | Path) -> bool:
    """Tell whether a JSON file, plain or gzip, begins as an array.

    Raises:
        MissingFileError: If the file does not exist.
    """
    with open_binary(path) as file:
        try:
            return file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
        except (OSError, *GZIP_ERRORS):  # a damaged gzip file, which its reader names
            return False


def iter_array(path: str | Path) -> Iterator[tuple[int, Row]]:
    """Yield ``(place from 1, row)`` of a JSON array, which is held in memory whole.

    An item that is not an object is yielded as the error that says so.

    Raises:
        MissingFileError: If the file does not exist.
        DataError: If it is not valid JSON.
    """
    for number, item in enumerate(read_json(path), start=1):
        problem = f"item {number} of the array is {repr(item)[:40]}, not an object"
        remedy = "An array has one {…} for each row"
        is_row = isinstance(item, dict)
        yield number, item if is_row else DataError(problem, file=path, line=number, remedy=remedy)


def _iter_json_lines(path: Path) -> Iterator[tuple[int, Row]]:
    for number, line in iter_lines(path):
        try:
            row: Row = parse_json_line(line, path, number)
        except DataError as error:
            row = error
        yield number, row


def _iter_parquet(path: Path) -> Iterator[tuple[int, Row]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Of the old timestamps of 96 bits, those before 1678 or after 2262 have no nanoseconds.
        with pq.ParquetFile(path, coerce_int96_timestamp_unit="us") as file:
            yield from iter_table_rows(file.iter_batches(batch_size=BATCH_ROWS), path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"the parquet file cannot be read: {error}", file=path) from error


def drop_nulls(value: Any) -> Any:
    """Leave out every key whose value is null, at any depth; entries of lists stay.

    Tables give each object the keys of all others, with null where a row has none: so a null key is
    an absent key, whatever format a row comes in.

    Args:
        value: What a row holds: objects, lists, texts and numbers, such as chat messages.

    Returns:
        The same with fewer keys, as a copy.
    """
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, Mapping):
        return {key: drop_nulls(item) for key, item in value.items() if item is not None}
    return [drop_nulls(item) for item in value] if isinstance(value, (list, tuple)) else value


def require_row(row: Row) -> dict[str, Any]:
    """Return the row, or raise the error in its place."""
    if isinstance(row, DataError):
        raise row
    return row
