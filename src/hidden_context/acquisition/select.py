"""Choosing votes: the largest expected drop per cost first, updated after each vote."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from hidden_context.acquisition.people import People, Queue
from hidden_context.statistics.checks import Codes, Floats

ANYONE: Final = -1
_ROUNDING: Final = 1e-9


@dataclass(frozen=True)
class Limits:
    """Limits of a choice.

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


@dataclass
class Choice:
    """Votes that were chosen, in order.

    Attributes:
        item: The item of each.
        annotator: Who is to be asked, by number; −1 for anyone.
        drop: By how much the item's expected error drops.
        cost: What each vote costs.
    """

    item: list[int] = field(default_factory=list)
    annotator: list[int] = field(default_factory=list)
    drop: list[float] = field(default_factory=list)
    cost: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        """Number of votes."""
        return len(self.item)

    def per_item(self, items: int) -> Codes:
        """New votes of each item, of shape ``(I,)``."""
        return np.bincount(np.array(self.item, dtype=np.int64), minlength=items)


def choose_votes(
    drops: Floats, limits: Limits, twins: Codes, people: People | None = None
) -> Choice:
    """Choose votes until the budget is spent or nothing more can be asked.

    The votes are taken one by one, each time the one with the largest expected drop of the error
    per cost, given what the votes before it are expected to tell. As drops never rise, an item's
    old value is never too small, so that only the items at the top are looked at again.

    Args:
        drops: Expected drop by each next vote of an item, never rising, of shape ``(J, I)``.
        limits: What the choice has to keep to.
        twins: Items of one number share their votes, of shape ``(I,)``.
        people: Who can be asked; None for anyone.

    Returns:
        The votes in the order in which they were chosen. Ties go to the item that comes first.
    """
    choice, spent = Choice(), 0.0
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
        who, cost = _whom(item, left, limits.cost, queue)
        twin = int(twins[item])
        step = of_twins[twin]
        if cost > left or step >= len(drops) or not drops[step, item] > 0:
            continue
        value = float(drops[step, item]) / cost
        if heap and (-value, item) > heap[0] and -value > old:
            heapq.heappush(heap, (-value, item))
            continue
        choice.item.append(item)
        choice.annotator.append(who)
        choice.drop.append(float(drops[step, item]))
        choice.cost.append(cost)
        spent += cost
        of_item[item] += 1
        of_group[group] += cost
        of_twins[twin] = step + 1
        if queue is not None:
            queue.take(item, who)
        heapq.heappush(heap, (-value, item))
    return choice


def _whom(item: int, left: float, usual: float, queue: Queue | None) -> tuple[int, float]:
    """Who is asked, and at what cost."""
    if queue is None:
        return ANYONE, usual
    who = queue.next_for(item, left)
    return (ANYONE, np.inf) if who is None else (who, float(queue.people.cost[who]))
