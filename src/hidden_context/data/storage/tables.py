"""Rows of Arrow tables, which parquet files and the ``datasets`` library hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hidden_context.data.storage.unique_names import loads, repeated, require_unique
from hidden_context.errors import DataError

BATCH_ROWS = 1024


def iter_table_rows(
    batches: Iterable[Any], file: str | Path
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the rows of Arrow batches as the rows of a JSON Lines file would be.

    Maps and values of Arrow's JSON type become objects. What JSON lacks (bytes, decimals, times …)
    stays what it is in Python; ``files.to_plain`` says how it is written.

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
    except Exception as error:  # whatever Arrow and Python make of a date in the year 20000
        raise DataError(
            f"a value after row {before} cannot be read as {field.type}: {error}",
            file=file,
            field=field.name,
            remedy="Leave the column out, or write it as text",
        ) from error


def _restore(value: Any, kind: Any) -> Any:
    """Make an object of what Arrow gives as a list of a map's entries, or as JSON text."""
    from pyarrow import types

    if value is None:
        return None
    if getattr(kind, "extension_name", None) == "arrow.json":
        return loads(value)
    if types.is_map(kind):
        name = repeated(key for key, _ in value)
        if name is not None:
            raise ValueError(f"the key {name!r} is twice in one map")
        return {key: _restore(item, kind.item_type) for key, item in value}
    if types.is_struct(kind):
        return {field.name: _restore(value[field.name], field.type) for field in kind}
    if hasattr(kind, "value_field"):  # lists of every kind
        return [_restore(item, kind.value_type) for item in value]
    return value
