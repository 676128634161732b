"""Rows of a data file, whatever its format: JSON Lines, gzip, parquet or CSV."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

from hidden_context.data.files import iter_lines, parse_json_line, require_file
from hidden_context.errors import DataError

SUFFIXES = (".jsonl.gz", ".jsonl", ".json.gz", ".json", ".parquet", ".csv.gz", ".csv")

# A row, or the error that says why the line is none.
Row: TypeAlias = "dict[str, Any] | DataError"

_BATCH_ROWS = 1024
# CSV has no types: every cell is text but those of these columns.
_NUMBER_COLUMNS = (
    "preference",
    "margin",
    "strength",
    "rating_chosen",
    "rating_rejected",
    "weight",
)
# Where an empty cell is empty text; elsewhere it is null.
_TEXT_COLUMNS = ("prompt", "chosen", "rejected", "response", "text")


def data_suffix(path: str | Path) -> str | None:
    """Return the suffix by which a file is read (``.jsonl.gz``, ``.parquet`` …), or None."""
    name = Path(path).name.lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)


def iter_rows(path: str | Path) -> Iterator[tuple[int, Row]]:
    """Yield the rows of a data file one after the other, without holding the file in memory.

    Args:
        path: A file in JSON Lines (``.jsonl`` or ``.json``, plain or gzip), parquet or CSV.

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
        raise DataError(
            "files of this kind are not read",
            file=path,
            remedy=f"Known kinds: {', '.join(SUFFIXES)}",
        )
    if suffix == ".parquet":
        return _iter_parquet(path)
    if suffix.startswith(".csv"):
        return _iter_csv(path)
    return _iter_json_lines(path)


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
        with pq.ParquetFile(path) as file:
            yield from _number(file.iter_batches(batch_size=_BATCH_ROWS))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"the parquet file cannot be read: {error}", file=path) from error


def _iter_csv(path: Path) -> Iterator[tuple[int, Row]]:
    import pyarrow as pa
    from pyarrow import csv

    parsing = csv.ParseOptions(newlines_in_values=True)
    try:
        with csv.open_csv(path, parse_options=parsing) as batches:
            names = batches.schema.names
        # No guesses at types, which would turn 007 into 7: every column is read as text.
        as_text = csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
        )
        with csv.open_csv(path, parse_options=parsing, convert_options=as_text) as batches:
            for number, row in _number(batches):
                yield number, _convert_cells(row, path, number)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"the CSV file cannot be read: {error}", file=path) from error


def _convert_cells(row: dict[str, Any], path: Path, number: int) -> Row:
    """Make the cells of a CSV row nulls and numbers where they are; other cells stay text."""
    columns: dict[str, Any] = {
        name: None if cell == "" and name not in _TEXT_COLUMNS else cell
        for name, cell in row.items()
    }
    # Beside a pair a column of that name is not ours.
    rated = () if "chosen" in columns else ("rating",)
    for field in _NUMBER_COLUMNS + rated:
        cell = columns.get(field)
        if cell is None:
            continue
        try:
            columns[field] = float(cell)
        except ValueError:
            return DataError(
                f"a number is needed, not {cell[:40]!r}",
                file=path,
                line=number,
                field=field,
                remedy=f"Leave the cell empty where {field!r} is not known",
            )
    return columns


def _number(batches: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    number = 0
    for batch in batches:
        for row in batch.to_pylist():
            number += 1
            yield number, row


def require_row(row: Row) -> dict[str, Any]:
    """Return the row, or raise the error that stands in its place."""
    if isinstance(row, DataError):
        raise row
    return row
