"""Examples in another shape: each comparison as a pair, or all examples of one prompt as one."""

from __future__ import annotations

import dataclasses
import json
from collections import ChainMap, Counter
from collections.abc import Hashable, Iterator, Sequence
from itertools import combinations
from typing import Any, Final

from hidden_context.data.dialogue import Conversation
from hidden_context.data.example import Answer, Comparison, Example, Judgement, Ranking, Rating
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


def merge_prompts(
    examples: Sequence[Example], apart: Sequence[Hashable] | None = None
) -> list[Example]:
    """Merge examples that have the same prompt.

    Args:
        examples: The examples. Those whose prompt is empty, or was guessed from what two plain
            texts share, stay as they are.
        apart: A value for each example; examples with different values stay apart.

    Returns:
        Each merged example in the place of its first, with equal responses once (unless one
        example itself has a response twice), all judgements, the columns that are equal in all, and
        the lines of all. No more than 16 responses come together; the next example begins another.
    """
    groups: list[_Group] = []
    latest: dict[Hashable, _Group] = {}
    for number, example in enumerate(examples):
        prompt = example.known_prompt
        value = None if apart is None else apart[number]
        # an example without a known prompt is a group of its own
        key = number if prompt is None else (_key(prompt), repr(example.tools), value)
        if key not in latest or not latest[key].add(example):
            latest[key] = _Group()
            latest[key].add(example)
            groups.append(latest[key])
    return [group.merged() for group in groups]


def _key(conversation: Conversation) -> Hashable:
    """Return what equal conversations alone share; messages cannot be keys themselves."""
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
        """Add an example, unless it brings too many responses; tell whether it was added."""
        seen: Counter[Hashable] = Counter()
        keys = []  # a response is named by its text, and by how often the same stands before it
        for text in map(_key, example.responses):
            keys.append((text, seen[text]))
            seen[text] += 1
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
        """Make one example of all."""
        members = [member for member, _ in self._members]
        if len(members) == 1:
            return members[0]
        judgements = [
            self._moved(judgement, places)
            for member, places in self._members
            for judgement in member.judgements
        ]
        columns = members[0].columns
        for member in members[1:]:
            there = member.columns
            columns = {k: v for k, v in columns.items() if k in there and bool(there[k] == v)}
        return dataclasses.replace(
            members[0],
            responses=tuple(self._responses),
            judgements=tuple(judgements),
            columns=columns,
            source_lines=tuple(line for member in members for line in member.source_lines),
        )

    def _moved(self, judgement: Judgement, places: dict[int, int]) -> Judgement:
        moved = judgement.at(places)
        assert moved is not None  # every response has a place
        if isinstance(moved.answer, Ranking):
            unranked = (None,) * (len(self._responses) - len(moved.answer.ranks))
            moved = dataclasses.replace(moved, answer=Ranking((*moved.answer.ranks, *unranked)))
        return moved
