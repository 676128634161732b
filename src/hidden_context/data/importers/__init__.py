"""Importers of preference data: one module per kind of row, tried in a fixed order."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from hidden_context.data.checks import Place, describe
from hidden_context.data.example import Example, read_tools
from hidden_context.data.importers import benchmarks, judgements, pairs, rankings, ratings

IMPORTERS: Final = (
    pairs,
    judgements,
    rankings,
    ratings,
    benchmarks,
)
"""Each has ``recognises(row)``, whether a row is of its kind, and ``read(row, place)``."""


def read_row(
    row: dict[str, Any], *, file: str | Path | None = None, line: int | None = None
) -> Example:
    """Read one row of preference data of any kind.

    Args:
        row: The columns; columns that no importer knows pass through untouched.
        file: The file of the row, kept in ``source_file`` and named in errors.
        line: The line or row number, kept in ``source_lines``.

    Returns:
        The example.

    Raises:
        DataError: If a column is missing or of the wrong kind, naming file, line and field.
    """
    importer = next((one for one in IMPORTERS if one.recognises(row)), pairs)
    place = Place(file, line)
    example: Example = importer.read(row, place)
    _check_groups(row, place)
    return dataclasses.replace(
        example,
        tools=read_tools(row, example.responses[0], place),
        source_file=None if file is None else str(file),
        source_lines=() if line is None else (line,),
    )


def _check_groups(row: Mapping[str, Any], place: Place) -> None:
    """Check the columns ``data_subset`` and ``objective``."""
    for field, kinds, wanted in (
        ("data_subset", (str,), "text"),
        ("objective", (str, int), "text or an integer"),
    ):
        value = row.get(field)
        if value is not None and not isinstance(value, kinds):
            remedy = f"Rename the column if {field!r} means something else there"
            raise place.error(f"{wanted} is needed, not {describe(value)}", field, remedy)
