"""Rows of a data file, read and written: JSON Lines, gzip, parquet or CSV."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import IO, Any, TypeAlias

from hidden_context.data.storage.csv_files import iter_csv_rows
from hidden_context.data.storage.files import (
    GZIP_ERRORS,
    atomic_write,
    iter_lines,
    json_line,
    loads,
    open_binary,
    parse_json_line,
    read_json,
    repeated,
    require_file,
    require_unique,
)
from hidden_context.errors import DataError

SUFFIXES = (".jsonl.gz", ".jsonl", ".json.gz", ".json", ".parquet", ".csv.gz", ".csv")
BATCH_ROWS = 1024

# A row, or the error that says why the line holds no row.
Row: TypeAlias = "dict[str, Any] | DataError"
WriteRow: TypeAlias = Callable[[Mapping[str, Any]], Any]


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
        except (OSError, *GZIP_ERRORS):  # a damaged gzip file; its reader raises the error
            return False


def iter_array(path: str | Path) -> Iterator[tuple[int, Row]]:
    """Yield ``(place from 1, row)`` of a JSON array, which is held in memory whole.

    For an item that is not an object, the error is yielded in its place.

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
        # Old 96-bit timestamps before 1678 or after 2262 do not fit in nanoseconds.
        with pq.ParquetFile(path, coerce_int96_timestamp_unit="us") as file:
            yield from iter_table_rows(file.iter_batches(batch_size=BATCH_ROWS), path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"the parquet file cannot be read: {error}", file=path) from error


def iter_table_rows(
    batches: Iterable[Any], file: str | Path
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the rows of Arrow batches as the rows of a JSON Lines file would be.

    Maps and values of Arrow's JSON type become objects. Values that JSON lacks (bytes, decimals,
    times …) stay Python values; ``files.to_plain`` converts them for writing.

    Args:
        batches: Record batches or tables of one schema.
        file: Where they come from, for errors.

    Yields:
        The row number, from 1, and the row.

    Raises:
        DataError: If two columns have one name, or a column holds what Python cannot, naming it.
    """
    number = 0
    for batch in batches:
        names = batch.schema.names
        require_unique(names, file)
        columns = [
            _read_column(column, field, file, number)
            for column, field in zip(batch.columns, batch.schema, strict=True)
        ]
        for values in zip(*columns, strict=True):
            number += 1
            yield number, dict(zip(names, values, strict=True))


def _read_column(column: Any, field: Any, file: str | Path, before: int) -> list[Any]:
    try:
        values = column.to_pylist()
        # A field may be called so too, which costs only time.
        if any(word in str(field.type) for word in ("map<", "arrow.json")):
            return [_restore(value, field.type) for value in values]
        return list(values)
    except Exception as error:  # such as a date in the year 20000
        raise DataError(
            f"a value after row {before} cannot be read as {field.type}: {error}",
            file=file,
            field=field.name,
            remedy="Leave the column out, or write it as text",
        ) from error


def _restore(value: Any, kind: Any) -> Any:
    """Convert Arrow's list of map entries, or JSON text, to an object."""
    from pyarrow import types

    if value is None:
        return None
    if getattr(kind, "extension_name", None) == "arrow.json":
        return loads(value)
    if types.is_map(kind):
        name = repeated(key for key, _ in value)
        if name is not None:
            raise ValueError(f"the key {name!r} occurs twice in one map")
        return {key: _restore(item, kind.item_type) for key, item in value}
    if types.is_struct(kind):
        return {field.name: _restore(value[field.name], field.type) for field in kind}
    if hasattr(kind, "value_field"):  # lists of every kind
        return [_restore(item, kind.value_type) for item in value]
    return value


def drop_nulls(value: Any) -> Any:
    """Leave out every key whose value is null, at any depth; entries of lists stay.

    Tables give every object all keys, with null for keys that its row lacks. A null key therefore
    means an absent key in every format.

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


@contextlib.contextmanager
def row_writer(path: Path) -> Iterator[WriteRow]:
    """Write rows to a file, whole or not at all.

    A Parquet file holds the same values as JSON Lines: values that JSON lacks are converted first.
    Each column has one type that fits all its values, with null for rows that lack the column.

    Args:
        path: The file; Parquet where the name ends in ``.parquet``, gzip where it ends in ``.gz``.

    Yields:
        A function that writes a row.

    Raises:
        StorageError: If it cannot be written.
        DataError: If the values of a column have no type in common, naming the column.
    """
    is_table = path.suffix.lower() == ".parquet"
    lines = path.with_name(f"{path.name}.rows") if is_table else path
    try:
        with atomic_write(lines) as file:
            yield lambda row: file.write(json_line(row))
        if is_table:
            _to_parquet(lines, path)
    finally:
        if is_table:
            lines.unlink(missing_ok=True)


def _to_parquet(lines: Path, path: Path) -> None:
    """Make a Parquet file of JSON Lines, a batch of rows in memory at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([])
    with lines.open("rb") as file:
        for rows in _batches(file):
            names = dict.fromkeys(name for row in rows for name in row)
            found = pa.schema([(name, _column(name, rows, None, path).type) for name in names])
            try:
                schema = pa.unify_schemas([schema, found], promote_options="permissive")
            except pa.ArrowException as error:
                both = [name for name in schema.names if name in found.names]
                mixed = [n for n in both if schema.field(n).type != found.field(n).type]
                raise _mixed(", ".join(mixed), path, error) from error
    with (
        lines.open("rb") as file,
        atomic_write(path, "wb") as sink,
        pq.ParquetWriter(sink, schema) as writer,
    ):
        for rows in _batches(file):
            columns = [_column(field.name, rows, field.type, path) for field in schema]
            writer.write_table(pa.table(columns, schema=schema))


def _batches(file: IO[bytes]) -> Iterator[list[dict[str, Any]]]:
    while lines := list(islice(file, BATCH_ROWS)):
        yield [json.loads(line) for line in lines]


def _column(name: str, rows: list[dict[str, Any]], kind: Any, path: Path) -> Any:
    """Make a column of one type; None takes the one that the values have in common."""
    import pyarrow as pa

    try:
        return pa.array([row.get(name) for row in rows], kind)
    except (pa.ArrowException, OverflowError) as error:
        raise _mixed(name, path, error) from error


def _mixed(name: str, path: Path, error: BaseException) -> DataError:
    reason = str(error).strip().splitlines()[0].rstrip(".")
    return DataError(
        f"its values have no common type, which a Parquet file needs ({reason})",
        file=path,
        field=name,
        remedy="Write JSON Lines (.jsonl), or give all values of the column one type",
    )
