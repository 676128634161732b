"""AUROC, rank correlation, α and calibration: by hand, brute force and published examples."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from hidden_context.statistics import agreement, calibration
from hidden_context.statistics.votes.krippendorff import alpha, mean_difference, rating_alpha


def test_auroc_against_all_pairs():
    rng = np.random.default_rng(0)
    score, positive = rng.integers(0, 6, 200), rng.random(200) < 0.3
    gap = np.subtract.outer(score[positive], score[~positive])
    assert agreement.auroc(score, positive) == pytest.approx(np.heaviside(gap, 0.5).mean())
    assert agreement.auroc(np.ones(3), np.array([True, False, True])) == 0.5
    assert math.isnan(agreement.auroc(np.arange(2), np.ones(2, bool)))
    found = agreement.diverging_auroc(score, np.where(positive, 0.5, 1.0))
    assert found.estimate == pytest.approx(agreement.auroc(score, positive))


def test_a_unanimous_equal_is_not_contested_where_ties_are_known():
    share, equal = np.array([0.34, 0.35, 0.5, 1 - 0.35, 0.66]), np.array([0, 0.2, 1, 0.6, 0.0])
    assert agreement.contested(share).tolist() == [False, True, True, True, False]
    assert agreement.contested(share, equal).tolist() == [False, True, False, True, False]
    # the score finds conflicts; pairs that all find equal are no misses once ties are known
    score = np.array([1.0, 3.0, 0.0, 2.0, 1.0])
    assert agreement.diverging_auroc(score, share, equal_share=equal).estimate == 1
    assert agreement.diverging_auroc(score, share).estimate == pytest.approx(2 / 3)


def test_intervals_against_a_bootstrap_by_hand():
    rng = np.random.default_rng(1)
    cluster = np.repeat(np.arange(60), 4)
    effect = rng.normal(size=60)[cluster]
    share = np.where(effect + 0.5 * rng.normal(size=240) > 0.5, 0.5, 0.9)
    score = np.round(effect + rng.normal(size=60)[cluster] + 0.3 * rng.normal(size=240), 1)  # ties
    votes = rng.binomial(5, 1 / (1 + np.exp(-score))) / 5
    found = [
        agreement.diverging_auroc(score, share, cluster + 7, resamples=1999),  # any numbers will do
        agreement.rank_correlation(score, votes, cluster, resamples=1999),
    ]
    drawn = []
    for _ in range(1500):
        rows = (4 * rng.integers(0, 60, 60)[:, None] + np.arange(4)).ravel()
        ranks = stats.spearmanr(score[rows], votes[rows]).statistic
        drawn.append([agreement.auroc(score[rows], share[rows] == 0.5), ranks])
    assert found[1].estimate == pytest.approx(stats.spearmanr(score, votes).statistic)
    assert agreement.rank_correlation(-score, votes).estimate == pytest.approx(-found[1].estimate)
    for each, draws in zip(found, np.transpose(drawn), strict=True):
        assert each.method == "bootstrap"
        ends = np.quantile(draws, [0.025, 0.975])
        np.testing.assert_allclose([each.low, each.high], ends, atol=0.02)
    # pairs of one prompt resemble each other, which an interval by pairs does not know
    alone = agreement.diverging_auroc(score, share, resamples=1999)
    assert found[0].high - found[0].low > 1.15 * (alone.high - alone.low)


def test_many_clusters_take_percentiles(monkeypatch):
    rng = np.random.default_rng(2)
    share, score = rng.random(300), rng.random(300)
    corrected = agreement.diverging_auroc(score, share, resamples=999)
    monkeypatch.setattr(agreement.intervals, "EXACT_UP_TO", 299)
    plain = agreement.diverging_auroc(score, share, resamples=999)
    assert plain.estimate == corrected.estimate
    assert plain.low != corrected.low
    assert plain.low == pytest.approx(corrected.low, abs=0.02)


def test_small_samples_have_wilsons_interval_percentiles_or_none():
    perfect = agreement.diverging_auroc(
        np.array([3.0, 2.0, 1.0, 0.0, 0.5]), np.array([0.5, 0.5, 1, 1, 0])
    )
    wilson = stats.binomtest(2, 2).proportion_ci(0.95, "wilson")
    ends = (perfect.estimate, perfect.low, perfect.high)
    assert ends == pytest.approx((1.0, wilson.low, wilson.high))
    assert perfect.method == "wilson"
    # one diverging pair of six: many resamples miss it, and the correction with them
    share = np.array([1.0, 1, 1, 0.5, 1, 1])
    found = agreement.diverging_auroc(np.arange(6.0), share, resamples=199)
    assert found.estimate == pytest.approx(3 / 5)
    assert 0 <= found.low <= found.estimate <= found.high <= 1
    assert agreement.diverging_auroc(np.arange(6.0), np.ones(6)).to_dict()["estimate"] is None
    assert agreement.diverging_auroc(np.arange(3.0), np.array([0.5, 1.0, 0.5])).method == "none"
    assert math.isnan(agreement.rank_correlation(np.ones(9), np.arange(9)).estimate)


# Krippendorff (2011): four observers, twelve units, five values, some missing
FOUR = [
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
]


def counts_of(rows: list[str]) -> np.ndarray:
    """Counts of each unit's values, in the order of the values."""
    cells = [row.split() for row in rows]
    values = sorted({cell for row in cells for cell in row} - {"."})
    return np.array(
        [[unit.count(value) for value in values] for unit in zip(*cells, strict=True)], float
    )


