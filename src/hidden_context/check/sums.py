"""Means over items with intervals by group."""

from __future__ import annotations

import numpy as np

from hidden_context.statistics.checks import Codes, Floats
from hidden_context.statistics.interval import Interval, cluster_interval, cluster_sums, ratio

RESAMPLES = 999


def mean_interval(
    total: Floats,
    weight: Floats,
    cluster: Codes,
    bounds: tuple[float, float] | None = (0.0, 1.0),
    seed: int = 0,
) -> Interval:
    """Estimate Σ total / Σ weight over items, with an interval by cluster.

    Args:
        total: Sum of each item, of shape ``(I,)``.
        weight: How much it counts, of shape ``(I,)``.
        cluster: Cluster of each item, of shape ``(I,)``.
        bounds: Least and greatest value.
        seed: Of the bootstrap.

    Returns:
        The interval; NaN without an item, or where nothing counts.
    """
    if not len(total) or not weight.sum() > 0:
        return Interval(float("nan"), float("nan"), float("nan"), 0.95, "none")
    sums = cluster_sums(np.stack([total, weight], axis=1).astype(np.float64), cluster)
    return cluster_interval(sums, ratio, bounds=bounds, resamples=RESAMPLES, seed=seed)
