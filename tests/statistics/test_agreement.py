"""AUROC and rank correlation against brute force, and their intervals by cluster."""

import math

import numpy as np
import pytest
from scipy import stats

from hidden_context.statistics import agreement
from hidden_context.statistics.agreement import (
    auroc,
    contested,
    diverging_auroc,
    rank_correlation,
)


def test_auroc_against_all_pairs():
    rng = np.random.default_rng(0)
    score, positive = rng.integers(0, 6, 200), rng.random(200) < 0.3
    gap = np.subtract.outer(score[positive], score[~positive])
    assert auroc(score, positive) == pytest.approx(np.heaviside(gap, 0.5).mean())
    assert auroc(np.ones(3), np.array([True, False, True])) == 0.5
    assert math.isnan(auroc(np.arange(2), np.ones(2, bool)))
    found = diverging_auroc(score, np.where(positive, 0.5, 1.0))
    assert found.estimate == pytest.approx(auroc(score, positive))


def test_a_unanimous_equal_is_not_contested_where_ties_are_known():
    share, equal = np.array([0.34, 0.35, 0.5, 1 - 0.35, 0.66]), np.array([0, 0.2, 1, 0.6, 0.0])
    assert contested(share).tolist() == [False, True, True, True, False]
    assert contested(share, equal).tolist() == [False, True, False, True, False]
    # the score finds conflicts; pairs that all find equal are no misses once ties are known
    score = np.array([1.0, 3.0, 0.0, 2.0, 1.0])
    assert diverging_auroc(score, share, equal_share=equal).estimate == 1
    assert diverging_auroc(score, share).estimate == pytest.approx(2 / 3)


def test_intervals_against_a_bootstrap_by_hand():
    rng = np.random.default_rng(1)
    cluster = np.repeat(np.arange(60), 4)
    effect = rng.normal(size=60)[cluster]
    share = np.where(effect + 0.5 * rng.normal(size=240) > 0.5, 0.5, 0.9)
    score = np.round(effect + rng.normal(size=60)[cluster] + 0.3 * rng.normal(size=240), 1)  # ties
    votes = rng.binomial(5, 1 / (1 + np.exp(-score))) / 5
    found = [
        diverging_auroc(score, share, cluster + 7, resamples=1999),  # any numbers will do
        rank_correlation(score, votes, cluster, resamples=1999),
    ]
    drawn = []
    for _ in range(1500):
        rows = (4 * rng.integers(0, 60, 60)[:, None] + np.arange(4)).ravel()
        ranks = stats.spearmanr(score[rows], votes[rows]).statistic
        drawn.append([auroc(score[rows], share[rows] == 0.5), ranks])
    assert found[1].estimate == pytest.approx(stats.spearmanr(score, votes).statistic)
    assert rank_correlation(-score, votes).estimate == pytest.approx(-found[1].estimate)
    for each, draws in zip(found, np.transpose(drawn), strict=True):
        assert each.method == "bootstrap"
        ends = np.quantile(draws, [0.025, 0.975])
        np.testing.assert_allclose([each.low, each.high], ends, atol=0.02)
    # pairs of one prompt resemble each other, which an interval by pairs does not know
    alone = diverging_auroc(score, share, resamples=1999)
    assert found[0].high - found[0].low > 1.15 * (alone.high - alone.low)


def test_many_clusters_take_percentiles(monkeypatch):
    rng = np.random.default_rng(2)
    share, score = rng.random(300), rng.random(300)
    corrected = diverging_auroc(score, share, resamples=999)
    monkeypatch.setattr(agreement, "EXACT_UP_TO", 299)
    plain = diverging_auroc(score, share, resamples=999)
    assert plain.estimate == corrected.estimate
    assert plain.low != corrected.low
    assert plain.low == pytest.approx(corrected.low, abs=0.02)


def test_small_samples_have_wilsons_interval_percentiles_or_none():
    perfect = diverging_auroc(np.array([3.0, 2.0, 1.0, 0.0, 0.5]), np.array([0.5, 0.5, 1, 1, 0]))
    wilson = stats.binomtest(2, 2).proportion_ci(0.95, "wilson")
    ends = (perfect.estimate, perfect.low, perfect.high)
    assert ends == pytest.approx((1.0, wilson.low, wilson.high))
    assert perfect.method == "wilson"
    # one diverging pair of six: many resamples miss it, and the correction with them
    share = np.array([1.0, 1, 1, 0.5, 1, 1])
    found = diverging_auroc(np.arange(6.0), share, resamples=199)
    assert found.estimate == pytest.approx(3 / 5)
    assert 0 <= found.low <= found.estimate <= found.high <= 1
    assert diverging_auroc(np.arange(6.0), np.ones(6)).to_dict()["estimate"] is None
    assert diverging_auroc(np.arange(3.0), np.array([0.5, 1.0, 0.5])).method == "none"
    assert math.isnan(rank_correlation(np.ones(9), np.arange(9)).estimate)
