"""Rank measures of how well learned disagreement matches disagreement between annotators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from hidden_context.statistics import interval as intervals
from hidden_context.statistics.checks import (
    Booleans,
    Codes,
    Floats,
    equally_long,
    numbered,
    quotient,
)

Weighted = Callable[[Floats], Floats]
"""Takes weights of the pairs ``(R, N)`` to values ``(R,)``."""

CONTESTED: Final = (0.35, 0.65)
"""Vote shares between which annotators of a pair diverge, both ends included."""

RESAMPLES: Final = 499
# a share such as 1 − 0.35 may miss an end by a rounding error
_ROUNDING: Final = 1e-9


def contested(vote_share: Floats, equal_share: Floats | None = None) -> Booleans:
    """Return which pairs are contested: their vote share lies in ``CONTESTED``.

    A pair that everybody finds equal also has a share of ½, but nobody disagrees about it.

    Args:
        vote_share: (first + ½ equal) / n of each pair, in [0, 1], of shape ``(N,)``.
        equal_share: Share of each pair's votes that say ``equal``, of shape ``(N,)``: where it is
            1 the pair is not contested. None if ties are not known: a share of ½ may then be a
            conflict or a tie.

    Returns:
        Of shape ``(N,)``.
    """
    share = np.asarray(vote_share, dtype=np.float64)
    low, high = CONTESTED
    found = (share >= low - _ROUNDING) & (share <= high + _ROUNDING)
    if equal_share is not None:
        found &= np.asarray(equal_share) < 1 - _ROUNDING
    return np.asarray(found)


def auroc(score: Floats, positive: Booleans) -> float:
    """Return the probability that a positive scores higher than a negative, ties counted ½.

    Args:
        score: Scores of shape ``(N,)``.
        positive: Which of them are positives, of shape ``(N,)``.

    Returns:
        Area under the receiver operating characteristic, in [0, 1]; NaN without a positive or
        without a negative.

    Raises:
        ConfigError: If shapes differ or there are no scores.
    """
    score, indicator = equally_long(score, positive)
    return float(weighted_auroc(score, indicator > 0)(np.ones((1, len(score))))[0])


def diverging_auroc(
    score: Floats,
    vote_share: Floats,
    cluster: Codes | None = None,
    *,
    equal_share: Floats | None = None,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> intervals.Interval:
    """Estimate how well a score finds the pairs whose annotators diverge.

    Args:
        score: Learned disagreement of each pair, higher where more is expected, of shape ``(N,)``:
            ``−|P − ½|``, or σ of the difference of the two rewards.
        vote_share: Share of the votes for one response, ties counted ½, of shape ``(N,)``.
        cluster: Number of each pair's cluster, of shape ``(N,)``; None where pairs are independent.
        equal_share: Share of each pair's votes that say ``equal``, of shape ``(N,)``; see
            ``contested``.
        level: Confidence level.
        resamples: Number of bootstrap resamples over clusters; the interval is bias-corrected and
            accelerated up to ``EXACT_UP_TO`` clusters, by percentiles above.
        seed: Seed of the bootstrap.

    Returns:
        AUROC in [0, 1] of diverging pairs against the others, ties counted ½; NaN if there are no
        diverging pairs or no others. If it is 0 or 1, the interval is Wilson's, with as many draws
        as the rarer kind of pair has clusters.

    Raises:
        ConfigError: If shapes differ or there are no pairs.
    """
    score, vote_share = equally_long(score, vote_share)
    positive = contested(vote_share, equal_share)
    estimate = auroc(score, positive)
    codes = numbered(cluster, len(score))
    if estimate in (0.0, 1.0):
        rarer = min(len(np.unique(codes[positive])), len(np.unique(codes[~positive])))
        return intervals.wilson(estimate, rarer, level)
    weighted = weighted_auroc(score, positive)
    return _interval(estimate, weighted, codes, level, resamples, seed)


def weighted_auroc(score: Floats, positive: Booleans) -> Weighted:
    """Return a function from row weights to ``auroc``; the scores are sorted only once.

    Args:
        score: Scores of shape ``(N,)``.
        positive: Which of them are positives, of shape ``(N,)``.

    Returns:
        A function from weights ``(R, N)`` to areas ``(R,)``; NaN where the positives or the
        negatives have no weight.
    """
    ranks = _mid_ranks(score)

    def weighted(weights: Floats) -> Floats:
        above, below = weights * positive, weights * ~positive
        return quotient((above * ranks(below)).sum(1), above.sum(1) * below.sum(1))

    return weighted


def rank_correlation(
    first: Floats,
    second: Floats,
    cluster: Codes | None = None,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> intervals.Interval:
    """Estimate Spearman's correlation of two columns, with an interval by cluster.

    For probabilities and vote shares, the correlation depends on which response of a pair is called
    chosen. Use an orientation that the votes did not decide, such as the order of the file or of
    the texts. Otherwise every share is above ½, and half of the range is missing.

    Args:
        first: Numbers of shape ``(N,)``.
        second: Numbers of shape ``(N,)``.
        cluster: Number of each row's cluster, of shape ``(N,)``; None where rows are independent.
        level: Confidence level.
        resamples: Number of bootstrap resamples over clusters; the interval is bias-corrected and
            accelerated up to ``EXACT_UP_TO`` clusters, by percentiles above.
        seed: Seed of the bootstrap.

    Returns:
        The correlation in [−1, 1] with its interval, ties at their mean rank; NaN where one side is
        constant.

    Raises:
        ConfigError: If shapes differ or there are no rows.
    """
    first, second = equally_long(first, second)
    columns = [_mid_ranks(values) for values in (first, second)]

    def weighted(weights: Floats) -> Floats:
        total = weights.sum(1, keepdims=True)
        a, b = (ranks(weights) - total / 2 for ranks in columns)  # mean mid-rank: half the sum
        both, one, other = ((weights * each).sum(1) for each in (a * b, a * a, b * b))
        return quotient(both, np.sqrt(one * other))

    estimate = float(weighted(np.ones((1, len(first))))[0])
    codes = numbered(cluster, len(first))
    return _interval(estimate, weighted, codes, level, resamples, seed)


def _mid_ranks(values: Floats) -> Weighted:
    """Return a function from weights ``(R, N)`` to weighted mid-ranks ``(R, N)``."""
    _, group, count = np.unique(values, return_inverse=True, return_counts=True)
    order, starts = np.argsort(group, kind="stable"), np.cumsum(count) - count

    def ranks(weights: Floats) -> Floats:
        mass = np.add.reduceat(weights[:, order], starts, axis=1)
        return np.asarray((np.cumsum(mass, axis=1) - mass / 2)[:, group])

    return ranks


def _interval(
    estimate: float, weighted: Weighted, codes: Codes, level: float, resamples: int, seed: int
) -> intervals.Interval:
    count = int(codes.max()) + 1
    if count < intervals.FEWEST or not np.isfinite(estimate):
        return intervals.Interval.without_ends(estimate, level)

    def of_indices(index: Codes, axis: int = -1) -> Floats:
        rows = np.atleast_2d(index)
        flat = rows + count * np.arange(len(rows))[:, None]
        drawn = np.bincount(flat.ravel(), minlength=len(rows) * count).reshape(len(rows), count)
        found = weighted(drawn[:, codes].astype(np.float64))
        return found if index.ndim == 2 else np.asarray(found[0])

    # a resample without a positive, or resamples that are all the same, give no number
    low, high, drawn = intervals.resampled(of_indices, count, level, resamples, seed, len(codes))
    if not np.isfinite(low + high):
        return intervals.percentile_interval(estimate, drawn, level)
    return intervals.Interval(estimate, low, high, level, "bootstrap")
