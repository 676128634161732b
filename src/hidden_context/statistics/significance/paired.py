"""Two models on the same pairs: is one better, and by how much?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import stats

from hidden_context.statistics.checks import Codes, Floats, batches, equally_long, numbered
from hidden_context.statistics.interval import (
    RESAMPLES,
    Interval,
    Statistic,
    cluster_interval,
    influence,
)
from hidden_context.statistics.significance.permutation import TestResult

_ROUNDING: Final = 1e-9


@dataclass(frozen=True)
class PairedDifference:
    """A statistic of two models on the same data, and its difference.

    Attributes:
        first: The first model's.
        second: The second model's.
        difference: Second − first, with its interval.
        p_value: Probability of a difference at least as large either way if there is none.
    """

    first: float
    second: float
    difference: Interval
    p_value: float


def mcnemar_test(
    first_right: Floats, second_right: Floats, cluster: Codes | None = None
) -> TestResult:
    """Test whether two models rank equally many pairs right, by McNemar's exact test.

    Only pairs count on which one model does better. A tie of rewards is right by half; a model
    that is right by half does better than one that is wrong and worse than one that is right, so
    ties make it the exact sign test. With clusters, a cluster counts once, for the model that is
    right on more of its pairs.

    Args:
        first_right: Whether the first model ranks each pair right: 0, ½ or 1, of shape ``(N,)``.
        second_right: The same for the second model.
        cluster: Number of each pair's cluster, 0 or more, of shape ``(N,)``; None where pairs are
            independent.

    Returns:
        The result; its statistic is the surplus of pairs (or clusters) on which the second model
        does better over those on which the first does.

    Raises:
        ConfigError: If shapes differ or there are no pairs.

    Source: McNemar (1947).
    """
    first, second = equally_long(first_right, second_right)
    gain = second - first
    if cluster is not None:
        codes = numbered(cluster, len(first))
        gain = np.bincount(codes, weights=gain).astype(np.float64)
    better, worse = int((gain > _ROUNDING).sum()), int((gain < -_ROUNDING).sum())
    p_value = stats.binomtest(better, better + worse).pvalue if better + worse else 1.0
    unit = "pairs" if cluster is None else "clusters"
    independent = "" if cluster is not None else " The test assumes that pairs are independent."
    return TestResult(
        name="mcnemar",
        question="Does one of the two models rank more pairs right?",
        statistic=float(better - worse),
        p_value=float(p_value),
        resamples=0,
        limit=(
            f"The test counts {unit} on which one model does better, not how sure each model is."
            + independent
        ),
    )


def paired_difference(
    sums: Floats,
    first: Statistic,
    second: Statistic,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> PairedDifference:
    r"""Compare a statistic of two models on the same clusters.

    The interval is ``cluster_interval`` of second − first. The p-value turns round, in random
    clusters, what a cluster adds to the difference D:

    .. math:: D^* = \sum_c \pm \left(g \cdot (s_c - \bar s) + D / C\right)

    with g the gradient of D at the totals. For means over clusters of equal size these are
    the clusters' own differences, and the test is the paired permutation test. For a statistic such
    as r² it holds to first order, whatever the two models' units. Up to ten clusters all choices of
    signs are tried.

    Args:
        sums: Sums of each cluster for both models, of shape ``(C, q)``.
        first: The first model's statistic, a function of the totals.
        second: The second model's.
        level: Confidence level.
        resamples: Of the bootstrap, and of the signs.
        seed: Of both.

    Returns:
        The difference; a p-value of NaN where there is one cluster or no finite difference.

    Raises:
        ConfigError: If there is no cluster, or the level is not between 0 and 1.
    """

    def difference(totals: Floats) -> Floats:
        return np.asarray(second(totals) - first(totals))

    interval = cluster_interval(sums, difference, level=level, resamples=resamples, seed=seed)
    totals = sums.sum(0)
    p_value = float("nan")
    if len(sums) > 1 and np.isfinite(interval.estimate):
        added = influence(sums, difference) + interval.estimate / len(sums)
        p_value = _sign_flip_p_value(added, interval.estimate, resamples, seed)
    return PairedDifference(float(first(totals)), float(second(totals)), interval, p_value)


def _sign_flip_p_value(added: Floats, observed: float, resamples: int, seed: int) -> float:
    """Return the share of random signs under which |Σ ± added| reaches |observed|."""
    count = len(added)
    reached = abs(observed) - _ROUNDING * float(np.abs(added).sum())
    if count <= 10:
        signs = 1.0 - 2.0 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)
        return float((np.abs(signs @ added) >= reached).mean())
    generator = np.random.default_rng(seed)
    hits = 0
    for size in batches(resamples, count):
        negative = generator.random((size, count)) < 0.5
        hits += int((np.abs(added.sum() - 2 * (negative @ added)) >= reached).sum())
    return (1 + hits) / (1 + resamples)
