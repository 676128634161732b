"""Checks of single values of a row: each returns the value, or says where it stands and why not."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from hidden_context.errors import DataError


def describe(value: Any) -> str:
    """Name the kind of a value and show it, for an error.

    >>> describe(True), describe(None)
    ('a truth value (True)', 'null')
    """
    if value is None:
        return "null"
    text = repr(value)
    kind = {bool: "a truth value", int: "a number", float: "a number", str: "text"}
    shown = text if len(text) <= 40 else text[:37] + "..."
    return f"{kind.get(type(value), f'a {type(value).__name__}')} ({shown})"


def _unknown(field: str) -> str:
    return f"Leave {field!r} out or null where it is not known"


def _is_finite(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False


def read_number(
    value: Any,
    field: str,
    file: Path | str | None = None,
    line: int | None = None,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    remedy: str | None = None,
) -> float | None:
    """Check that a value is null or a finite number of a range.

    Args:
        value: What stands in the column.
        field: The column's name.
        file: Where the row stands, for the error.
        line: Its line or row number.
        low: The least value allowed.
        high: The greatest.
        remedy: What to do where it is something else.

    Returns:
        The number, or None.

    Raises:
        DataError: If it is something else.
    """
    if value is None:
        return None
    if not _is_finite(value):
        problem = f"a finite number is needed, not {describe(value)}"
    elif not low <= value <= high:
        problem = f"a number from {low:g} to {high:g} is needed, not {value!r}"
    else:
        return float(value)
    raise DataError(problem, file=file, line=line, field=field, remedy=remedy or _unknown(field))


def read_integer(
    value: Any,
    field: str,
    file: Path | str | None = None,
    line: int | None = None,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    remedy: str | None = None,
) -> int | None:
    """Check that a value is null or an integer of a range; 2.0 is one, 2.5 is none.

    Args:
        value: What stands in the column.
        field: The column's name.
        file: Where the row stands, for the error.
        line: Its line or row number.
        low: The least value allowed.
        high: The greatest.
        remedy: What to do where it is something else.

    Returns:
        The integer, or None.

    Raises:
        DataError: If it is something else.
    """
    if value is None:
        return None
    # Tables with nulls, and CSV, hold integers as floats.
    whole = not isinstance(value, float) or value.is_integer()
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not whole:
        problem = f"an integer is needed, not {describe(value)}"
    elif not low <= value <= high:
        bounds = f"from {low:g} to {high:g}" if high < math.inf else f"of at least {low:g}"
        problem = f"an integer {bounds} is needed, not {value!r}"
    else:
        return int(value)
    raise DataError(problem, file=file, line=line, field=field, remedy=remedy or _unknown(field))


def read_weight(value: Any, file: Path | str | None = None, line: int | None = None) -> float:
    """Check that a ``weight`` is a positive finite number; null is 1.

    Raises:
        DataError: If it is something else.
    """
    if value is None:
        return 1.0
    if _is_finite(value) and value > 0:
        return float(value)
    raise DataError(
        f"a positive finite number is needed, not {describe(value)}",
        file=file,
        line=line,
        field="weight",
        remedy="'weight' is how much the row counts: leave it out for 1, leave out the row for 0",
    )
