"""Published values beyond those of people and numbers: names, yes or no, and objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hidden_context.data.checks import Place, describe

_AS_PUBLISHED = "Give the file as it is published"


def id_of(row: Mapping[str, Any], field: str, place: Place, prefix: str = "") -> str:
    """Return what a row goes by, text or an integer, as text.

    Raises:
        DataError: If it is missing or something else.
    """
    value = row.get(field)
    if isinstance(value, float) and value.is_integer():  # as tables with nulls hold integers
        value = int(value)
    if value == "" or isinstance(value, bool) or not isinstance(value, (str, int)):
        problem = f"text or an integer is needed, by which the row goes, not {describe(value)}"
        raise place.error(problem, prefix + field, _AS_PUBLISHED)
    return str(value)


def object_of(
    row: Mapping[str, Any], field: str, place: Place, prefix: str = "", *, needed: bool = True
) -> Mapping[str, Any]:
    """Return a column that has to be an object; where it is not needed, an empty one if missing.

    Raises:
        DataError: If it is something else.
    """
    value = row.get(field)
    if not value and not needed:
        return {}
    if not isinstance(value, Mapping):
        problem = f"an object is needed, not {describe(value)}"
        raise place.error(problem, prefix + field, _AS_PUBLISHED)
    return value


def truth_of(row: Mapping[str, Any], field: str, place: Place, prefix: str = "") -> bool:
    """Return a truth value; the texts ``true`` and ``false`` of CSV, in any case, are ones.

    Raises:
        DataError: If it is missing or something else.
    """
    value = row.get(field)
    if isinstance(value, bool):
        return value
    text = value.lower() if isinstance(value, str) else None
    if text not in ("true", "false"):
        problem = f"a truth value is needed, not {describe(value)}"
        raise place.error(problem, prefix + field, _AS_PUBLISHED)
    return text == "true"
