"""Rankings: a ``prompt``, its ``responses``, and ``ranks`` or several people's ``rankings``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import combinations
from typing import Any

from hidden_context.data.checks import Place, read_conversation, read_integer, read_list
from hidden_context.data.dialogue import is_blank
from hidden_context.data.example import Abstention, Example, Judgement, Ranking, Rating
from hidden_context.data.importers.answers import (
    COMPARISON_COLUMNS,
    RATING_COLUMNS,
    entries_of,
    of_row,
    rated,
    refuse,
)
from hidden_context.data.importers.prompts import divide_given, read_sides

# Columns that compare two sides; a ranking has no sides.
PAIR_COLUMNS = (*COMPARISON_COLUMNS, *RATING_COLUMNS, "annotations")

_RANKS_REMEDY = "'ranks' counts from 1, the best; responses of equal rank are tied"

_EXAMPLE = (
    'Write {"prompt": "...", "responses": ["...", "..."], "ranks": [1, 2]}, or of several '
    'annotators "rankings": [{"annotator": "a", "ranks": [1, 2]}, ...]'
)


def recognises(row: Mapping[str, Any]) -> bool:
    """Return whether a row has ``ranks`` or ``rankings``; null counts as absent."""
    return row.get("ranks") is not None or row.get("rankings") is not None


def read(row: dict[str, Any], place: Place) -> Example:
    """Read rankings of n responses; each ranking counts like n − 1 comparisons.

    Args:
        row: The columns ``prompt``, ``responses`` (n ≥ 2 texts or lists of chat messages),
            ``ranks`` (n integers from 1, the best) or ``rankings`` (entries that have ``annotator``
            and ``ranks``, in which null is no rank), and optionally ``ratings`` (n numbers or
            nulls), ``annotator`` and ``weight``; other columns pass through untouched.
        place: Where the row stands, for errors.

    Returns:
        An example with the rankings, and with all ratings. An entry without ranks is an abstention.

    Raises:
        DataError: If a column is missing or of the wrong kind or length, belongs to a pair (such
            as ``margin``), or ratings contradict the ranks, naming file, line and field.
    """
    problem = "the column describes one pair, but this row is a ranking"
    refuse(row, PAIR_COLUMNS, problem, place)
    prompt = read_conversation(row.get("prompt") or "", "prompt", place)
    if is_blank(prompt):
        problem = "a ranking needs the prompt that its responses answer"
        raise place.error(problem, "prompt", _EXAMPLE)
    sides = read_sides(row, place, 2, _EXAMPLE)
    rankings = _read_rankings(row, len(sides), place)
    ratings = _read_ratings(row, len(sides), place)
    if row.get("ranks") is not None:
        _check_order(row["ranks"], ratings, place)
    prompt, responses = divide_given(prompt, sides, place)
    return Example(prompt, responses, (*rankings, *ratings), row)


def _read_rankings(row: dict[str, Any], count: int, place: Place) -> list[Judgement]:
    if row.get("rankings") is None:
        ranking = read_ranking(row["ranks"], "ranks", count, place)
        if None in ranking.ranks:
            field, remedy = f"ranks[{ranking.ranks.index(None)}]", "Leave out what was not ranked"
            raise place.error("an integer is needed, not null", field, remedy)
        return [of_row(row, place)(ranking)]
    refuse(row, ["ranks"], "the row has a list of 'rankings' too", place)
    return [
        said(
            Abstention()
            if entry.get("ranks") is None
            else read_ranking(entry["ranks"], f"{prefix}ranks", count, place)
        )
        for prefix, entry, said in entries_of(row, "rankings", place, _EXAMPLE)
    ]


def read_ranking(value: Any, field: str, count: int, place: Place) -> Ranking:
    """Read ranks of responses; a response with a null rank is unranked, not worse than others.

    Raises:
        DataError: If it is not a list of ``count`` ranks, or fewer than two responses are ranked.
    """
    ranks = tuple(
        read_integer(rank, f"{field}[{number}]", place, low=1, remedy=_RANKS_REMEDY)
        for number, rank in enumerate(read_list(value, field, place, _EXAMPLE, "rank", count))
    )
    if sum(rank is not None for rank in ranks) < 2:
        raise place.error("at least two responses have to be ranked", field, _EXAMPLE)
    return Ranking(ranks)


def _read_ratings(row: dict[str, Any], count: int, place: Place) -> tuple[Judgement, ...]:
    """Read the ratings of a row without an annotator, as the row's annotator only ranked."""
    if row.get("ratings") is None:
        return ()
    ratings = read_list(row["ratings"], "ratings", place, _EXAMPLE, "rating", count)
    values = [(n, f"ratings[{n}]", value) for n, value in enumerate(ratings)]
    return rated(values, partial(of_row(row, place), annotator=None), place)


def _check_order(ranks: list[int], ratings: tuple[Judgement, ...], place: Place) -> None:
    """Raise an error if ratings contradict the ranks of the row; a tie agrees with both."""
    values = [said.answer for said in ratings if isinstance(said.answer, Rating)]
    for one, other in combinations(values, 2):
        ahead = ranks[other.response] - ranks[one.response]
        if ahead * (one.value - other.value) < 0:
            better, worse = (one, other) if ahead > 0 else (other, one)
            raise place.error(
                f"by 'ranks' response {better.response} is better than {worse.response}, by "
                "'ratings' it is worse",
                "ranks, ratings",
                f"{_RANKS_REMEDY}; write other people's answers as 'judgements'",
            )
