"""Tests of whether annotators choose differently, and of which of two models is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
from scipy import stats

from hidden_context.errors import ConfigError
from hidden_context.statistics import interval as intervals
from hidden_context.statistics.checks import Codes, Floats, batches, equally_long, numbered

_ROUNDING: Final = 1e-9  # statistics that differ only by the order of summation are ties


@dataclass(frozen=True)
class TestResult:
    """The result of a statistical test, and what the test cannot say.

    Attributes:
        name: Name of the test.
        question: The question that the test asks, in one sentence.
        statistic: The test statistic.
        p_value: Probability of a statistic at least as extreme if the answer is no.
        resamples: Number of draws from the null; 0 for an exact test.
        limit: What the test cannot say.
    """

    __test__: ClassVar[bool] = False

    name: str
    question: str
    statistic: float
    p_value: float
    resamples: int
    limit: str


def annotator_permutation_test(
    features: Floats,
    annotator: Codes,
    strata: Codes | None = None,
    *,
    block: Codes | None = None,
    resamples: int = 999,
    seed: int = 0,
) -> TestResult:
    r"""Test whether annotators choose differently, by permuting annotators.

    Each label is described by features of the chosen minus the rejected response, such as the
    differences in mean reward, in σ and in length. If the annotator does not matter for the choice,
    annotators can be exchanged within strata of exchangeable pairs. The statistic is the sum of
    squares between annotators of the features, centred by stratum and standardised:

    .. math:: T = \sum_a n_a \lVert \bar f_a \rVert^2

    The p-value is valid even if each annotator has few labels. Use few features then, because every
    feature in which annotators do not differ hides the others; the difference in σ alone is the
    feature that shows opposite objectives. There are two ways to use the test:

    - Strata are groups of pairs, such as topics or rounds of collection. The test assumes that
      pairs were assigned to annotators at random within each group; None is one stratum. If
      annotators got their pairs by topic, use the topics as strata; otherwise the test finds the
      topics.
    - Each stratum is one unordered pair, judged several times. The features of a stratum then
      differ only in sign, and only choices are permuted. Nothing is assumed about which annotator
      got which pair.

    Strata with one row or one annotator carry no information and are left out.

    Args:
        features: Features of the chosen minus the rejected response, of shape ``(N, q)``.
        annotator: Number of each row's annotator, of shape ``(N,)``.
        strata: Number of each row's stratum, of shape ``(N,)``.
        block: Number of each row's block, of shape ``(N,)``: rows that were assigned to an
            annotator together, such as the comparisons of one conversation, and are permuted
            together. Each annotator's rows of a block count once, with their mean features. None if
            every row was assigned on its own.
        resamples: Number of permutations.
        seed: Seed of the permutations.

    Returns:
        The result; its p-value is (1 + #{T* ≥ T}) / (1 + resamples).

    Raises:
        ConfigError: If lengths differ, a feature is not finite, or no stratum has two annotators.
    """
    features = np.asarray(features, dtype=np.float64)
    features = features[:, None] if features.ndim == 1 else features
    size = len(features)
    who = numbered(annotator, size, "annotator")
    where = np.zeros(size, np.int64) if strata is None else numbered(strata, size, "stratum")
    if not np.isfinite(features).all():
        raise ConfigError("features must be finite numbers.")
    if block is not None:
        features, who, where = _by_block(features, who, where, numbered(block, size, "block"))
    both = np.unique(where * (who.max() + 1) + who) // (who.max() + 1)
    telling = (np.bincount(both) > 1)[where]  # strata of two annotators or more
    if not telling.any():
        raise ConfigError(
            "no stratum has labels of two annotators, so there is nothing to permute; use larger "
            "strata, or none."
        )
    features, who, where = features[telling], who[telling], where[telling]
    observed, drawn = _permuted(_standardised(features, where), who, where, resamples, seed)
    return TestResult(
        name="annotator_permutation",
        question="Do annotators choose differently?",
        statistic=observed,
        p_value=permutation_p_value(drawn, observed),
        resamples=resamples,
        limit=(
            "This test assumes that pairs were assigned to annotators at random. If annotators "
            "chose topics, group by topic first. Annotators may differ in care as well as in "
            "objectives, and the test finds only differences that the features show."
        ),
    )


def _by_block(
    features: Floats, who: Codes, where: Codes, block: Codes
) -> tuple[Floats, Codes, Codes]:
    if len(np.unique(np.stack([block, where]), axis=1)[0]) != block.max() + 1:
        raise ConfigError("the rows of one block must lie in one stratum.")
    number = np.unique(block * (who.max() + 1) + who, return_inverse=True)[1]
    first = np.unique(number, return_index=True)[1]
    means = intervals.cluster_sums(features, number) / np.bincount(number)[:, None]
    return means, who[first], where[first]


def _standardised(features: Floats, where: Codes) -> Floats:
    count = np.bincount(where)
    sums = np.stack([np.bincount(where, weights=values) for values in features.T], axis=1)
    centred = features - (sums / np.maximum(count, 1)[:, None])[where]
    spread = centred.std(0)
    level = np.abs(features).max(0, initial=0.0)
    varies = spread > 1e-12 * level  # a constant feature has no spread apart from rounding
    return np.asarray(centred * np.where(varies, 1 / np.where(varies, spread, 1.0), 0.0))


def _permuted(
    values: Floats, who: Codes, where: Codes, resamples: int, seed: int
) -> tuple[float, Floats]:
    """Return the observed statistic, and that of permutations within strata, ``(resamples,)``."""
    slots = np.argsort(where, kind="stable")  # strata lie side by side
    values, who, where = values[slots], who[slots], where[slots]
    by_annotator = np.argsort(who, kind="stable")
    starts = np.flatnonzero(np.diff(who[by_annotator], prepend=-1))
    count = np.diff([*starts, len(who)])

    def statistics(order: Codes) -> Floats:
        """Return the statistics ``(R,)`` of orders ``(R, N)`` of the features over the slots."""
        placed = order[:, by_annotator]
        total = np.zeros(len(order))
        for column in values.T:
            sums = np.add.reduceat(column[placed], starts, axis=1)
            total += (sums**2 / count).sum(1)
        return total

    size = len(who)
    observed = float(statistics(np.arange(size)[None])[0])
    generator = np.random.default_rng(seed)
    drawn = []
    for count_drawn in batches(resamples, size):
        # a uniform number after the stratum's keeps the strata in their places
        key = where + generator.random((count_drawn, size))
        drawn.append(statistics(np.argsort(key, axis=1)))
    return observed, np.concatenate(drawn)


def permutation_p_value(drawn: Floats, observed: float) -> float:
    """Return (1 + #{drawn ≥ observed}) / (1 + #drawn)."""
    reached = int((drawn >= observed - _ROUNDING * max(1.0, abs(observed))).sum())
    return (1 + reached) / (1 + len(drawn))


@dataclass(frozen=True)
class PairedDifference:
    """A statistic of two models on the same data, and its difference.

    Attributes:
        first: The first model's statistic.
        second: The second model's statistic.
        difference: Second − first, with its interval.
        p_value: Probability of a difference at least as large in either direction, if there is no
            true difference.
    """

    first: float
    second: float
    difference: intervals.Interval
    p_value: float


def mcnemar_test(
    first_right: Floats, second_right: Floats, cluster: Codes | None = None
) -> TestResult:
    """Test whether two models rank equally many pairs correctly, by McNemar's exact test.

    Only pairs on which one model does better count. A tie of rewards is half right, which is better
    than wrong and worse than right; with ties, the test is the exact sign test. With clusters, each
    cluster counts once, for the model that is right on more of its pairs.

    Args:
        first_right: How right the first model is on each pair: 0, ½ or 1, of shape ``(N,)``.
        second_right: The same for the second model.
        cluster: Number of each pair's cluster, 0 or more, of shape ``(N,)``; None where pairs are
            independent.

    Returns:
        The result; its statistic is the number of pairs (or clusters) on which the second model
        does better, minus the number on which the first does.

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
    first: intervals.Statistic,
    second: intervals.Statistic,
    *,
    level: float = 0.95,
    resamples: int = intervals.RESAMPLES,
    seed: int = 0,
) -> PairedDifference:
    r"""Compare a statistic of two models on the same clusters.

    The interval is ``cluster_interval`` of second − first. The p-value comes from flipping the
    signs of random clusters' contributions to the difference D:

    .. math:: D^* = \sum_c \pm \left(g \cdot (s_c - \bar s) + D / C\right)

    with g the gradient of D at the totals. For means over clusters of equal size, the contributions
    are the clusters' own differences, and the test is the paired permutation test. For a statistic
    such as r², the test holds to first order, whatever the two models' units. With up to ten
    clusters, all combinations of signs are tried.

    Args:
        sums: Sums of each cluster for both models, of shape ``(C, q)``.
        first: The first model's statistic, a function of the totals.
        second: The second model's statistic, likewise.
        level: Confidence level.
        resamples: Number of bootstrap resamples, and of draws of the signs.
        seed: Seed of both.

    Returns:
        The difference; its p-value is NaN if there is one cluster or no finite difference.

    Raises:
        ConfigError: If there is no cluster, or the level is not between 0 and 1.
    """

    def difference(totals: Floats) -> Floats:
        return np.asarray(second(totals) - first(totals))

    interval = intervals.cluster_interval(
        sums, difference, level=level, resamples=resamples, seed=seed
    )
    totals = sums.sum(0)
    p_value = float("nan")
    if len(sums) > 1 and np.isfinite(interval.estimate):
        added = intervals.influence(sums, difference) + interval.estimate / len(sums)
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
