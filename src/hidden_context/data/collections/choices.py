"""What people say of several answers at once: which is the best, or an order such as ``B>A=C``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def best_of(count: int, best: int) -> list[dict[str, Any]]:
    """Write the choice of the best of n answers as n − 1 comparisons, of it with each other.

    Nothing is said of the others among themselves, so that a choice is no ranking in which they are
    tied. Each comparison has the weight of a pair in a ranking of n answers, 2/n.

    Args:
        count: How many answers there are, n ≥ 2.
        best: Place of the chosen one, from 0.

    Returns:
        For each other answer an entry of ``judgements`` without an annotator. It names first the
        answer that stands first, so that its place is not lost.
    """
    return [
        {
            "comparison": [min(best, other), max(best, other)],
            "preference": 1.0 if best < other else 0.0,
            "weight": 2 / count,
        }
        for other in range(count)
        if other != best
    ]


def ranks_of(order: str, names: Sequence[str]) -> list[int | None] | None:
    """Read an order of answers, the best first; ``=`` ties them, and one that it lacks has no rank.

    >>> ranks_of("B>A=C", "ABCD")
    [2, 1, 2, None]

    Args:
        order: The text.
        names: What the answers go by.

    Returns:
        The rank of each answer, 1 the best; None if the text names something else, an answer twice,
        or fewer than two answers.
    """
    known = tuple(names)  # of a text "AB" would be a part
    ranks: dict[str, int] = {}
    for rank, group in enumerate(order.split(">"), start=1):
        for name in (part.strip() for part in group.split("=")):
            if name not in known or name in ranks:
                return None
            ranks[name] = rank
    return [ranks.get(name) for name in known] if len(ranks) > 1 else None
