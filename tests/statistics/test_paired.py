"""Paired tests against scipy's, by enumeration, and on models whose difference is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from hidden_context.errors import ConfigError
from hidden_context.statistics.explained import explained_moments, explained_variance_of_sums
from hidden_context.statistics.interval import cluster_interval, cluster_sums, ratio
from hidden_context.statistics.paired import mcnemar_test, paired_difference


def first_share(totals):
    return ratio(totals[..., [0, 2]])


def second_share(totals):
    return ratio(totals[..., [1, 2]])


def test_mcnemar_is_the_binomial_test_of_discordant_pairs():
    first = np.repeat([1.0, 1.0, 0.0, 0.0], [40, 5, 14, 20])
    second = np.repeat([1.0, 0.0, 1.0, 0.0], [40, 5, 14, 20])
    found = mcnemar_test(first, second)
    assert found.p_value == stats.binomtest(14, 19).pvalue
    assert found.statistic == 9
    assert found.resamples == 0
    assert "pairs as independent" in found.limit
    back = mcnemar_test(second, first)
    assert (back.statistic, back.p_value) == (-9, pytest.approx(found.p_value))
    assert mcnemar_test(first, first).p_value == 1
    assert found.to_dict()["name"] == "mcnemar"


def test_a_tie_is_better_than_wrong_and_worse_than_right():
    first = np.array([0.5, 0.5, 0.5, 0.5, 1.0])
    second = np.array([1.0, 1.0, 0.0, 0.5, 0.5])
    found = mcnemar_test(first, second)
    assert found.statistic == 0
    assert found.p_value == stats.binomtest(2, 4).pvalue


def test_a_cluster_counts_once():
    # twelve pairs in four clusters: three for the second model, one for the first
    gain = np.array([1, 1, 1, 0, 1, 0, 1, -1, 1, -1, -1, 0])
    cluster = np.repeat(np.arange(4), 3)
    found = mcnemar_test((gain < 0).astype(float), (gain > 0).astype(float), cluster)
    assert found.statistic == 2
    assert found.p_value == stats.binomtest(3, 4).pvalue
    assert "clusters" in found.limit


def clusters_of_four(effect, seed, count=60):
    generator = np.random.default_rng(seed)
    right = generator.random((2, count, 4)) < np.array([0.6, 0.6 + effect])[:, None, None]
    return np.concatenate([right.sum(2).T, np.full((count, 1), 4)], axis=1).astype(float)


def test_difference_of_shares():
    sums = clusters_of_four(0.2, 0)
    found = paired_difference(sums, first_share, second_share)
    gain = (sums[:, 1] - sums[:, 0]) / 4
    assert found.first == sums[:, 0].mean() / 4
    assert found.difference.estimate == pytest.approx(gain.mean())
    error = gain.std(ddof=1) / math.sqrt(60)
    assert found.difference.low == pytest.approx(gain.mean() - 1.96 * error, abs=0.25 * error)
    assert found.difference.high == pytest.approx(gain.mean() + 1.96 * error, abs=0.25 * error)
    interval = cluster_interval(sums, lambda totals: second_share(totals) - first_share(totals))
    assert found.difference == interval
    assert found.p_value < 0.01


@pytest.mark.parametrize("seed", range(3))
def test_signs_against_the_permutation_test_of_scipy(seed):
    sums = clusters_of_four(0.05, seed, 40)
    found = paired_difference(sums, first_share, second_share, resamples=9999)
    reference = stats.permutation_test(
        (sums[:, 0], sums[:, 1]),
        lambda a, b, axis=-1: (b - a).mean(axis),
        permutation_type="samples",
        n_resamples=9999,
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    assert found.p_value == pytest.approx(reference.pvalue, abs=0.03)


def test_few_clusters_try_all_signs():
    gain = np.array([3.0, 1.0, 2.0, 4.0, -1.0, 2.0])
    sums = np.stack([np.zeros(6), gain, np.full(6, 4.0)], axis=1)
    found = paired_difference(sums, first_share, second_share)
    reference = stats.permutation_test(
        (sums[:, 0], gain),
        lambda a, b, axis=-1: (b - a).mean(axis),
        permutation_type="samples",
        n_resamples=np.inf,
        vectorized=True,
    )
    assert found.p_value == pytest.approx(reference.pvalue, rel=1e-6)


def test_equal_models_and_a_single_cluster():
    sums = clusters_of_four(0.1, 3)
    same = paired_difference(sums, first_share, first_share)
    assert (same.difference.estimate, same.p_value) == (0, 1)
    alone = paired_difference(sums[:1], first_share, second_share)
    assert math.isnan(alone.p_value)
    assert alone.to_dict()["p_value"] is None
    assert alone.to_dict()["difference"]["low"] is None


def test_r_squared_of_models_in_different_units():
    generator = np.random.default_rng(4)
    prompt = np.repeat(np.arange(150), 4)
    mean, variance = generator.normal(size=600), np.exp(0.3 * generator.normal(size=600))

    def moments(unit, noise):
        return cluster_sums(explained_moments(unit * mean, unit**2 * noise * variance), prompt)

    def compared(first, second):
        return paired_difference(
            np.concatenate([first, second], axis=1),
            lambda totals: explained_variance_of_sums(totals[..., :4]),
            lambda totals: explained_variance_of_sums(totals[..., 4:]),
        )

    unit = compared(moments(1.0, 1.0), moments(50.0, 1.0))
    assert unit.difference.estimate == pytest.approx(0, abs=1e-12)
    noisy = compared(moments(1.0, 1.0), moments(50.0, 1.3))
    assert noisy.difference.high < 0
    assert noisy.p_value == 1 / 2000
    share = mean.var() / (mean.var() + variance.mean())
    assert noisy.first == pytest.approx(share)


@pytest.mark.parametrize(
    "call",
    [
        lambda: mcnemar_test(np.ones(2), np.ones(3)),
        lambda: mcnemar_test(np.ones(0), np.ones(0)),
        lambda: mcnemar_test(np.ones(2), np.ones(2), np.zeros(3, dtype=np.int64)),
        lambda: paired_difference(np.ones((0, 3)), first_share, second_share),
    ],
)
def test_what_cannot_work_is_refused(call):
    with pytest.raises(ConfigError):
        call()
