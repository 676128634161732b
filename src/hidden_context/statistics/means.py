"""Means over items or votes, with intervals by group of items, or by groups and annotators."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from hidden_context.errors import ConfigError
from hidden_context.statistics import interval as intervals
from hidden_context.statistics.checks import Codes, Floats, batches, equally_long, numbered


def ratio_interval(
    total: Floats,
    weight: Floats,
    cluster: Codes,
    *,
    bounds: tuple[float, float] | None = None,
    level: float = 0.95,
    resamples: int = intervals.RESAMPLES,
    seed: int = 0,
) -> intervals.Interval:
    """Estimate Σ total / Σ weight, such as a weighted mean, with an interval by cluster.

    Args:
        total: Sum of each row, of shape ``(N,)``.
        weight: How much each row counts, of shape ``(N,)``.
        cluster: Number of each row's cluster, of shape ``(N,)``.
        bounds: Least and greatest value; see ``cluster_interval``.
        level: Confidence level.
        resamples: Number of bootstrap resamples.
        seed: Seed of the bootstrap.

    Returns:
        The ratio with its interval; NaN if there are no rows or no row counts.
    """
    if not len(total) or not weight.sum() > 0:
        return intervals.Interval.without_ends(level=level)
    sums = intervals.cluster_sums(np.stack([total, weight], axis=1).astype(np.float64), cluster)
    return intervals.cluster_interval(
        sums, intervals.ratio, bounds=bounds, level=level, resamples=resamples, seed=seed
    )


@dataclass(frozen=True, eq=False)
class ItemMeans:
    """Estimator of means over items or votes; all intervals are made in the same way.

    Attributes:
        cluster: Number of each item's group, without gaps, ``(I,)``.
        resampling: How intervals are made.
    """

    cluster: Codes
    resampling: intervals.Resampling = intervals.VOTES

    def of(
        self, values: Floats, weights: Floats | None = None, item: Codes | None = None
    ) -> intervals.Interval:
        """Estimate a mean over items, or over votes if their items are given.

        Args:
            values: Numbers of the items ``(I,)`` or votes ``(V,)``; NaN leaves one out.
            weights: Weight of each number, ≥ 0; None for 1 each.
            item: Item of each vote, ``(V,)``; None if the values belong to items.

        Returns:
            The mean with its interval by group; NaN if all numbers are left out.
        """
        weights = np.ones(len(values)) if weights is None else weights
        kept = ~np.isnan(values) & (weights > 0)
        codes = (self.cluster if item is None else self.cluster[item])[kept]
        how = vars(self.resampling)
        return ratio_interval(values[kept] * weights[kept], weights[kept], codes, **how)


def two_way_interval(
    values: Floats,
    group: Codes,
    annotator: Codes,
    *,
    weight: Floats | None = None,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> intervals.Interval:
    r"""Estimate a mean over votes, with an interval by groups of items and by annotators.

    Votes on one item are alike, and so are the votes of one annotator. A bootstrap over items alone
    keeps the annotators fixed, so its intervals are too narrow for another panel of annotators.

    Each resample draws groups and, independently, annotators. A vote is weighted by the number of
    times its group was drawn times the number of times its annotator was drawn:

    .. math:: m^* = \frac{\sum_v w_v\, G^*_{g(v)} A^*_{a(v)}\, x_v}
        {\sum_v w_v\, G^*_{g(v)} A^*_{a(v)}}

    The ends are percentiles. The interval is somewhat too wide rather than too narrow: the variance
    of a vote beyond its group and annotator counts up to three times.

    Args:
        values: x of V votes, such as differences of two models' losses, of shape ``(V,)``.
        group: Number of each vote's group of items, of shape ``(V,)``.
        annotator: Number of each vote's annotator, of shape ``(V,)``.
        weight: w of each vote, ≥ 0, of shape ``(V,)``; None for 1 each.
        level: Confidence level.
        resamples: Number of resamples.
        seed: Seed of the draws.

    Returns:
        The mean with its interval, method ``two-way``; no interval below five groups or five
        annotators.

    Raises:
        ConfigError: If shapes differ, there are no votes, or all weights are 0.

    Source: Owen (2007), the pigeonhole bootstrap; McCullagh (2000).
    """
    values, weights = equally_long(values, np.ones(len(values)) if weight is None else weight)
    rows, columns = numbered(group, len(values)), numbered(annotator, len(values), "annotator")
    total = weights.sum()
    if not total > 0:
        raise ConfigError("at least one vote needs a weight above 0.")
    estimate = float((values * weights).sum() / total)
    shape = int(rows.max()) + 1, int(columns.max()) + 1
    if min(shape) < intervals.FEWEST:
        return intervals.Interval.without_ends(estimate, level)
    tables = [
        sparse.csr_array((each, (rows, columns)), shape=shape)
        for each in (values * weights, weights)
    ]
    generator = np.random.default_rng(seed)
    found = []
    for count in batches(resamples, sum(shape)):
        groups, people = (
            generator.multinomial(size, np.full(size, 1 / size), size=count).astype(np.float64)
            for size in shape
        )
        sums = [np.einsum("ra,ra->r", np.asarray(groups @ table), people) for table in tables]
        found.append(intervals.ratio(np.stack(sums, axis=-1)))
    return intervals.percentile_interval(estimate, np.concatenate(found), level, "two-way")
