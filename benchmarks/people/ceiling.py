"""How well votes themselves foretell votes: two random halves of each item's."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from hidden_context.statistics.agreement import auroc
from hidden_context.statistics.votes import EQUAL, FIRST, SECOND, VoteTable

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
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(REPEATS):
        # votes of an item in random order, dealt to two sides in turn
        order = np.lexsort((generator.random(len(table)), table.item))
        place = np.arange(len(order)) - np.searchsorted(table.item[order], table.item[order])
        even = np.zeros(len(table), dtype=bool)
        even[order] = place % 2 == 0
        found.append(_one(table, even))
    values = np.array(found)
    return {"mean": float(values.mean()), "low": float(values.min()), "high": float(values.max())}


def _one(table: VoteTable, even: Any) -> float:
    counts = [
        np.stack(
            [
                np.bincount(table.item[side & (table.answer == answer)], minlength=table.items)
                for answer in (FIRST, EQUAL, SECOND)
            ],
            axis=1,
        )
        for side in (even, ~even)
    ]
    sizes = [each.sum(1) for each in counts]
    shares = [
        (c[:, 0] + c[:, 1] / 2) / np.maximum(n, 1) for c, n in zip(counts, sizes, strict=True)
    ]
    judged = (sizes[0] > 0) & (sizes[1] > 0)
    # few votes leave few shares: the half that is foretold is contested where all its votes are not
    # on one side, as near to [.35, .65] as so few can come
    positive = (np.abs(shares[1] - 0.5) <= 0.17) & (counts[1][:, 1] < sizes[1])
    return auroc(-np.abs(shares[0] - 0.5)[judged], positive[judged])