def test_published_examples():
    nominal = counts_of(["a a b b d c c c e d d a", "b a b b b c c c e d d d"])
    assert alpha(nominal).estimate == pytest.approx(0.692, abs=5e-4)
    binary = counts_of(["0 1 0 0 0 0 0 0 1 0", "1 1 1 0 0 1 0 0 0 0"])
    assert alpha(binary).estimate == pytest.approx(0.095, abs=5e-4)
    for metric, published in (("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)):
        found = alpha(counts_of(FOUR), metric=metric)
        assert found.estimate == pytest.approx(published, abs=5e-4), metric
        assert found.low < found.estimate < found.high


def test_rating_alpha_is_that_of_categories_and_does_not_move_with_unit_or_level():
    rng = np.random.default_rng(0)
    item = np.sort(rng.permutation(np.repeat(np.arange(100), 4))[:200])  # some have one rating
    item = np.unique(item, return_inverse=True)[1]
    value = rng.integers(0, 4, 100)[item] + rng.integers(0, 3, 200)
    counts = np.stack([np.bincount(item, value == v) for v in range(6)], axis=1)
    found = rating_alpha(item, value, resamples=199)
    same = alpha(counts, metric="interval", resamples=199)
    assert found.estimate == pytest.approx(same.estimate)
    assert found.low == pytest.approx(same.low)
    moved = rating_alpha(item, 1e6 + 0.01 * value, resamples=199)
    assert moved.estimate == pytest.approx(found.estimate, abs=1e-6)


def test_names_of_sides_mean_nothing_where_mirrored():
    rng = np.random.default_rng(1)
    first = rng.binomial(5, rng.beta(1, 1, 4000))
    counts = np.stack([first, np.zeros(4000), 5 - first], axis=1).astype(float)
    won = np.where((counts[:, 0] < counts[:, 2])[:, None], counts[:, ::-1], counts)
    plain, mirrored = alpha(counts, resamples=9), alpha(counts, mirrored=True, resamples=9)
    # a beta(1, 1) has an intraclass correlation of 1/3
    assert plain.estimate == pytest.approx(1 / 3, abs=0.02)
    assert mirrored.estimate == pytest.approx(plain.estimate, abs=1e-3)
    # where the winner is always called first, people seem to agree by chance
    assert alpha(won, resamples=9).estimate < 0.12
    assert alpha(won, mirrored=True, resamples=9).estimate == pytest.approx(mirrored.estimate)


def test_interval_is_over_groups():
    rng = np.random.default_rng(2)
    first = rng.binomial(4, rng.beta(0.5, 0.5, 40))
    counts, group = np.stack([first, 4 - first], axis=1).astype(float), np.repeat(np.arange(40), 10)
    found, copied = alpha(counts), alpha(np.repeat(counts, 10, axis=0), group)
    assert (copied.low, copied.high) == pytest.approx((found.low, found.high), abs=0.01)
    item, value = np.repeat(np.arange(2), 2), np.repeat([1.0, 0.0], [2, 2])
    assert rating_alpha(item, value, np.array([5, 5, 9, 9])).estimate == 1.0


@pytest.mark.parametrize(
    "found",
    [
        alpha(np.array([[3.0, 0], [2, 0]])),
        alpha(np.array([[1.0, 0], [0, 1]])),
        rating_alpha([0, 0, 1, 1], [0.1, 0.1, 0.1, 0.1]),
        rating_alpha([0, 1, 2], [1.0, 2, 3]),
    ],
)
def test_nothing_to_disagree_about_gives_no_number(found):
    assert math.isnan(found.estimate)


def test_mean_difference_against_all_pairs():
    rng = np.random.default_rng(3)
    item, value = rng.integers(0, 9, 60), rng.normal(size=60)
    item[item == 4] = 5
    item[0] = 4  # alone on its item
    expected = [
        np.mean([abs(a - b) for a, b in itertools.combinations(value[item == number], 2)] or np.nan)
        for number in range(10)
    ]
    np.testing.assert_allclose(mean_difference(item, value, 10), expected)


def test_pairs_are_turned_to_the_preferred_side_and_sharpness_by_hand():
    p, y = calibration.oriented(
        np.array([0.9, 0.1, 0.5, 0.5, 0.3]), np.array([1.0, 1.0, 1.0, 0.0, 0.25])
    )
    np.testing.assert_allclose(p, [0.9, 0.9, 0.5, 0.5, 0.7])
    np.testing.assert_allclose(y, [1.0, 0.0, 0.5, 0.5, 0.75])
    assert calibration.sharpness(np.array([0.9, 0.6])) == pytest.approx((0.16 + 0.01) / 2)


def test_bins_by_hand():
    low, high = calibration.reliability_bins(np.array([0.55, 0.45, 0.95, 1.0, 0.5]), np.ones(5), 5)
    assert (low.low, low.high, low.n) == pytest.approx((0.5, 0.6, 3))
    assert low.predicted == pytest.approx((0.55 + 0.55 + 0.5) / 3)
    assert low.observed == pytest.approx((1 + 0 + 0.5) / 3)
    wilson = stats.binomtest(2, 2).proportion_ci(0.95, "wilson")
    expected = (0.9, 1.0, 2, 0.975, 1.0, wilson.low, wilson.high)
    assert tuple(vars(high).values()) == pytest.approx(expected)
    # an edge belongs to the upper bin, on whichever side a rounding error falls
    (edge,) = calibration.reliability_bins(np.array([0.6, 0.4, 1 - 0.4]), np.ones(3), 5)
    assert (edge.low, edge.n) == (pytest.approx(0.6), 3)


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_intervals_of_bins_are_wilsons_where_pairs_are_independent(level):
    y = np.repeat([1.0, 0.0], [53, 27])
    (found,) = calibration.reliability_bins(np.full(80, 0.7), y, 1, level=level)
    wilson = stats.binomtest(53, 80).proportion_ci(level, "wilson")
    # the variance by cluster divides by n − 1, so the effective size is n − 1
    assert (found.observed_low, found.observed_high) == pytest.approx(
        (wilson.low, wilson.high), abs=0.002
    )


def test_clusters_that_agree_count_once():
    y = np.repeat([1.0, 1.0, 0.0, 1.0, 0.0, 1.0], 10)
    cluster, p = np.repeat(np.arange(6), 10), np.full(60, 0.7)
    (alone,), (together,) = (
        calibration.reliability_bins(p, y, 1, cluster=each) for each in (None, cluster)
    )
    widths = [found.observed_high - found.observed_low for found in (alone, together)]
    assert widths[1] > 2.4 * widths[0]  # about √10
    (same,) = calibration.reliability_bins(p, np.ones(60), 1, cluster=cluster)
    wilson = stats.binomtest(6, 6).proportion_ci(0.95, "wilson")
    assert (same.observed_low, same.observed_high) == pytest.approx((wilson.low, 1.0))


@pytest.mark.parametrize(
    ("p", "y", "bins", "expected"),
    [
        ([0.9, 0.9, 0.6, 0.6], [1, 1, 1, 0], 10, 0.1),
        ([0.1, 0.9, 0.4, 0.6], [0, 1, 0, 0], 10, 0.1),  # the same pairs, turned
        ([0.5] * 9, [1] * 9, 10, 0),
        ([0.7, 0.3], [0.8, 0.4], 1, 0),  # errors of both signs cancel within a bin
    ],
)
def test_calibration_error_by_hand_and_of_any_orientation(p, y, bins, expected):
    found = calibration.expected_calibration_error(np.array(p), np.array(y), bins)
    assert found.estimate == pytest.approx(expected)
    # four pairs tell nothing of their own uncertainty
    assert (found.method == "none") == np.isnan(found.low) == (len(p) < 5)


def test_calibration_error_of_a_known_model():
    rng = np.random.default_rng(1)
    true = rng.uniform(0.02, 0.98, 40_000)
    label = (rng.random(40_000) < true).astype(float)
    calibrated = calibration.expected_calibration_error(true, label)
    assert calibrated.low == 0
    assert calibrated.estimate < 0.012
    sharp = true**2 / (true**2 + (1 - true) ** 2)
    expected = float(np.abs(sharp - true).mean())
    found = calibration.expected_calibration_error(sharp, label)
    assert found.low < expected < found.high
    assert found.high - found.low < 0.03
    # with a large error the interval is that of the mean gap, normal and symmetric
    z = (np.where(sharp > 0.5, 1, -1) * (sharp - label)).std() / np.sqrt(40_000) * 1.96
    assert found.high - found.estimate == pytest.approx(z, rel=0.15)
    assert found.estimate - found.low == pytest.approx(z, rel=0.15)


def test_clusters_widen_the_interval_of_the_calibration_error():
    rng = np.random.default_rng(2)
    effect = rng.normal(size=200)
    p = np.full(2000, 0.7)
    cluster = np.repeat(np.arange(200), 10)
    label = (effect[cluster] + 0.3 * rng.normal(size=2000) < 0.8).astype(float)
    alone = calibration.expected_calibration_error(p, label)
    together = calibration.expected_calibration_error(p, label, cluster=cluster, seed=3)
    assert together.estimate == pytest.approx(alone.estimate)
    assert (together.high - together.low) / (alone.high - alone.low) > 1.8
    assert calibration.expected_calibration_error(p, label, cluster=cluster, seed=3) == together
