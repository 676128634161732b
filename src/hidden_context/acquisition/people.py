"""Annotators who can be asked: what a vote costs, and who has voted already."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hidden_context.acquisition.config import NextConfig
from hidden_context.check.items import Items
from hidden_context.data.annotators import read_annotators
from hidden_context.errors import DataError
from hidden_context.statistics.checks import Codes, Floats


@dataclass(frozen=True, eq=False)
class People:
    """A annotators who can be asked.

    Attributes:
        names: Their names.
        cost: What a vote by each costs, above 0, of shape ``(A,)``.
        votes: How many votes each has cast so far, of shape ``(A,)``.
        voted: Which of them voted on each item, by number.
        most: Questions to one of them at most; None for any number.
    """

    names: Sequence[str]
    cost: Floats
    votes: Codes
    voted: Mapping[int, set[int]]
    most: int | None = None


@dataclass
class Queue:
    """Assigns questions to annotators: the cheapest first, then whoever has voted least.

    Votes and questions are counted together, so that those of whom little is known are asked first,
    and in the end all are asked alike: a share is to be that of everybody, not of the busiest.
    """

    people: People
    asked: dict[int, set[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._questions = [0] * len(self.people.names)
        self._heap = [self._entry(number) for number in range(len(self.people.names))]
        heapq.heapify(self._heap)

    def next_for(self, item: int, left: float) -> int | None:
        """Return whom to ask about an item; None if nobody is left or affordable."""
        out = self.people.voted.get(item, set()) | self.asked.get(item, set())
        passed, found = [], None
        while self._heap and found is None:
            entry = heapq.heappop(self._heap)
            who = entry[2]
            if entry != self._entry(who):
                continue  # from before the last question
            passed.append(entry)
            if who not in out and self.people.cost[who] <= left:
                found = who
        for entry in passed:
            heapq.heappush(self._heap, entry)
        return found

    def take(self, item: int, who: int) -> None:
        """Record that an annotator is asked about an item."""
        self.asked.setdefault(item, set()).add(who)
        self._questions[who] += 1
        questions, most = self._questions[who], self.people.most
        if most is None or questions < most:
            heapq.heappush(self._heap, self._entry(who))

    def _entry(self, who: int) -> tuple[float, int, int]:
        said = int(self.people.votes[who]) + self._questions[who]
        return float(self.people.cost[who]), said, who


def read_people(config: NextConfig, items: Items) -> People | None:
    """Find out who can be asked.

    Args:
        config: The options.
        items: The items with their votes.

    Returns:
        The annotators; None where anyone is asked.

    Raises:
        DataError: If nobody is named, or a cost is missing or not a number above 0.
    """
    if config.whom == "anyone":
        return None
    named = items.votes.names
    table = {} if config.annotators is None else read_annotators(config.annotators)
    names = list(table) if config.whom == "listed" else list(named)
    if not names:
        raise DataError(
            "no vote names its annotator",
            file=config.data_path,
            field="annotator",
            remedy="Give a table with --annotators, or --ask anyone",
        )
    place = {name: number for number, name in enumerate(names)}
    voted: dict[int, set[int]] = {}
    votes = items.votes.table
    for item, who in zip(votes.item.tolist(), votes.annotator.tolist(), strict=True):
        if who >= 0 and named[who] in place:
            voted.setdefault(item, set()).add(place[named[who]])
    said = np.zeros(len(names), np.int64)
    for who, count in enumerate(np.bincount(votes.annotator[votes.named], minlength=len(named))):
        if named[who] in place:
            said[place[named[who]]] = count
    return People(names, _costs(config, names, table), said, voted, config.max_questions)


def _costs(
    config: NextConfig, names: Sequence[str], table: Mapping[str, Mapping[str, str | float]]
) -> Floats:
    if config.cost_column is None:
        return np.full(len(names), 1.0 if config.cost is None else config.cost)
    costs = []
    for name in names:
        value = table.get(name, {}).get(config.cost_column)
        if not isinstance(value, float) or not 0 < value < np.inf:
            raise DataError(
                f"annotator {name!r} has no cost above 0",
                file=config.annotators,
                field=config.cost_column,
                remedy="Give every annotator who can be asked a number in this column",
            )
        costs.append(value)
    return np.array(costs)
