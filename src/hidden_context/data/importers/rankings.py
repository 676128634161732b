"""Rankings: a ``prompt``, its ``responses`` and their ``ranks``, perhaps with ``ratings``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from hidden_context.data.checks import Place, read_conversation, read_integer, read_list
from hidden_context.data.dialogue import is_blank
from hidden_context.data.example import Example, Ranking
from hidden_context.data.importers.answers import (
    COMPARISON_COLUMNS,
    check_groups,
    of_row,
    rated,
    refuse,
)
from hidden_context.data.importers.prompts import divide_given, read_sides

# They say which of two sides is better, and by how much: a whole ranking has no sides.
PAIR_COLUMNS = (*COMPARISON_COLUMNS, "annotations", "rating_chosen", "rating_rejected")
RANKS_REMEDY = "'ranks' counts from 1, the best; responses of equal rank are tied"

_EXAMPLE = 'Write {"prompt": "...", "responses": ["...", "..."], "ranks": [1, 2]}'


def recognises(row: Mapping[str, Any]) -> bool:
    """Tell whether a row has ``ranks``; null is as good as absent, as tables have all columns."""
    return row.get("ranks") is not None


def read(row: dict[str, Any], place: Place) -> Example:
    """Read a ranking of n responses, which counts like n − 1 comparisons.

    Args:
        row: The columns ``prompt``, ``responses`` (n ≥ 2 texts or lists of chat messages),
            ``ranks`` (n integers from 1, the best), and optionally ``ratings`` (n numbers or
            nulls), ``annotator`` and ``weight``; others pass through untouched.
        place: Where the row stands, for errors.

    Returns:
        An example with one ranking, and a rating for each that is given.

    Raises:
        DataError: If a column is missing or of the wrong kind or length, or belongs to a pair
            (such as ``margin``), naming file, line and field.
    """
    problem = "the column says something of one pair, but this row is a ranking"
    refuse(row, PAIR_COLUMNS, problem, place)
    prompt = read_conversation(row.get("prompt") or "", "prompt", place)
    if is_blank(prompt):
        problem = "a ranking needs the prompt that its responses answer"
        raise place.error(problem, "prompt", _EXAMPLE)
    sides = read_sides(row, place, 2, _EXAMPLE)
    own, count = of_row(row, place), len(sides)
    ranking = dataclasses.replace(own, answer=Ranking(tuple(_read_ranks(row, count, place))))
    ratings = row.get("ratings")
    if ratings is not None:
        ratings = read_list(ratings, "ratings", place, _EXAMPLE, "rating", count)
    values = [(n, f"ratings[{n}]", value) for n, value in enumerate(ratings or ())]
    judgements = (ranking, *rated(values, own, place))
    check_groups(row, place)
    prompt, responses = divide_given(prompt, sides, place)
    return Example(prompt, responses, judgements, row)


def _read_ranks(row: dict[str, Any], count: int, place: Place) -> list[int]:
    ranks = []
    values = read_list(row.get("ranks"), "ranks", place, _EXAMPLE, "rank", count)
    for number, value in enumerate(values):
        # Null is no rank: a response that nobody ranked is not worse than the others.
        field = f"ranks[{number}]"
        rank = read_integer(value, field, place, low=1, remedy=RANKS_REMEDY)
        if rank is None:
            remedy = "Leave out responses that were not ranked"
            raise place.error("an integer is needed, not null", field, remedy)
        ranks.append(rank)
    return ranks
