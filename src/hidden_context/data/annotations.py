"""What each annotator said of a pair: which side, by how many levels, by what margin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hidden_context.data.checks import describe, read_integer, read_number
from hidden_context.errors import DataError

if TYPE_CHECKING:
    from hidden_context.data.preferences import Preference

MAX_STRENGTH = 10

_EXAMPLE = 'Write the column as [{"annotator": "a", "preference": 1}, {"annotator": "b", ...}]'
_PREFERENCE_REMEDY = "'preference' is the share of annotators for the chosen side: 1 all, 0.5 a tie"
_STRENGTH_REMEDY = (
    "'strength' is by how many levels the chosen side is better: 0 a tie, negative where the "
    "rejected side is better"
)


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotator's judgement of a pair.

    Attributes:
        annotator: Who judged, where it is known.
        preference: 1 for the chosen side, 0 for the rejected one, 0.5 for a tie, or between.
        strength: By how many levels the chosen side is better, from −10 to 10, where it is known.
        margin: By how much, in units of the data set, where it is known.
    """

    annotator: str | int | None = None
    preference: float = 1.0
    strength: int | None = None
    margin: float | None = None


def _share_of_strength(strength: int | None) -> float:
    """Return the preference that a strength's sign says; 1 where there is none."""
    if strength is None or strength > 0:
        return 1.0
    return 0.5 if strength == 0 else 0.0


def _read_annotator(
    value: Any, field: str, file: Path | str | None, line: int | None
) -> str | int | None:
    if value is None or value == "":
        return None
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        return value
    raise DataError(
        f"text or an integer is needed, not {describe(value)}",
        file=file,
        line=line,
        field=field,
        remedy="Annotators go by a name or a number; rename the column if it holds something else",
    )


def _read_annotation(
    columns: Mapping[str, Any],
    prefix: str,
    annotator: str | int | None,
    file: Path | str | None,
    line: int | None,
) -> Annotation:
    """Read the labels of a row, or of an entry whose fields errors name with a prefix."""
    place = (file, line)
    preference = read_number(
        columns.get("preference"),
        f"{prefix}preference",
        *place,
        low=0.0,
        high=1.0,
        remedy=_PREFERENCE_REMEDY,
    )
    strength = read_integer(
        columns.get("strength"),
        f"{prefix}strength",
        *place,
        low=-MAX_STRENGTH,
        high=MAX_STRENGTH,
        remedy=_STRENGTH_REMEDY,
    )
    margin = read_number(columns.get("margin"), f"{prefix}margin", *place)
    if preference is None:
        preference = _share_of_strength(strength)
    return Annotation(annotator, preference, strength, margin)


def read_annotations(
    row: Mapping[str, Any],
    annotator_column: str = "annotator",
    *,
    file: Path | str | None = None,
    line: int | None = None,
) -> tuple[Annotation, ...]:
    """Read the judgements of a row: its ``annotations``, or the one that its own columns make.

    Args:
        row: The columns. Each entry of ``annotations`` may have ``preference``, ``strength``,
            ``margin`` and the annotator's column; what it has beside is of no account.
        annotator_column: The column, and key of an entry, that says who judged. An entry without
            it has the row's.
        file: Where the row stands, for errors.
        line: Its line or row number.

    Returns:
        At least one annotation. Without a ``preference`` it is 1, 0.5 or 0 by the sign of the
        ``strength``, and 1 without that too.

    Raises:
        DataError: If a value is of the wrong kind, naming it, such as
            ``annotations[1].preference``; or if the list holds nothing.
    """
    shared = _read_annotator(row.get(annotator_column), annotator_column, file, line)
    own = _read_annotation(row, "", shared, file, line)
    entries = row.get("annotations")
    if entries is None:
        return (own,)
    if not isinstance(entries, list) or not entries:
        found = describe(entries) if not isinstance(entries, list) else "an empty list"
        raise DataError(
            f"a list of at least one annotation is needed, not {found}",
            file=file,
            line=line,
            field="annotations",
            remedy=f"{_EXAMPLE}, or leave it out or null where they are not known",
        )
    annotations = []
    for number, entry in enumerate(entries):
        field = f"annotations[{number}]"
        if not isinstance(entry, Mapping):
            raise DataError(
                f"an annotation is needed, not {describe(entry)}",
                file=file,
                line=line,
                field=field,
                remedy=_EXAMPLE,
            )
        who = _read_annotator(
            entry.get(annotator_column), f"{field}.{annotator_column}", file, line
        )
        annotations.append(
            _read_annotation(entry, f"{field}.", shared if who is None else who, file, line)
        )
    return tuple(annotations)


def annotations_of(pair: Preference, annotator_column: str = "annotator") -> tuple[Annotation, ...]:
    """Return the judgements of a pair, with the annotators that a column of one's choice names.

    Args:
        pair: The pair.
        annotator_column: The column that says who judged, such as ``objective``. Where the pair
            has ``annotations``, the key of that name in each entry, and the row's column for an
            entry without it.

    Returns:
        At least one annotation.

    Raises:
        DataError: If a value there is neither text nor an integer nor null, naming the field and
            the pair's ``source_line``.
    """
    return read_annotations(pair.columns, annotator_column, line=pair.source_line)
