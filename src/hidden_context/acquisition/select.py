"""Choosing votes: who can be asked, items with the same words, and the most telling vote first."""

from __future__ import annotations

import heapq
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from hidden_context.acquisition.config import NextConfig
from hidden_context.check.items import NOBODY, Items
from hidden_context.data.annotators import read_annotators
from hidden_context.errors import DataError
from hidden_context.statistics.checks import Codes, Floats


@dataclass(frozen=True, eq=False)
class People:
    """Annotators who can be asked, A of them.

    Attributes:
        names: Names of the annotators.
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


class Queue:
    """Assigns questions to annotators: the cheapest first, then whoever has voted least.

    Votes and questions are counted together: annotators with few votes are asked first, and in the
    end all are asked alike, so that a share is everybody's and not the busiest annotators'.

    Args:
        people: Who can be asked.
    """

    def __init__(self, people: People) -> None:
        self.people, self.questions = people, np.zeros(len(people.names), np.int64)
        self.asked: defaultdict[int, set[int]] = defaultdict(set)

    def next_for(self, item: int, left: float) -> int | None:
        """Return whom to ask about an item; None if nobody is left or affordable."""
        people = self.people
        free = (people.cost <= left) & (people.most is None or self.questions < people.most)
        free[[*people.voted.get(item, ()), *self.asked[item]]] = False
        who = np.flatnonzero(free)
        if not len(who):
            return None
        who = who[people.cost[who] == people.cost[who].min()]
        return int(who[np.argmin((people.votes + self.questions)[who])])

    def take(self, item: int, who: int) -> None:
        """Record that an annotator is asked about an item."""
        self.asked[item].add(who)
        self.questions[who] += 1


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
    counts = np.bincount(votes.annotator[votes.named], minlength=len(named)).tolist()
    count = dict(zip(named, counts, strict=True))
    said = np.array([count.get(name, 0) for name in names], np.int64)
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


@dataclass(frozen=True, eq=False)
class Twins:
    """Which of I items are nearly the same.

    Attributes:
        number: Items of one number are twins, of shape ``(I,)``.
        facing: 1 or −1: twins of the same sign have their sides in the same order, ``(I,)``.
    """

    number: Codes
    facing: Codes

    def others(self, counts: Floats) -> Floats:
        """Votes on each item's twins, turned to face as the item does, of shape ``(I, 3)``."""
        turned = np.where((self.facing == 1)[:, None], counts, counts[:, ::-1])
        sums = np.zeros((int(self.number.max(initial=-1)) + 1, 3))
        np.add.at(sums, self.number, turned)
        rest = sums[self.number] - turned
        return np.where((self.facing == 1)[:, None], rest, rest[:, ::-1])


def find_twins(items: Items) -> Twins:
    """Find items whose texts differ only in case, punctuation and word order.

    Args:
        items: The items.

    Returns:
        Which items are twins.
    """
    responses = [_words(response.shown) for response in items.responses]
    prompts = [_words(prompt) for prompt in items.prompts]
    known: dict[tuple[str, ...], int] = {}
    number, facing = np.zeros(len(items), np.int64), np.ones(len(items), np.int64)
    sides = zip(items.prompt.tolist(), items.first.tolist(), items.second.tolist(), strict=True)
    for item, (prompt, first, second) in enumerate(sides):
        texts = [responses[side] for side in (first, second) if side != NOBODY]
        number[item] = known.setdefault((prompts[prompt], *sorted(texts)), len(known))
        facing[item] = 1 if texts == sorted(texts) else -1
    return Twins(number, facing)


def _words(text: str) -> str:
    return " ".join(sorted(re.findall(r"\w+", text.casefold()))) or text.strip()


ANYONE: Final = -1
_ROUNDING: Final = 1e-9


@dataclass(frozen=True)
class Limits:
    """Limits on the chosen votes.

    Attributes:
        budget: What all votes may cost together.
        cost: What a vote by anyone costs.
        each: New votes of each item at most, of shape ``(I,)``.
        group: Number of each item's group, of shape ``(I,)``.
        share: Share of the budget that one group gets at most.
    """

    budget: float
    cost: float
    each: Codes
    group: Codes
    share: float = 1.0


@dataclass(frozen=True)
class Choice:
    """A vote that was chosen.

    Attributes:
        item: The item's number.
        annotator: Who is to be asked, by number; −1 for anyone.
        drop: By how much the item's expected error drops.
        cost: What the vote costs.
    """

    item: int
    annotator: int
    drop: float
    cost: float


def choose_votes(
    drops: Floats, limits: Limits, twins: Codes, people: People | None = None
) -> list[Choice]:
    """Choose votes until the budget is spent or nothing more can be asked.

    The votes are taken one by one, each time the one with the largest expected drop of the error
    per cost, given what the votes before it are expected to tell. As drops never rise, an item's
    old value is never too small, so that only the items at the top are looked at again.

    Args:
        drops: Expected drop by each next vote of an item, never rising, of shape ``(J, I)``.
        limits: Limits of the choice.
        twins: Items of one number share their votes, of shape ``(I,)``.
        people: Who can be asked; None for anyone.

    Returns:
        The votes in the order in which they were chosen. Ties go to the item that comes first.
    """
    chosen, spent = list[Choice](), 0.0
    of_group: defaultdict[int, float] = defaultdict(float)
    of_twins, of_item = Counter[int](), Counter[int]()
    queue = None if people is None else Queue(people)
    most_of_group = limits.share * limits.budget + _ROUNDING * limits.budget
    cheapest = limits.cost if people is None else float(people.cost.min())
    # an upper bound of each item's first vote for its price
    best = drops[0] * (1 / limits.cost if people is None else float((1 / people.cost).max()))
    heap = [(-float(v), n) for n, v in enumerate(best) if v > 0 and limits.each[n] > 0]
    heapq.heapify(heap)
    while heap:
        old, item = heapq.heappop(heap)
        group = int(limits.group[item])
        left = min(limits.budget - spent, most_of_group - of_group[group])
        left += _ROUNDING * limits.budget
        if limits.budget * (1 + _ROUNDING) - spent < cheapest:
            break
        if left < cheapest or of_item[item] >= limits.each[item]:
            continue
        who = ANYONE if queue is None else queue.next_for(item, left)
        if who is None:
            continue
        cost = limits.cost if people is None else float(people.cost[who])
        twin = int(twins[item])
        step = of_twins[twin]
        if cost > left or step >= len(drops) or not drops[step, item] > 0:
            continue
        value = float(drops[step, item]) / cost
        if heap and (-value, item) > heap[0] and -value > old:
            heapq.heappush(heap, (-value, item))
            continue
        chosen.append(Choice(item, who, float(drops[step, item]), cost))
        spent += cost
        of_item[item] += 1
        of_group[group] += cost
        of_twins[twin] = step + 1
        if queue is not None:
            queue.take(item, who)
        heapq.heappush(heap, (-value, item))
    return chosen
