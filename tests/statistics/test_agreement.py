"""AUROC and rank correlation against brute force, and their intervals by cluster."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from hidden_context.errors import ConfigError
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


def test_who_diverges():
    share = np.array([0.34, 0.35, 0.5, 1 - 0.35, 0.66])
    assert contested(share).tolist() == [False, True, True, True, False]


def test_a_unanimous_equal_is_not_contested_where_ties_are_known():
    share, equal = np.array([0.5, 0.5, 0.6, 0.9]), np.array([1.0, 0.2, 0.8, 0.0])
    assert contested(share).tolist() == [True, True, True, False]
    assert contested(share, equal).tolist() == [False, True, True, False]
    # the score finds conflicts; pairs that all find equal are no misses once ties are known
    score = np.array([0.0, 3.0, 2.0, 1.0])
    assert diverging_auroc(score, share, equal_share=equal).estimate == 1
    assert diverging_auroc(score, share).estimate == pytest.approx(2 / 3)


def auroc_of_a_resample(score, positive, cluster, drawn):
    rows = np.concatenate([np.flatnonzero(cluster == c) for c in drawn])
    return auroc(score[rows], positive[rows])


def test_interval_of_auroc_against_a_bootstrap_by_hand():
    rng = np.random.default_rng(1)
    cluster = np.repeat(np.arange(60), 4)
    effect = rng.normal(size=60)[cluster]
    share = np.where(effect + 0.5 * rng.normal(size=240) > 0.5, 0.5, 0.9)
    score = np.round(effect + rng.normal(size=60)[cluster] + 0.3 * rng.normal(size=240), 1)  # ties
    found = diverging_auroc(score, share, cluster + 7, resamples=1999)  # any numbers will do
    drawn = [
        auroc_of_a_resample(score, share == 0.5, cluster, rng.integers(0, 60, 60))
        for _ in range(1500)
    ]
    assert found.method == "bootstrap"
    np.testing.assert_allclose(
        [found.low, found.high], np.quantile(drawn, [0.025, 0.975]), atol=0.02
    )
    # pairs of one prompt resemble each other, which an interval by pairs does not know
    alone = diverging_auroc(score, share, resamples=1999)
    assert found.high - found.low > 1.15 * (alone.high - alone.low)
    assert diverging_auroc(score, share, cluster, resamples=99) == diverging_auroc(
        score, share, cluster, resamples=99
    )


def test_many_clusters_take_percentiles(monkeypatch):
    rng = np.random.default_rng(2)
    share, score = rng.random(300), rng.random(300)
    corrected = diverging_auroc(score, share, resamples=999)
    monkeypatch.setattr(agreement, "EXACT_UP_TO", 299)
    plain = diverging_auroc(score, share, resamples=999)
    assert plain.estimate == corrected.estimate
    assert plain.low != corrected.low
    assert plain.low == pytest.approx(corrected.low, abs=0.02)


def test_a_perfect_score_is_not_sure():
    found = diverging_auroc(np.array([3.0, 2.0, 1.0, 0.0, 0.5]), np.array([0.5, 0.5, 1, 1, 0]))
    wilson = stats.binomtest(2, 2).proportion_ci(0.95, "wilson")
    assert (found.estimate, found.low, found.high) == pytest.approx((1.0, wilson.low, wilson.high))
    assert found.method == "wilson"


def test_without_both_sorts_there_is_nothing_to_estimate():
    found = diverging_auroc(np.arange(6.0), np.ones(6))
    assert math.isnan(found.estimate)
    assert found.to_dict()["estimate"] is None
    few = diverging_auroc(np.array([1.0, 1.0, 0.0]), np.array([0.5, 1.0, 0.0]))
    assert few.method == "none"


def test_rank_correlation_against_scipy():
    rng = np.random.default_rng(3)
    x = rng.integers(0, 8, 120)
    y = x + rng.integers(0, 8, 120)
    found = rank_correlation(x, y)
    assert found.estimate == pytest.approx(stats.spearmanr(x, y).statistic)
    assert rank_correlation(-x, y).estimate == pytest.approx(-found.estimate)
    # Fisher's z, with the variance of Bonett and Wright (2000)
    reach = 1.96 * np.sqrt((1 + found.estimate**2 / 2) / 117)
    ends = np.tanh(np.arctanh(found.estimate) + reach * np.array([-1, 1]))
    np.testing.assert_allclose([found.low, found.high], ends, atol=0.04)
    assert math.isnan(rank_correlation(np.ones(9), np.arange(9)).estimate)


def test_resampled_ranks_are_those_of_the_resample():
    rng = np.random.default_rng(4)
    cluster = np.repeat(np.arange(40), 3)
    p = rng.random(120)
    votes = rng.binomial(5, p) / 5
    found = rank_correlation(p, votes, cluster, resamples=1999)
    drawn = []
    for _ in range(1500):
        rows = (3 * rng.integers(0, 40, 40)[:, None] + np.arange(3)).ravel()
        drawn.append(stats.spearmanr(p[rows], votes[rows]).statistic)
    np.testing.assert_allclose(
        [found.low, found.high], np.quantile(drawn, [0.025, 0.975]), atol=0.02
    )


def test_resamples_without_a_positive_are_left_out():
    # one diverging pair of six: many resamples miss it, and the correction with them
    score, share = np.arange(6.0), np.array([1.0, 1, 1, 0.5, 1, 1])
    found = diverging_auroc(score, share, resamples=199)
    assert found.estimate == pytest.approx(3 / 5)
    assert 0 <= found.low <= found.estimate <= found.high <= 1


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: auroc(np.ones(2), np.ones(3, bool)), "equally long"),
        (lambda: rank_correlation(np.ones(0), np.ones(0)), "non-empty"),
        (lambda: rank_correlation(np.ones(2), np.ones(2), np.zeros(3)), "cluster numbers"),
    ],
)
def test_what_cannot_work_is_refused(call, text):
    with pytest.raises(ConfigError, match=text):
        call()
