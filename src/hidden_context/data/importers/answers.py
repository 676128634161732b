"""What importers share in reading judgements: who judged, how much it counts, and what was said."""

from __future__ import annotations

import dataclasses
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hidden_context.data.checks import (
    Place,
    describe,
    read_annotator,
    read_integer,
    read_list,
    read_number,
    read_weight,
)
from hidden_context.data.example import Abstention, Comparison, Judgement, Rating

MAX_STRENGTH = 10
COMPARISON_COLUMNS = ("preference", "strength", "margin")

_PREFERENCE_REMEDY = "'preference' is the share of annotators for the chosen side: 1 all, 0.5 a tie"
_STRENGTH_REMEDY = (
    "'strength' is by how many levels the chosen side is better: 0 a tie, negative where the "
    "rejected side is better"
)


def check_groups(row: Mapping[str, Any], place: Place) -> None:
    """Check the columns that say where an example comes from and what it was judged by.

    Raises:
        DataError: If ``data_subset`` is not text or ``objective`` neither text nor an integer.
    """
    for field, kinds, wanted in (
        ("data_subset", (str,), "text"),
        ("objective", (str, int), "text or an integer"),
    ):
        value = row.get(field)
        if value is not None and not isinstance(value, kinds):
            remedy = f"Rename the column if {field!r} means something else there"
            raise place.error(f"{wanted} is needed, not {describe(value)}", field, remedy)


def refuse(row: Mapping[str, Any], fields: Iterable[str], problem: str, place: Place) -> None:
    """Refuse columns that belong to another kind of row.

    Raises:
        DataError: If one of them has a value.
    """
    for field in fields:
        if row.get(field) is not None:
            raise place.error(problem, field, "Leave it out, or write rows of one kind")


def of_row(row: Mapping[str, Any], place: Place) -> Judgement:
    """Read who a row is by and how much it counts.

    Args:
        row: The columns ``annotator`` and ``weight``, both optional.
        place: Where the row stands, for errors.

    Returns:
        A judgement that says nothing yet.

    Raises:
        DataError: If a value is of the wrong kind.
    """
    annotator = read_annotator(row.get("annotator"), "annotator", place)
    weight = read_weight(row.get("weight"), place)
    return Judgement(Abstention(), annotator, weight, columns=row)


def entries_of(
    row: dict[str, Any], field: str, what: str, place: Place, remedy: str
) -> Iterator[tuple[str, Mapping[str, Any], Judgement]]:
    """Read a column that lists what several annotators said.

    Args:
        row: The columns.
        field: The column, such as ``annotations``.
        what: What it holds, in the singular.
        place: Where the row stands, for errors.
        remedy: What to do where it holds something else.

    Yields:
        For each entry its name in errors, such as ``annotations[1].``, the entry, and a judgement
        that says nothing yet. An entry that names nobody has the row's annotator; the row's
        ``weight`` multiplies into its own.

    Raises:
        DataError: If it is no list of entries, or a value is of the wrong kind.
    """
    own = of_row(row, place)
    for number, entry in enumerate(read_list(row.get(field), field, place, remedy, what)):
        prefix = f"{field}[{number}]"
        if not isinstance(entry, dict):
            article = "an" if what[0] in "aeiou" else "a"
            raise place.error(f"{article} {what} is needed, not {describe(entry)}", prefix, remedy)
        who = read_annotator(entry.get("annotator"), f"{prefix}.annotator", place)
        yield (
            f"{prefix}.",
            entry,
            Judgement(
                Abstention(),
                own.annotator if who is None else who,
                own.weight * read_weight(entry.get("weight"), place, f"{prefix}.weight"),
                read_number(entry.get("confidence"), f"{prefix}.confidence", place),
                ChainMap(entry, row),
            ),
        )


def read_comparison(
    columns: Mapping[str, Any], place: Place, prefix: str = "", first: int = 0, second: int = 1
) -> Comparison:
    """Read which of two responses is better, and by how much.

    Args:
        columns: ``preference``, ``strength`` and ``margin``, all optional.
        place: Where they stand, for errors.
        prefix: What errors put before a field's name.
        first: Place of the response that they speak for.
        second: Place of the other.

    Returns:
        The comparison. Without a ``preference`` it is 1, 0.5 or 0 by the sign of the ``strength``,
        and 1 without that too.

    Raises:
        DataError: If a value is of the wrong kind.
    """
    preference = read_number(
        columns.get("preference"),
        f"{prefix}preference",
        place,
        low=0.0,
        high=1.0,
        remedy=_PREFERENCE_REMEDY,
    )
    strength = read_integer(
        columns.get("strength"),
        f"{prefix}strength",
        place,
        low=-MAX_STRENGTH,
        high=MAX_STRENGTH,
        remedy=_STRENGTH_REMEDY,
    )
    margin = read_number(columns.get("margin"), f"{prefix}margin", place)
    if preference is None:
        preference = 1.0 if strength is None or strength > 0 else 0.5 if strength == 0 else 0.0
    return Comparison(first, second, preference, strength, margin)


def rated(
    values: Iterable[tuple[int, str, Any]], own: Judgement, place: Place
) -> tuple[Judgement, ...]:
    """Read ratings of responses by nobody known.

    Args:
        values: For each the response, the field and its value; null is no rating.
        own: Whose weight and columns they have.
        place: Where they stand, for errors.

    Returns:
        The ratings.

    Raises:
        DataError: If a value is no number.
    """
    read = [(response, read_number(value, field, place)) for response, field, value in values]
    return tuple(
        dataclasses.replace(own, answer=Rating(response, value), annotator=None)
        for response, value in read
        if value is not None
    )
