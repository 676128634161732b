"""Reshaping of examples: one pair per comparison, or one example per prompt."""

from __future__ import annotations

import dataclasses
import json
from collections import ChainMap
from collections.abc import Hashable, Iterator, Sequence
from itertools import combinations
from typing import Any, Final

from hidden_context.data.dialogue import Conversation
from hidden_context.data.example import Answer, Comparison, Example, Ranking, Rating
from hidden_context.data.importers.answers import RATING_COLUMNS
from hidden_context.data.importers.pairs import SIDES, is_pair

MOST_RESPONSES: Final = 16

# These are written anew, or describe the whole example.
_OWN_COLUMNS = (
    *("prompt", *SIDES, "responses", "ranks", "rankings", "ratings", "judgements", "annotations"),
    *("preference", "strength", "margin", "weight", "rating_chosen", "rating_rejected"),
    *("comparison", "response", "rating", "abstains"),
)


def comparisons_of(answer: Answer) -> Iterator[tuple[Comparison, float]]:
    """Yield the pairwise comparisons in an answer.

    Args:
        answer: A comparison, a ranking, or any other answer, which has no comparisons.

    Yields:
        Each comparison and its number of votes. A comparison yields itself with one vote. A ranking
        of n responses yields every pair, the better response first, or with a preference of ½ for
        a tie. Each pair has 2/n of a vote, because each response is in n − 1 pairs. A ranking
        therefore counts like n − 1 comparisons.
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
        One example of two responses for each comparison (see ``comparisons_of``), with only this
        judgement. The ratings of a response go with the first pair that has the response. The
        columns of each pair form a row that reads as the same pair. A pair that has its own row
        is returned unchanged. Rated texts have no pairs.
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
    if isinstance(judgement.columns, ChainMap):  # only filled entries replace row columns
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


def merge_prompts(
    examples: Sequence[Example], apart: Sequence[Hashable] | None = None
) -> list[Example]:
    """Merge examples that have the same prompt.

    Args:
        examples: The examples. Examples whose prompt is empty, or was guessed from what two plain
            texts share, stay as they are.
        apart: A value for each example; examples with different values stay apart.

    Returns:
        The merged examples, each in the place of its first member. A merged example has equal
        responses only once (unless one member has a response twice), all judgements, the columns
        that are equal in all members, and the lines of all members. It has at most 16 responses;
        the next example starts a new merged example.
    """
    groups: list[_Group] = []
    latest: dict[Hashable, _Group] = {}
    for number, example in enumerate(examples):
        prompt = example.known_prompt
        value = None if apart is None else apart[number]
        # an example without a known prompt is a separate group
        key = number if prompt is None else (_key(prompt), repr(example.tools), value)
        if key not in latest or not latest[key].add(example):
            latest[key] = _Group()
            latest[key].add(example)
            groups.append(latest[key])
    return [group.merged() for group in groups]


def _key(conversation: Conversation) -> Hashable:
    """Return a hashable key that is the same only for equal conversations."""
    if isinstance(conversation, str):
        return conversation
    return (json.dumps(conversation, sort_keys=True, default=repr),)


class _Group:
    """Examples that are merged into one."""

    def __init__(self) -> None:
        self._members: list[tuple[Example, dict[int, int]]] = []
        self._slots: dict[Hashable, int] = {}
        self._responses: list[Conversation] = []

    def add(self, example: Example) -> bool:
        """Add an example unless it has too many new responses; return whether it was added."""
        texts = [_key(response) for response in example.responses]
        # the text of a response, and the number of equal responses before it
        keys = [(text, texts[:place].count(text)) for place, text in enumerate(texts)]
        new = {
            key: response
            for key, response in zip(keys, example.responses, strict=True)
            if key not in self._slots
        }
        if self._members and len(self._responses) + len(new) > MOST_RESPONSES:
            return False
        self._slots |= {key: len(self._responses) + n for n, key in enumerate(new)}
        self._responses += new.values()
        self._members.append((example, {n: self._slots[key] for n, key in enumerate(keys)}))
        return True

    def merged(self) -> Example:
        """Return the merged example."""
        members = [member for member, _ in self._members]
        if len(members) == 1:
            return members[0]
        judgements = (
            judgement.at(places, len(self._responses))
            for member, places in self._members
            for judgement in member.judgements
        )
        columns = members[0].columns
        for member in members[1:]:
            there = member.columns
            columns = {k: v for k, v in columns.items() if k in there and bool(there[k] == v)}
        return dataclasses.replace(
            members[0],
            responses=tuple(self._responses),
            judgements=tuple(judgement for judgement in judgements if judgement is not None),
            columns=columns,
            source_lines=tuple(line for member in members for line in member.source_lines),
        )
