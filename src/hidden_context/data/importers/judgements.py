"""Rows with ``judgements``: a ``prompt``, ``responses``, and judgements of any form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hidden_context.data.checks import (
    Place,
    describe,
    read_conversation,
    read_integer,
    read_number,
)
from hidden_context.data.dialogue import is_blank
from hidden_context.data.example import Abstention, Answer, Comparison, Example, Rating
from hidden_context.data.importers.answers import (
    COMPARISON_COLUMNS,
    entries_of,
    read_comparison,
    refuse,
)
from hidden_context.data.importers.prompts import divide_given, read_sides
from hidden_context.data.importers.rankings import PAIR_COLUMNS, read_ranking

_EXAMPLE = (
    'Write {"prompt": "...", "responses": ["...", "..."], "judgements": [{"annotator": "a", '
    '"comparison": [0, 1], "preference": 1}, {"annotator": "b", "ranks": [2, 1]}, '
    '{"annotator": "c", "response": 0, "rating": 4}, {"annotator": "d", "abstains": true}]}'
)
_KINDS = ("comparison", "ranks", "response", "abstains")


def recognises(row: Mapping[str, Any]) -> bool:
    """Return whether a row has ``judgements``."""
    return row.get("judgements") is not None


def read(row: dict[str, Any], place: Place) -> Example:
    """Read a prompt, n ≥ 1 responses and the annotators' judgements.

    Args:
        row: The columns ``prompt`` (which may be empty), ``responses`` and ``judgements``: entries
            that may have ``annotator``, ``weight`` and ``confidence``, and have one of
            ``comparison`` (two places among the responses, from 0, the first of which is better;
            or ``preference``, ``strength`` and ``margin`` say for whom), ``ranks`` (one for each
            response, null where it was not ranked), ``response`` (a place) with its ``rating``,
            or ``abstains``. Other columns pass through untouched.
        place: Where the row stands, for errors.

    Returns:
        The example.

    Raises:
        DataError: If a column is missing or of the wrong kind, naming file, line and field, such
            as ``judgements[2].comparison``.
    """
    refuse(
        row,
        (*PAIR_COLUMNS, "ranks", "rating", "ratings"),
        "the column says what an entry of 'judgements' has to say",
        place,
    )
    prompt = read_conversation(row.get("prompt") or "", "prompt", place)
    sides = read_sides(row, place, 1, _EXAMPLE)
    judgements = tuple(
        said(_read_answer(entry, prefix, len(sides), place))
        for prefix, entry, said in entries_of(row, "judgements", place, _EXAMPLE)
    )
    if is_blank(prompt):
        prompt, responses = ("" if isinstance(sides[0], str) else []), tuple(sides)
    else:
        prompt, responses = divide_given(prompt, sides, place)
    return Example(prompt, responses, judgements, row)


def _read_answer(entry: Mapping[str, Any], prefix: str, count: int, place: Place) -> Answer:
    said = [kind for kind in _KINDS if not any(entry.get(kind) is no for no in (None, False))]
    field = f"{prefix}{said[-1]}" if said else prefix.rstrip(".")
    if len(said) != 1:
        found = " and ".join(map(repr, said)) or "none of them"
        problem = f"one of 'comparison', 'ranks', 'response' and 'abstains' is needed, not {found}"
        raise place.error(problem, field, _EXAMPLE)
    kind, value = said[0], entry[said[0]]
    foreign = [] if kind == "comparison" else list(COMPARISON_COLUMNS)
    foreign += [] if kind == "response" else ["rating"]
    given = {f"{prefix}{name}": entry.get(name) for name in foreign}
    refuse(given, given, f"an entry with {kind!r} cannot have this key", place)
    if kind == "comparison":
        return _read_two(value, entry, prefix, count, place)
    if kind == "ranks":
        return read_ranking(value, field, count, place)
    if kind == "response":
        rating = read_number(entry.get("rating"), f"{prefix}rating", place)
        if rating is None:
            remedy = 'Write {"abstains": true} for a response that was not rated'
            raise place.error("a number is needed, not null", f"{prefix}rating", remedy)
        return Rating(_read_place(value, field, count, place), rating)
    return Abstention()


def _read_place(value: Any, field: str, count: int, place: Place) -> int:
    remedy = "Responses are counted from 0"
    number = read_integer(value, field, place, low=0, high=count - 1, remedy=remedy)
    if number is None:
        raise place.error("an integer is needed, not null", field, remedy)
    return number


def _read_two(
    value: Any, entry: Mapping[str, Any], prefix: str, count: int, place: Place
) -> Comparison:
    field = f"{prefix}comparison"
    if not isinstance(value, list) or len(value) != 2:
        problem = f"a list of two places is needed, not {describe(value)}"
        raise place.error(problem, field, _EXAMPLE)
    first, second = (_read_place(v, f"{field}[{n}]", count, place) for n, v in enumerate(value))
    if first == second:
        problem = f"two different responses are needed, not {first} twice"
        raise place.error(problem, field, _EXAMPLE)
    return read_comparison(entry, place, prefix, first, second) or Comparison(first, second)
