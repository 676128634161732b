"""Examples as pairs: one for each comparison, and for every two responses of a ranking."""

from __future__ import annotations

import dataclasses
from collections import ChainMap
from collections.abc import Iterator
from itertools import combinations
from typing import Any

from hidden_context.data.example import Answer, Comparison, Example, Ranking, Rating
from hidden_context.data.importers.answers import RATING_COLUMNS
from hidden_context.data.importers.pairs import SIDES, is_pair

# These are written anew, or describe the whole example.
_OWN_COLUMNS = (
    *("prompt", *SIDES, "responses", "ranks", "rankings", "ratings", "judgements", "annotations"),
    *("preference", "strength", "margin", "weight", "rating_chosen", "rating_rejected"),
    *("comparison", "response", "rating", "abstains"),
)


def comparisons_of(answer: Answer) -> Iterator[tuple[Comparison, float]]:
    """List the comparisons that an answer is made of.

    Args:
        answer: A comparison, a ranking, or what is neither.

    Yields:
        A comparison itself, as one vote. Of a ranking of n responses every two in their order, the
        better one first, or with a preference of ½ where they are tied; as 2/n of a vote, for each
        response stands in n − 1 of them: a ranking counts like n − 1 comparisons.
    """
    if isinstance(answer, Comparison):
        yield answer, 1.0
    elif isinstance(answer, Ranking):
        ranked = [(rank, place) for place, rank in enumerate(answer.ranks) if rank is not None]
        for one, other in combinations(ranked, 2):
            better, worse = (other, one) if other[0] < one[0] else (one, other)
            preference = 0.5 if one[0] == other[0] else 1.0
            yield Comparison(better[1], worse[1], preference), 2 / len(ranked)


def expand_pairs(example: Example) -> list[Example]:
    """Write an example as pairs of responses.

    Args:
        example: The example.

    Returns:
        For each comparison (see ``comparisons_of``) an example of two responses with that judgement
        alone, and the ratings of each response with the first pair that names it. Their columns
        are rows that read as the same pairs. A pair that was read from a row of its own is
        returned itself; of rated texts there are no pairs.
    """
    said = [
        (judgement, comparison, votes)
        for judgement in example.judgements
        for comparison, votes in comparisons_of(judgement.answer)
    ]
    if len(said) == 1 and (said[0][1].first, said[0][1].second) == (0, 1):
        own_row = is_pair(example.columns) and example.columns.get("annotations") is None
        if own_row and len(example.responses) == 2:
            return [example]
    pairs, rated = [], set[int]()
    for judgement, comparison, votes in said:
        places = (comparison.first, comparison.second)
        ratings = [
            rating
            for rating in example.judgements
            if isinstance(rating.answer, Rating)
            and rating.answer.response in places
            and rating.answer.response not in rated
        ]
        rated.update(places)
        own = dataclasses.replace(judgement, answer=comparison, weight=judgement.weight * votes)
        pair = dataclasses.replace(example, judgements=(own, *ratings)).select(places)
        pairs.append(dataclasses.replace(pair, columns=_columns(pair)))
    return pairs


def _columns(pair: Example) -> dict[str, Any]:
    """Make the row of a pair, whose first judgement is its comparison."""
    judgement, *ratings = pair.judgements
    answer = judgement.answer
    assert isinstance(answer, Comparison)
    columns: dict[str, Any] = {"prompt": pair.prompt}
    columns |= dict(zip(SIDES, pair.texts, strict=True))
    if pair.tools is not None:
        columns["tools"] = pair.tools
    shared = {**pair.columns, **judgement.columns}
    if isinstance(judgement.columns, ChainMap):  # only what has a value goes over the row's columns
        entry, row = judgement.columns.maps
        filled = {name: value for name, value in entry.items() if value not in (None, "")}
        shared = {**pair.columns, **row, **filled}
    columns |= {name: value for name, value in shared.items() if name not in _OWN_COLUMNS}
    said: dict[str, Any] = {"preference": answer.preference, "weight": judgement.weight}
    named = {"strength": answer.strength, "margin": answer.margin, "annotator": judgement.annotator}
    said |= {name: value for name, value in named.items() if value is not None}
    rated = [
        (f"rating_{SIDES[rating.answer.response]}", rating.answer.value, rating)
        for rating in ratings
        if isinstance(rating.answer, Rating)
    ]
    values = {name: value for name, value, _ in rated}
    gap = values.get(RATING_COLUMNS[0], 0.0) - values.get(RATING_COLUMNS[1], 0.0)
    if len(values) < len(rated) or (len(values) == 2 and (answer.preference - 0.5) * gap < 0):
        # Columns have no place for several people's ratings, or for some that contradict the vote.
        columns.pop("annotator", None)
        entries = [{n: v, "annotator": r.annotator, "weight": r.weight} for n, v, r in rated]
        return columns | {"annotations": [said, *entries]}
    return columns | said | values
