"""Intervals by groups and by annotators; how well half of an item's votes predicts the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from scipy import sparse

from hidden_context.statistics.agreement import auroc, weighted_auroc
from hidden_context.statistics.checks import places
from hidden_context.statistics.votes.table import VoteTable

RESAMPLES: Final = 1000


class Resamples:
    """The same 1,000 resamples for everything that is compared.

    Args:
        groups: Group of each side of I items, ``(I, 2)``; an item counts the product of its
            groups' counts, once where both are the same.
        item: Item of each of V votes.
        annotator: Annotator of each vote.
        seed: Of the draws.
    """

    def __init__(self, groups: Any, item: Any, annotator: Any, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        self.item, self.annotator = item, annotator
        drawn = _counts(int(groups.max()) + 1, generator)
        counts = drawn[:, groups[:, 0]]
        two = groups[:, 0] != groups[:, 1]
        counts[:, two] *= drawn[:, groups[two, 1]]
        self.items = counts
        self.people = _counts(int(annotator.max()) + 1, generator)

    def mean(self, values: Any, *, people: bool = False) -> list[float]:
        """Mean over votes with its 95 % interval, by groups or by groups and annotators both."""
        kept = np.isfinite(values)
        if not kept.any():
            return []
        shape = (self.items.shape[1], self.people.shape[1])
        total, count = (
            sparse.csr_array((each, (self.item[kept], self.annotator[kept])), shape=shape)
            for each in (values[kept], kept[kept] * 1.0)
        )
        if people:
            sums = [((self.items @ part) * self.people).sum(1) for part in (total, count)]
        else:
            sums = [self.items @ part.sum(1) for part in (total, count)]
        return _interval(float(values[kept].mean()), sums[0] / sums[1])

    def auroc(self, score: Any, positive: Any, items: Any, other: Any = None) -> list[float]:
        """AUROC over some items with its interval, or its difference to another score's."""
        weights = self.items[:, items].astype(np.float64)
        once = np.ones((1, int(items.sum())))
        estimate, drawn = 0.0, 0.0
        for each, sign in ((score, 1), (other, -1)):
            if each is not None:
                found = weighted_auroc(each[items], positive[items])
                estimate += sign * float(found(once)[0])
                drawn += sign * np.concatenate(list(map(found, np.array_split(weights, 20))))
        return _interval(estimate, drawn)


def _counts(size: int, generator: np.random.Generator) -> Any:
    return generator.multinomial(size, np.full(size, 1 / size), size=RESAMPLES).astype(np.float32)


def _interval(estimate: float, drawn: Any) -> list[float]:
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return [estimate, float(low), float(high)]


REPEATS: Final = 20


def halves_auroc(table: VoteTable, seed: int = 0) -> dict[str, float]:
    """AUROC of one half of each item's votes for what the other half shows, averaged.

    A model that knew what half of the voters said could do about so well. One that knew everything
    about the item, and not who votes, could do better: it is the ceiling for knowledge that a
    sample of votes gives, not for all knowledge.

    Args:
        table: The votes.
        seed: Of the halves.

    Returns:
        The mean over ``REPEATS`` divisions, and the least and the largest.
    """
    return _over_halves(table, seed, _contested)


def halves_conflict_auroc(table: VoteTable, length: Any, seed: int = 0) -> dict[str, Any]:
    """AUROC for whether one half of the votes shows conflict, by the other half and by length.

    Halves of a few votes cannot meet the definitions of whole items. Of the half that is predicted,
    conflict is at least one vote for each side and no more than one "equal", indifference at least
    two "equal"; other items are left out.

    Args:
        table: The votes.
        length: Difference in length of each item's sides, ``(I,)``.
        seed: Of the halves.

    Returns:
        ``votes``, by the share of "equal" in the first half, and ``length``; each with the mean
        over ``REPEATS`` divisions, and the least and the largest.
    """
    return {
        "votes": _over_halves(table, seed, _conflict),
        "length": _over_halves(table, seed, lambda counts: _conflict(counts, np.abs(length))),
    }


def _over_halves(
    table: VoteTable, seed: int, judge: Callable[[list[Any]], float]
) -> dict[str, float]:
    """Judge one half's counts of answers by the other's, over and over."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(REPEATS):
        # votes of an item in random order, dealt to two sides in turn
        even = places(table.item, np.argsort(generator.random(len(table)))) % 2 == 0
        found.append(judge([table.select(side).counts.answers for side in (even, ~even)]))
    return {"mean": float(np.mean(found)), "low": min(found), "high": max(found)}


def _contested(counts: list[Any]) -> float:
    sizes = [each.sum(1) for each in counts]
    shares = [
        (c[:, 0] + c[:, 1] / 2) / np.maximum(n, 1) for c, n in zip(counts, sizes, strict=True)
    ]
    judged = (sizes[0] > 0) & (sizes[1] > 0)
    # few votes leave few shares: the predicted half is contested where its votes are not all on
    # one side, as near to [.35, .65] as so few can come
    positive = (np.abs(shares[1] - 0.5) <= 0.17) & (counts[1][:, 1] < sizes[1])
    return auroc(-np.abs(shares[0] - 0.5)[judged], positive[judged])


def _conflict(counts: list[Any], score: Any = None) -> float:
    known, other = counts
    conflict = (other[:, 0] > 0) & (other[:, 2] > 0) & (other[:, 1] < 2)
    judged = (known.sum(1) > 0) & (conflict | (other[:, 1] >= 2))
    if score is None:
        score = -known[:, 1] / np.maximum(known.sum(1), 1)
    return auroc(score[judged], conflict[judged])
