"""Reading of judgements for all importers: the annotator, the weight and the answer."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from hidden_context.data.checks import (
    Place,
    describe,
    read_annotator,
    read_list,
    read_number,
    read_weight,
)
from hidden_context.data.example import Abstention, Comparison, Example, Judgement, Rating

MAX_STRENGTH = 10
COMPARISON_COLUMNS = ("preference", "strength", "margin")
RATING_COLUMNS = ("rating_chosen", "rating_rejected")

# The keys of an entry of each list that say something about the responses; others pass through.
ENTRY_KEYS: dict[str, tuple[str, ...]] = {
    "annotations": (*COMPARISON_COLUMNS, *RATING_COLUMNS, "abstains"),
    "judgements": ("comparison", "ranks", "response", "rating", *COMPARISON_COLUMNS, "abstains"),
    "rankings": ("ranks", "abstains"),
    "ratings": ("rating", "abstains"),
}
Said: TypeAlias = "partial[Judgement]"
"""Makes a judgement of an answer, with its annotator, weight and columns."""

_WHO = ("annotator", "weight", "confidence")
_JUDGE = ("judge", "answers", "one_order")
"""Keys of a judge that was asked several times; the comparison of judges reads them."""

_COMPARED: dict[str, dict[str, Any]] = {
    "preference": {
        "low": 0.0,
        "high": 1.0,
        "remedy": "'preference' is the share of annotators for the chosen side: 1 all, 0.5 a tie",
    },
    "strength": {
        "kind": "an integer",
        "low": -MAX_STRENGTH,
        "high": MAX_STRENGTH,
        "remedy": "'strength' is by how many levels the chosen side is better: 0 a tie, negative "
        "where the rejected side is better",
    },
    "margin": {},
}
"""What each column of a comparison may hold."""


def refuse(row: Mapping[str, Any], fields: Iterable[str], problem: str, place: Place) -> None:
    """Raise an error if a row has columns of another kind of row.

    Raises:
        DataError: If one of them has a value.
    """
    for field in fields:
        if row.get(field) is not None:
            raise place.error(problem, field, "Leave it out, or give it its own row or entry")


def of_row(row: Mapping[str, Any], place: Place) -> Said:
    """Read the annotator and the weight of a row.

    Args:
        row: The columns ``annotator`` and ``weight``, both optional.
        place: Where the row stands, for errors.

    Returns:
        A function that makes a judgement from an answer.

    Raises:
        DataError: If a value is of the wrong kind.
    """
    annotator = read_annotator(row.get("annotator"), "annotator", place)
    weight = read_weight(row.get("weight"), place)
    return partial(Judgement, annotator=annotator, weight=weight, columns=row)


def entries_of(
    row: dict[str, Any], field: str, place: Place, remedy: str
) -> Iterator[tuple[str, Mapping[str, Any], Said]]:
    """Read a column that lists the answers of several annotators.

    Args:
        row: The columns.
        field: The column, one of ``ENTRY_KEYS``.
        place: Where the row stands, for errors.
        remedy: The advice in errors if the column holds something else.

    Yields:
        For each entry: its name in errors, such as ``annotations[1].``, the entry, and a function
        that makes a judgement from an answer. An entry without an annotator has the row's
        annotator. Its weight is multiplied by the row's ``weight``.

    Raises:
        DataError: If the column is not a list of entries, an entry has only unknown keys, or a
            value is of the wrong kind.
    """
    own, what = of_row(row, place)(Abstention()), field.removesuffix("s")
    for number, entry in enumerate(read_list(row.get(field), field, place, remedy, what)):
        prefix = f"{field}[{number}]"
        if not isinstance(entry, dict):
            article = "an" if what[0] in "aeiou" else "a"
            raise place.error(f"{article} {what} is needed, not {describe(entry)}", prefix, remedy)
        _check_entry(entry, field, prefix, place)
        who = read_annotator(entry.get("annotator"), f"{prefix}.annotator", place)
        said = partial(
            Judgement,
            annotator=own.annotator if who is None else who,
            weight=own.weight * read_weight(entry.get("weight"), place, f"{prefix}.weight"),
            confidence=read_number(entry.get("confidence"), f"{prefix}.confidence", place),
            columns=ChainMap(entry, row),
        )
        yield f"{prefix}.", entry, said


def _check_entry(entry: Mapping[str, Any], field: str, prefix: str, place: Place) -> None:
    """Raise an error if an entry has only unknown keys, or is an abstention with a vote."""
    unknown, fields = _unknown_keys(entry, field), (*_WHO, *ENTRY_KEYS[field])
    given = [key for key in fields if entry.get(key) is not None]
    if unknown and not (given and any(key in entry for key in ENTRY_KEYS[field])):
        problem = f"the entry has only unknown keys: {', '.join(map(repr, unknown))}"
        remedy = f"The keys that are read are {', '.join(fields)}; 'abstains' is true or left out"
        raise place.error(problem, prefix, remedy)
    abstains = entry.get("abstains")
    if abstains is not None and not isinstance(abstains, bool):
        problem = f"true or false is needed, not {describe(abstains)}"
        raise place.error(problem, f"{prefix}.abstains", "Write true, or leave it out")
    votes = [key for key in given if abstains and key not in (*_WHO, "abstains")]
    if votes:
        problem = "an abstention cannot have this key"
        raise place.error(problem, f"{prefix}.{votes[0]}", "Remove this key or 'abstains'")


def _unknown_keys(entry: Mapping[str, Any], field: str) -> list[str]:
    known = (*_WHO, *_JUDGE, *ENTRY_KEYS[field])
    return [key for key, value in entry.items() if value is not None and key not in known]


def name_of(entry: Any, row: Mapping[str, Any]) -> str:
    """Return the name of a list entry in its row, such as ``annotations[1]``, or an empty text."""
    places = (
        f"{field}[{number}]"
        for field in ENTRY_KEYS
        if isinstance(row.get(field), list)
        for number, value in enumerate(row[field])
        if value is entry
    )
    return next(places, "")


def unread_keys(example: Example) -> set[str]:
    """Return the keys of list entries that are not read, such as ``annotations.comment``."""
    columns = [said.columns for said in example.judgements]
    entries = [both.maps[0] for both in columns if isinstance(both, ChainMap)]
    field = name_of(entries[0], example.columns).partition("[")[0] if entries else ""
    unread = (key for entry in entries if field for key in _unknown_keys(entry, field))
    return {f"{field}.{key}" for key in unread}


def read_comparison(
    columns: Mapping[str, Any],
    place: Place,
    prefix: str = "",
    first: int = 0,
    second: int = 1,
    ratings: Sequence[Judgement] = (),
) -> Comparison | None:
    """Read which of two responses is better, and by how much.

    Args:
        columns: ``preference``, ``strength`` and ``margin``, all optional.
        place: Where they stand, for errors.
        prefix: The text before a field's name in errors.
        first: Place of the response that positive values favour.
        second: Place of the other response.
        ratings: Ratings of the two responses, the first response first.

    Returns:
        The comparison; None if nothing says which is better. A missing ``preference`` is 1, 0.5 or
        0 by the sign of the ``strength``, else of the ``margin``, else of the difference of the two
        ratings.

    Raises:
        DataError: If a value is of the wrong kind, or two values favour different responses; a tie
            agrees with both.
    """
    preference, strength, margin = (
        read_number(columns.get(name), prefix + name, place, **limits)
        for name, limits in _COMPARED.items()
    )
    values = [said.answer.value for said in ratings if isinstance(said.answer, Rating)]
    leads = {
        "preference": None if preference is None else preference - 0.5,
        "strength": strength,
        "margin": margin,
        "rating_chosen": values[0] - values[1] if len(values) == 2 else None,
    }
    signs = {name: (lead > 0) - (lead < 0) for name, lead in leads.items() if lead is not None}
    if not signs:
        return None
    _check_signs(signs, prefix, place)
    if preference is None:
        preference = (1 + next(iter(signs.values()))) / 2
    levels = None if strength is None else int(strength)
    return Comparison(first, second, preference, levels, margin)


def _check_signs(signs: Mapping[str, int], prefix: str, place: Place) -> None:
    """Raise an error if two columns favour different sides; a tie agrees with both."""
    better, worse = (
        next((name for name, sign in signs.items() if sign == one), "") for one in (1, -1)
    )
    if better and worse:
        raise place.error(
            f"{better!r} says that the chosen or first response is better, {worse!r} the opposite",
            ", ".join(prefix + name for name in signs if name in (better, worse)),
            "Where it is better, 'preference' is above 0.5, 'strength' and 'margin' are positive, "
            "and 'rating_chosen' is above 'rating_rejected': correct one, or leave it out",
        )


def rated(
    values: Iterable[tuple[int, str, Any]], said: Said, place: Place
) -> tuple[Judgement, ...]:
    """Read ratings of responses.

    Args:
        values: The response, the field and its value for each rating; null is no rating.
        said: A function that makes a judgement from an answer.
        place: Where they stand, for errors.

    Returns:
        The ratings.

    Raises:
        DataError: If a value is not a number.
    """
    read = [(response, read_number(value, field, place)) for response, field, value in values]
    return tuple(said(Rating(response, value)) for response, value in read if value is not None)
