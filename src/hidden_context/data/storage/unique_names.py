"""Unique names: keys of a JSON object, columns of a table."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from hidden_context.errors import DataError

_Name = TypeVar("_Name", bound=Hashable)


def loads(text: str | bytes) -> Any:
    """Read JSON in which no object has one key twice.

    Raises:
        ValueError: If it is not JSON, or an object has a key twice, which would lose a value.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique_keys)
    except RecursionError as error:
        raise ValueError("lists or objects are nested too deeply") from error


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"the key {repeated(key for key, _ in pairs)!r} is twice in one object")
    return found


def repeated(names: Iterable[_Name]) -> _Name | None:
    """Return the first name that occurs twice, or None."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def require_unique(names: Iterable[str], file: str | Path) -> None:
    """Check that no two columns have one name.

    Raises:
        DataError: If two have, naming it.
    """
    name = repeated(names)
    if name is not None:
        remedy = "Rename or leave out one of the two"
        raise DataError("two columns have this name", file=file, field=name, remedy=remedy)
