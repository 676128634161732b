"""Calibration by hand, of models whose error is known, and of intervals by cluster."""

import numpy as np
import pytest
from scipy import stats

from hidden_context.statistics.calibration import (
    expected_calibration_error,
    oriented,
    reliability_bins,
    sharpness,
)


def test_pairs_are_turned_to_the_preferred_side_and_sharpness_by_hand():
    p, y = oriented(np.array([0.9, 0.1, 0.5, 0.5, 0.3]), np.array([1.0, 1.0, 1.0, 0.0, 0.25]))
    np.testing.assert_allclose(p, [0.9, 0.9, 0.5, 0.5, 0.7])
    np.testing.assert_allclose(y, [1.0, 0.0, 0.5, 0.5, 0.75])
    assert sharpness(np.array([0.9, 0.6])) == pytest.approx((0.16 + 0.01) / 2)


def test_bins_by_hand():
    low, high = reliability_bins(np.array([0.55, 0.45, 0.95, 1.0, 0.5]), np.ones(5), 5)
    assert (low.low, low.high, low.n) == pytest.approx((0.5, 0.6, 3))
    assert low.predicted == pytest.approx((0.55 + 0.55 + 0.5) / 3)
    assert low.observed == pytest.approx((1 + 0 + 0.5) / 3)
    wilson = stats.binomtest(2, 2).proportion_ci(0.95, "wilson")
    expected = (0.9, 1.0, 2, 0.975, 1.0, wilson.low, wilson.high)
    assert tuple(vars(high).values()) == pytest.approx(expected)
    # an edge belongs to the upper bin, on whichever side a rounding error falls
    (edge,) = reliability_bins(np.array([0.6, 0.4, 1 - 0.4]), np.ones(3), 5)
    assert (edge.low, edge.n) == (pytest.approx(0.6), 3)


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_intervals_of_bins_are_wilsons_where_pairs_are_independent(level):
    y = np.repeat([1.0, 0.0], [53, 27])
    (found,) = reliability_bins(np.full(80, 0.7), y, 1, level=level)
    wilson = stats.binomtest(53, 80).proportion_ci(level, "wilson")
    # the variance by cluster divides by n − 1, so the effective size is n − 1
    assert (found.observed_low, found.observed_high) == pytest.approx(
        (wilson.low, wilson.high), abs=0.002
    )


def test_clusters_that_agree_count_once():
    y = np.repeat([1.0, 1.0, 0.0, 1.0, 0.0, 1.0], 10)
    cluster, p = np.repeat(np.arange(6), 10), np.full(60, 0.7)
    (alone,), (together,) = (reliability_bins(p, y, 1, cluster=each) for each in (None, cluster))
    widths = [found.observed_high - found.observed_low for found in (alone, together)]
    assert widths[1] > 2.4 * widths[0]  # about √10
    (same,) = reliability_bins(p, np.ones(60), 1, cluster=cluster)
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
    found = expected_calibration_error(np.array(p), np.array(y), bins)
    assert found.estimate == pytest.approx(expected)
    # four pairs tell nothing of their own uncertainty
    assert (found.method == "none") == np.isnan(found.low) == (len(p) < 5)


def test_calibration_error_of_a_known_model():
    rng = np.random.default_rng(1)
    true = rng.uniform(0.02, 0.98, 40_000)
    label = (rng.random(40_000) < true).astype(float)
    calibrated = expected_calibration_error(true, label)
    assert calibrated.low == 0
    assert calibrated.estimate < 0.012
    sharp = true**2 / (true**2 + (1 - true) ** 2)
    expected = float(np.abs(sharp - true).mean())
    found = expected_calibration_error(sharp, label)
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
    alone = expected_calibration_error(p, label)
    together = expected_calibration_error(p, label, cluster=cluster, seed=3)
    assert together.estimate == pytest.approx(alone.estimate)
    assert (together.high - together.low) / (alone.high - alone.low) > 1.8
    assert expected_calibration_error(p, label, cluster=cluster, seed=3) == together
