"""Pairs: ``chosen`` and ``rejected``, with or without ``prompt``, as text or chat messages.

HH-RLHF's dialogues and TRL's rows with an implicit or explicit prompt have this form.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from hidden_context.data.checks import Place, read_conversation
from hidden_context.data.dialogue import Conversation
from hidden_context.data.example import Abstention, Comparison, Example, Judgement
from hidden_context.data.importers.answers import (
    RATING_COLUMNS,
    Said,
    entries_of,
    of_row,
    rated,
    read_comparison,
)
from hidden_context.data.importers.prompts import check_alike, divide
from hidden_context.data.published import has_lists

SIDES = ("chosen", "rejected")

_COLUMNS_REMEDY = (
    "Preference data needs the columns 'chosen' and 'rejected' (and may have 'prompt'), each text "
    "or a list of chat messages, or both lists of several; or 'prompt', 'responses' and 'ranks', "
    "'rankings' or 'judgements'; or 'text' and 'rating'. A published data set is imported first: "
    "hidden-context data import"
)
_MOST_NAMED: Final = 20
"""Largest number of columns that an error names."""
_ANNOTATIONS_REMEDY = (
    'Write the column as [{"annotator": "a", "preference": 1}, {"annotator": "b", ...}], or leave '
    "it out or null where they are not known"
)


def recognises(row: Mapping[str, Any]) -> bool:
    """Return whether a row has a ``chosen`` or ``rejected`` side that is not a list of several."""
    return any(row.get(side) is not None for side in SIDES) and not has_lists(row)


def is_pair(row: Mapping[str, Any]) -> bool:
    """Return whether a row has both sides, with one conversation each."""
    return all(row.get(side) is not None for side in SIDES) and not has_lists(row)


def read(row: dict[str, Any], place: Place) -> Example:
    """Read a pair.

    A ``prompt`` is put before each side, unless both sides already begin with it. Without this
    column, the prompt is the shared start of both sides (see ``dialogue.shared_prompt``). Each
    entry of ``annotations`` is a judgement, or an abstention if it says nothing. Without
    ``annotations``, the row's ``preference``, ``strength``, ``margin`` and two ratings decide one
    comparison (see ``read_comparison``). If all are missing, it is a vote for the chosen side.

    Args:
        row: The columns; unknown columns pass through untouched.
        place: Where the row stands, for errors.

    Returns:
        An example whose first response is the chosen one.

    Raises:
        DataError: If a column is missing or of the wrong kind, naming file, line and field.
    """
    sides = [_read_side(row, side, place) for side in SIDES]
    check_alike(dict(zip(SIDES, sides, strict=True)), place, _COLUMNS_REMEDY)
    judgements = _read_judgements(row, place)
    prompt = read_conversation(row.get("prompt") or "", "prompt", place)
    prompt, responses = divide(prompt, sides, sides)
    return Example(prompt, responses, judgements, row)


def _read_side(row: dict[str, Any], side: str, place: Place) -> Conversation:
    if row.get(side) is None:
        names = list(map(repr, row)) or ["none"]
        found = ", ".join([*names[:_MOST_NAMED], "…"] if len(names) > _MOST_NAMED else names)
        problem = "the value is null" if side in row else f"the column is missing ({found})"
        raise place.error(problem, side, _COLUMNS_REMEDY)
    return read_conversation(row[side], side, place)


def _read_judgements(row: dict[str, Any], place: Place) -> tuple[Judgement, ...]:
    own = of_row(row, place)
    ratings = _read_ratings(row, partial(own, annotator=None), place)  # the raters are not known
    vote = read_comparison(row, place, ratings=ratings) or Comparison(0, 1)
    judgements = [own(vote)]
    if row.get("annotations") is not None:
        judgements = []
        for prefix, entry, said in entries_of(row, "annotations", place, _ANNOTATIONS_REMEDY):
            rated_too = _read_ratings(entry, said, place, prefix)
            comparison = read_comparison(entry, place, prefix, ratings=rated_too)
            if comparison is not None or not rated_too:
                judgements.append(said(comparison or Abstention()))
            ratings = (*ratings, *rated_too)
    return (*judgements, *ratings)


def _read_ratings(
    columns: Mapping[str, Any], said: Said, place: Place, prefix: str = ""
) -> tuple[Judgement, ...]:
    values = [(n, prefix + name, columns.get(name)) for n, name in enumerate(RATING_COLUMNS)]
    return rated(values, said, place)
