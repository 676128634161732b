"""The order of votes: the largest expected drop for its cost first, each vote seeing the last."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from hidden_context.acquisition.people import People, Queue
from hidden_context.statistics.checks import Codes, Floats

ANYONE: Final = -1
_ROUNDING: Final = 1e-9


@dataclass(frozen=True)
class Limits:
    """What a choice has to keep to.

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


@dataclass
class _State:
    """What has been spent and asked so far."""

    spent: float = 0.0
    of_group: dict[int, float] = field(default_factory=dict)
    of_twins: dict[int, int] = field(default_factory=dict)
    of_item: dict[int, int] = field(default_factory=dict)


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
    state, choice = _State(), Choice()
    queue = None if people is None else Queue(people)
    most_of_group = limits.share * limits.budget + _ROUNDING * limits.budget
    cheapest = limits.cost if people is None else float(people.cost.min())
    heap = _first_values(drops, limits, people)
    while heap:
        old, item = heapq.heappop(heap)
        group = int(limits.group[item])
        left = min(limits.budget - state.spent, most_of_group - state.of_group.get(group, 0.0))
        left += _ROUNDING * limits.budget
        if limits.budget * (1 + _ROUNDING) - state.spent < cheapest:
            break
        if left < cheapest or state.of_item.get(item, 0) >= limits.each[item]:
            continue
        who, cost = _whom(item, left, limits.cost, queue)
        step = state.of_twins.get(int(twins[item]), 0)
        if cost > left or step >= len(drops) or not drops[step, item] > 0:
            continue
        value = float(drops[step, item]) / cost
        if heap and (-value, item) > heap[0] and -value > old:
            heapq.heappush(heap, (-value, item))
            continue
        _take(choice, state, item, who, float(drops[step, item]), cost)
        state.of_group[group] = state.of_group.get(group, 0.0) + cost
        state.of_twins[int(twins[item])] = step + 1
        if queue is not None:
            queue.take(item, who)
        heapq.heappush(heap, (-value, item))
    return choice


def _first_values(drops: Floats, limits: Limits, people: People | None) -> list[tuple[float, int]]:
    """A heap of items by an upper bound of their first vote's value for its price."""
    rate = 1 / limits.cost if people is None else float((1 / people.cost).max())
    best = drops[0] * rate
    heap = [(-float(v), n) for n, v in enumerate(best) if v > 0 and limits.each[n] > 0]
    heapq.heapify(heap)
    return heap


def _whom(item: int, left: float, usual: float, queue: Queue | None) -> tuple[int, float]:
    """Who is asked, and at what cost."""
    if queue is None:
        return ANYONE, usual
    who = queue.next_for(item, left)
    return (ANYONE, np.inf) if who is None else (who, float(queue.people.cost[who]))


def _take(choice: Choice, state: _State, item: int, who: int, drop: float, cost: float) -> None:
    choice.item.append(item)
    choice.annotator.append(who)
    choice.drop.append(drop)
    choice.cost.append(cost)
    state.spent += cost
    state.of_item[item] = state.of_item.get(item, 0) + 1


def names_of(choice: Choice, people: People | None) -> Sequence[str | None]:
    """Name of each vote's annotator; None for anyone."""
    if people is None:
        return [None] * len(choice)
    return [people.names[who] for who in choice.annotator]
