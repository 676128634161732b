"""What of an analysis is worth showing: nothing twice, and no table that cannot say a thing."""

from __future__ import annotations

from typing import Any

Found = dict[str, Any]


def shown_scores(scores: Found) -> Found:
    """Leave out what would only repeat, or has no side that caution could be for.

    Args:
        scores: An entry of ``analyses`` in ``analysis.json``.

    Returns:
        The entry with the groups that differ from all rows and from each other, and the risk
        frontier only where it is known which response is unsafe.
    """
    frontier = scores["frontier"]
    has_unsafe = any(point["unsafe"] is not None for point in frontier)
    return {
        **scores,
        "groups": distinct_groups(scores["groups"]),
        "frontier": frontier if has_unsafe else [],
    }


def distinct_groups(groups: list[Found]) -> list[Found]:
    """Leave out groups of the same rows as an earlier one, which the numbers tell.

    >>> rows = [
    ...     {"labels": {}, "n": 2, "intervals": {"r2": None}},
    ...     {"labels": {"data_subset": "both"}, "n": 2, "intervals": {"r2": None}},
    ... ]
    >>> [group["labels"] for group in distinct_groups(rows)]
    [{}]
    """
    kept: list[Found] = []
    for group in groups:
        numbers = _numbers(group)
        if all(numbers != _numbers(other) for other in kept):
            kept.append(group)
    return kept


def _numbers(group: Found) -> Found:
    return {name: value for name, value in group.items() if name not in ("labels", "intervals")}
