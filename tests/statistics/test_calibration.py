"""Calibration by hand, of models whose error is known, and of intervals by cluster."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hidden_context.errors import ConfigError
from hidden_context.statistics.calibration import (
    expected_calibration_error,
    oriented,
    reliability_bins,
    sharpness,
)


def test_sharpness_by_hand():
    assert sharpness(np.array([0.5, 0.5])) == 0
    assert sharpness(np.array([0.0, 1.0])) == 0.25
    assert sharpness(np.array([0.9, 0.6])) == pytest.approx((0.16 + 0.01) / 2)


def test_pairs_are_turned_to_the_preferred_side():
    p, y = oriented(np.array([0.9, 0.1, 0.5, 0.5, 0.3]), np.array([1.0, 1.0, 1.0, 0.0, 0.25]))
    np.testing.assert_allclose(p, [0.9, 0.9, 0.5, 0.5, 0.7])
    np.testing.assert_allclose(y, [1.0, 0.0, 0.5, 0.5, 0.75])


def test_bins_by_hand():
    p = np.array([0.55, 0.45, 0.95, 1.0, 0.5])
    y = np.array([1.0, 1.0, 1.0, 1.0, 1.0])
    low, high = reliability_bins(p, y, 5)
    assert (low.low, low.high, low.n) == pytest.approx((0.5, 0.6, 3))
    assert low.predicted == pytest.approx((0.55 + 0.55 + 0.5) / 3)
    assert low.observed == pytest.approx((1 + 0 + 0.5) / 3)
    assert (high.low, high.high, high.n) == pytest.approx((0.9, 1.0, 2))
    wilson = stats.binomtest(2, 2).proportion_ci(0.95, "wilson")
    assert (high.observed_low, high.observed_high) == pytest.approx((wilson.low, wilson.high))
    assert high.to_dict()["observed"] == 1.0
    # an edge belongs to the upper bin, on whichever side a rounding error falls
    (edge,) = reliability_bins(np.array([0.6, 0.4, 1 - 0.4]), np.ones(3), 5)
    assert edge.low == pytest.approx(0.6)
    assert edge.n == 3


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
    cluster = np.repeat(np.arange(6), 10)
    p = np.full(60, 0.7)
    (alone,) = reliability_bins(p, y, 1)
    (together,) = reliability_bins(p, y, 1, cluster=cluster)
    widths = [found.observed_high - found.observed_low for found in (alone, together)]
    assert widths[1] > 2.4 * widths[0]  # about √10
    (same,) = reliability_bins(p, np.ones(60), 1, cluster=cluster)
    wilson = stats.binomtest(6, 6).proportion_ci(0.95, "wilson")
    assert (same.observed_low, same.observed_high) == pytest.approx((wilson.low, 1.0))


def test_calibration_error_by_hand_and_of_any_orientation():
    p, y = np.array([0.9, 0.9, 0.6, 0.6]), np.array([1.0, 1.0, 1.0, 0.0])
    assert expected_calibration_error(p, y).estimate == pytest.approx(0.1)
    turned = expected_calibration_error(
        np.array([0.1, 0.9, 0.4, 0.6]), np.array([0.0, 1.0, 0.0, 0.0])
    )
    assert turned.estimate == pytest.approx(0.1)
    assert turned.method == "none"  # four pairs tell nothing of their own uncertainty
    assert np.isnan(turned.low)
    coin = expected_calibration_error(np.full(9, 0.5), np.ones(9))
    assert (coin.estimate, coin.low) == (0, 0)
    # one bin: errors of both signs cancel
    both = expected_calibration_error(np.array([0.7, 0.3]), np.array([0.8, 0.4]), 1)
    assert both.estimate == pytest.approx(0)


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


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: oriented(np.array([0.5]), np.array([1.0, 0.0])), "equally long"),
        (lambda: oriented(np.array([]), np.array([])), "non-empty"),
        (lambda: sharpness(np.array([1.5])), "probabilities must lie"),
        (lambda: oriented(np.array([0.5]), np.array([-1.0])), "labels must lie"),
        (lambda: reliability_bins(np.array([0.5]), np.array([1.0]), 0), "1 or more"),
        (
            lambda: reliability_bins(np.array([0.5]), np.array([1.0]), cluster=np.array([0, 1])),
            "cluster numbers",
        ),
    ],
)
def test_what_cannot_work_is_refused(call, text):
    with pytest.raises(ConfigError, match=text):
        call()
