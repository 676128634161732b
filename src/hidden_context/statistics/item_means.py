"""Intervals of means over items or votes, by groups of items."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hidden_context.statistics.checks import Codes, Floats, numbered
from hidden_context.statistics.interval import Interval, cluster_interval, cluster_sums, ratio


@dataclass(frozen=True, eq=False)
class ItemMeans:
    """Makes intervals of means, and says how all other intervals of these items are made.

    Attributes:
        cluster: Number of each item's group, without gaps, ``(I,)``.
        level: Confidence level.
        resamples: Of bootstraps.
        seed: Of bootstraps.
    """

    cluster: Codes
    level: float = 0.95
    resamples: int = 1000
    seed: int = 0

    def of(
        self, values: Floats, weights: Floats | None = None, item: Codes | None = None
    ) -> Interval:
        """Interval of a mean over items, or over votes where their items are given.

        Args:
            values: Numbers of the items ``(I,)`` or votes ``(V,)``; NaN for one that plays no part.
            weights: How much each counts, ≥ 0; None for 1 each.
            item: Which item each vote is on, ``(V,)``; None for values of items.

        Returns:
            The mean with its interval by group; NaN where nothing plays a part.
        """
        weights = np.ones(len(values)) if weights is None else weights
        codes = self.cluster if item is None else self.cluster[item]
        kept = ~np.isnan(values) & (weights > 0)
        if not kept.any():
            return Interval(np.nan, np.nan, np.nan, self.level, "none")
        columns = np.stack([values[kept] * weights[kept], weights[kept]], axis=1)
        sums = cluster_sums(columns, numbered(codes[kept], int(kept.sum())))
        return cluster_interval(
            sums, ratio, level=self.level, resamples=self.resamples, seed=self.seed
        )
