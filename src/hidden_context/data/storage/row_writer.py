"""A writer of rows: Parquet or JSON Lines, by the name of the file."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import IO, Any, TypeAlias

from hidden_context.data.storage.files import atomic_write, json_line, partial_path
from hidden_context.data.storage.tables import BATCH_ROWS
from hidden_context.errors import DataError

WriteRow: TypeAlias = Callable[[Mapping[str, Any]], Any]


@contextlib.contextmanager
def row_writer(path: Path) -> Iterator[WriteRow]:
    """Write rows to a file, whole or not at all.

    A Parquet file holds what the lines of JSON would: what JSON lacks is converted first, and each
    column gets the one type that all its values have, with null where a row lacks it.

    Args:
        path: The file; Parquet where the name ends in ``.parquet``, gzip where it ends in ``.gz``.

    Yields:
        A function that writes a row.

    Raises:
        StorageError: If it cannot be written.
        DataError: If the values of a column have no type in common, naming the column.
    """
    if path.suffix.lower() != ".parquet":
        with atomic_write(path) as file:
            yield lambda row: file.write(json_line(row))
        return
    lines = path.with_name(f"{path.name}.rows")
    try:
        with atomic_write(lines) as file:
            yield lambda row: file.write(json_line(row))
        _to_parquet(lines, path)
    finally:
        for left in (lines, partial_path(lines)):
            left.unlink(missing_ok=True)


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
        f"its values have no one type, which a Parquet file needs ({reason})",
        file=path,
        field=name,
        remedy="Write JSON Lines (.jsonl), or make the column's values alike",
    )
