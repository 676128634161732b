"""New annotators: how much better are they predicted after a few of their votes?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hidden_context.errors import ConfigError
from hidden_context.statistics.checks import Codes, Floats, numbered
from hidden_context.statistics.interval import FEWEST, Interval
from hidden_context.statistics.two_way_bootstrap import RESAMPLES, two_way_interval

Booleans = NDArray[np.bool_]
Losses = Callable[[Booleans], Floats]
"""Takes the votes shown, a mask ``(V,)``, to the loss of every vote ``(V,)``, in nats."""

SHOWN: Final = (5, 10, 20)
"""Numbers of votes that are shown."""


@dataclass(frozen=True)
class FewShotPoint:
    """Votes of new annotators, predicted after k of their other votes.

    Attributes:
        shown: k.
        annotators: Those who have k votes to be shown, and votes of other groups to be predicted.
        votes: The votes predicted.
        before: Mean loss of these votes with nothing shown, in nats.
        after: Mean loss after k votes.
        difference: After − before, by groups of items and by annotators both.
    """

    shown: int
    annotators: int
    votes: int
    before: float
    after: float
    difference: Interval


def few_shot_curve(
    losses: Losses,
    annotator: Codes,
    group: Codes,
    *,
    shown: Sequence[int] = SHOWN,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[FewShotPoint]:
    """Show a few votes of every new annotator, and predict their votes on other groups of items.

    Groups are put into two halves at random. Votes of either half are predicted after k votes of
    the other, drawn at random, so no group is on both sides. At each k the same votes are predicted
    with nothing shown.

    Args:
        losses: How a model predicts every vote once it has seen some (see ``Losses``).
        annotator: Who cast each vote, a new annotator's number or −1 to leave it out, ``(V,)``.
        group: Number of each vote's group of items, such as its prompt, ``(V,)``.
        shown: Numbers k of votes.
        level: Confidence level.
        resamples: Of the two-way bootstrap.
        seed: Of halves, votes shown and bootstrap.

    Returns:
        One point for each k that at least five annotators can be shown.

    Raises:
        ConfigError: If shapes differ.
    """
    annotator, group = np.asarray(annotator), numbered(group, len(annotator), "group")
    generator = np.random.default_rng(seed)
    half = generator.permutation(int(group.max()) + 1)[group] % 2
    order = generator.permutation(len(annotator))
    before = losses(np.zeros(len(annotator), dtype=bool))
    if before.shape != annotator.shape:
        raise ConfigError("a loss is needed for every vote.")
    points = []
    for count in shown:
        after = np.full(len(annotator), np.nan)
        for other in (0, 1):
            seen = _first(annotator, (half == other) & (annotator >= 0), order, count)
            able = np.isin(annotator, annotator[seen]) & (annotator >= 0) & (half != other)
            if able.any():
                after[able] = losses(seen)[able]
        here = np.isfinite(after)
        people = len(np.unique(annotator[here]))
        if people < FEWEST:
            continue
        difference = two_way_interval(
            (after - before)[here],
            group[here],
            annotator[here],
            level=level,
            resamples=resamples,
            seed=seed,
        )
        means = float(before[here].mean()), float(after[here].mean())
        points.append(FewShotPoint(count, people, int(here.sum()), *means, difference))
    return points


def _first(annotator: Codes, usable: Booleans, order: Codes, count: int) -> Booleans:
    """Mark the first votes, in an order, of every annotator who has so many usable ones."""
    rows = order[usable[order]]
    rows = rows[np.argsort(annotator[rows], kind="stable")]
    who = annotator[rows]
    votes = np.bincount(who, minlength=1)
    place = np.arange(len(rows)) - np.repeat(np.cumsum(votes) - votes, votes)
    found = np.zeros(len(annotator), dtype=bool)
    found[rows[(place < count) & (votes[who] >= count)]] = True
    return found
