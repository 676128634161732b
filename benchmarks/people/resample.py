"""Intervals by groups of items, and by annotators beside them, of any mean or AUROC."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from scipy import sparse

from hidden_context.statistics.agreement import weighted_auroc

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
        place = (self.item[kept], self.annotator[kept])
        total, count = (
            sparse.csr_array((each, place), shape=shape)
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
        found: list[Callable[..., Any]] = [
            weighted_auroc(each[items], positive[items])
            for each in (score, other)
            if each is not None
        ]
        estimate = [float(each(once)[0]) for each in found]
        drawn = [
            np.concatenate([each(part) for part in np.array_split(weights, 20)]) for each in found
        ]
        if other is None:
            return _interval(estimate[0], drawn[0])
        return _interval(estimate[0] - estimate[1], drawn[0] - drawn[1])


def _counts(size: int, generator: np.random.Generator) -> Any:
    return generator.multinomial(size, np.full(size, 1 / size), size=RESAMPLES).astype(np.float32)


def _interval(estimate: float, drawn: Any) -> list[float]:
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return [estimate, float(low), float(high)]
