"""Rated texts: one response with a ``rating`` or with the ``ratings`` of several annotators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hidden_context.data.checks import Place, read_conversation, read_number
from hidden_context.data.dialogue import is_blank, split_response
from hidden_context.data.example import Abstention, Example, Judgement, Rating
from hidden_context.data.importers.answers import Said, entries_of, of_row, refuse
from hidden_context.data.importers.prompts import divide_given

_TEXTS = ("response", "messages", "text")
_EXAMPLE = (
    'Write {"prompt": "...", "response": "...", "rating": 4}, or "ratings": '
    '[{"annotator": "a", "rating": 4}, ...]'
)


def recognises(row: Mapping[str, Any]) -> bool:
    """Return whether a row has one text and its rating."""
    return any(row.get(field) is not None for field in ("rating", "ratings")) and any(
        row.get(field) is not None for field in _TEXTS
    )


def read(row: dict[str, Any], place: Place) -> Example:
    """Read a rated text.

    Args:
        row: The columns ``response`` (with ``prompt``), ``messages`` or ``text`` (with ``prompt``
            or whole); and ``rating``, a number, with ``annotator`` and ``weight``, or ``ratings``,
            a list of such entries, in which a null rating is an abstention. Other columns pass
            through untouched.
        place: Where the row stands, for errors.

    Returns:
        An example with one response.

    Raises:
        DataError: If a column is missing or of the wrong kind, naming file, line and field.
    """
    field = next(name for name in _TEXTS if row.get(name) is not None)
    text = read_conversation(row[field], field, place)
    judgements = _read_judgements(row, place)
    prompt = read_conversation(row.get("prompt") or "", "prompt", place)
    if not is_blank(prompt):
        prompt, responses = divide_given(prompt, [text], place)
    elif field == "response":
        raise place.error("a response needs the prompt that it answers", "prompt", _EXAMPLE)
    else:
        prompt, response = split_response(text)
        responses = (response,)
    return Example(prompt, responses, judgements, row)


def _read_judgements(row: dict[str, Any], place: Place) -> tuple[Judgement, ...]:
    if row.get("ratings") is None:
        entries: list[tuple[str, Mapping[str, Any], Said]] = [("", row, of_row(row, place))]
    else:
        refuse(row, ["rating"], "the row has a list of 'ratings' too", place)
        entries = list(entries_of(row, "ratings", place, _EXAMPLE))
    judgements = []
    for prefix, columns, said in entries:
        value = read_number(columns.get("rating"), f"{prefix}rating", place)
        judgements.append(said(Abstention() if value is None else Rating(0, value)))
    return tuple(judgements)
