"""What tests of several processes train on and look at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from support.builders import preference_rows


def labelled_rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Pairs with strengths, three annotators and some ratings, which most cases leave out."""
    rows = preference_rows(count, seed)
    for number, row in enumerate(rows):
        row |= {"strength": (1, 2, 0, -1)[number % 4], "annotator": "abc"[number % 3]}
        row |= {"rating_chosen": (None, 2.0, None, 0.5)[number % 4]}
        row |= {"rating_rejected": 2.0 if row["strength"] < 0 else 0.5}
    return rows


def losses(history: Iterable[Mapping[str, Any]]) -> list[float]:
    """The loss of each step that was logged."""
    return [line["loss"] for line in history if "loss" in line]
