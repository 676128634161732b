"""Intervals of means over votes, where items and annotators are both drawn from many.

Votes on one item are alike, and so are the votes of one annotator. A bootstrap over items alone
holds the annotators fixed and is too sure of what another panel would say.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy import sparse

from hidden_context.errors import ConfigError
from hidden_context.statistics.checks import Codes, Floats, equally_long, numbered
from hidden_context.statistics.interval import FEWEST, Interval

RESAMPLES: Final = 1000
_BATCH_NUMBERS: Final = 4_000_000


def two_way_interval(
    values: Floats,
    group: Codes,
    annotator: Codes,
    *,
    weight: Floats | None = None,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    r"""Interval of a mean over votes, by groups of items and by annotators both.

    Each resample draws groups and, independently, annotators; a vote counts the product of how
    often its group and its annotator were drawn, so that

    .. math:: m^* = \frac{\sum_v w_v\, G^*_{g(v)} A^*_{a(v)}\, x_v}
        {\sum_v w_v\, G^*_{g(v)} A^*_{a(v)}}

    The ends are percentiles. The interval is somewhat too wide rather than too narrow: what is left
    of a vote beside its group and annotator counts up to three times.

    Args:
        values: x of V votes, such as differences of two models' losses, of shape ``(V,)``.
        group: Number of each vote's group of items, of shape ``(V,)``.
        annotator: Number of each vote's annotator, of shape ``(V,)``.
        weight: w of each vote, ≥ 0, of shape ``(V,)``; None for 1 each.
        level: Confidence level.
        resamples: How many.
        seed: Of the draws.

    Returns:
        The mean with its interval, method ``two-way``; none below five groups or five annotators.

    Raises:
        ConfigError: If shapes differ, there are no votes, or all weights are 0.

    Source: Owen (2007), the pigeonhole bootstrap; McCullagh (2000).
    """
    values, weights = equally_long(values, np.ones(len(values)) if weight is None else weight)
    rows, columns = numbered(group, len(values)), numbered(annotator, len(values), "annotator")
    total = weights.sum()
    if not total > 0:
        raise ConfigError("votes of a weight above 0 are needed.")
    estimate = float((values * weights).sum() / total)
    shape = int(rows.max()) + 1, int(columns.max()) + 1
    if min(shape) < FEWEST:
        return Interval(estimate, np.nan, np.nan, level, "none")
    tables = [
        sparse.csr_array((each, (rows, columns)), shape=shape)
        for each in (values * weights, weights)
    ]
    generator = np.random.default_rng(seed)
    step = max(1, _BATCH_NUMBERS // sum(shape))
    found = []
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        groups, people = (
            generator.multinomial(size, np.full(size, 1 / size), size=count).astype(np.float64)
            for size in shape
        )
        sums = [np.einsum("ra,ra->r", np.asarray(groups @ table), people) for table in tables]
        with np.errstate(divide="ignore", invalid="ignore"):
            found.append(sums[0] / sums[1])
    low, high = np.nanquantile(np.concatenate(found), [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high), level, "two-way")
