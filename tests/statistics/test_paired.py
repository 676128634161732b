"""Paired tests against scipy's, by enumeration, and on models whose difference is known."""

import math

import numpy as np
import pytest
from scipy import stats

from hidden_context.statistics.explained import explained_moments, explained_variance_of_sums
from hidden_context.statistics.interval import cluster_interval, cluster_sums, ratio
from hidden_context.statistics.significance.paired import mcnemar_test, paired_difference


def first_share(totals):
    return ratio(totals[..., [0, 2]])


def second_share(totals):
    return ratio(totals[..., [1, 2]])


# 40 pairs that both rank right, 5 the first alone, 14 the second alone, 20 neither
FIRST = np.repeat([1.0, 1.0, 0.0, 0.0], [40, 5, 14, 20])
SECOND = np.repeat([1.0, 0.0, 1.0, 0.0], [40, 5, 14, 20])
# twelve pairs in four clusters: three for the second model, one for the first
GAIN = np.array([1, 1, 1, 0, 1, 0, 1, -1, 1, -1, -1, 0])


@pytest.mark.parametrize(
    ("first", "second", "cluster", "surplus", "p_value", "limit"),
    [
        (FIRST, SECOND, None, 9, stats.binomtest(14, 19).pvalue, "pairs are independent"),
        (SECOND, FIRST, None, -9, stats.binomtest(5, 19).pvalue, "counts pairs"),
        (FIRST, FIRST, None, 0, 1.0, "counts pairs"),
        # a tie is better than wrong and worse than right
        ([0.5, 0.5, 0.5, 0.5, 1.0], [1, 1, 0, 0.5, 0.5], None, 0, 1.0, "counts pairs"),
        (GAIN < 0, GAIN > 0, np.repeat(np.arange(4), 3), 2, 0.625, "counts clusters"),
    ],
)
def test_mcnemar_is_the_binomial_test_of_discordant_pairs(
    first, second, cluster, surplus, p_value, limit
):
    found = mcnemar_test(first, second, cluster)
    assert (found.statistic, found.p_value) == (surplus, pytest.approx(p_value))
    assert limit in found.limit
    assert (found.name, found.resamples) == ("mcnemar", 0)


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
    interval = cluster_interval(sums, lambda totals: second_share(totals) - first_share(totals))
    assert found.difference == interval
    assert found.p_value < 0.01


@pytest.mark.parametrize(("count", "tolerance"), [(40, 0.03), (8, 1e-6)])  # of few: all signs
def test_signs_against_the_permutation_test_of_scipy(count, tolerance):
    sums = clusters_of_four(0.05, 1, count)
    found = paired_difference(sums, first_share, second_share, resamples=9999)
    reference = stats.permutation_test(
        (sums[:, 0], sums[:, 1]),
        lambda a, b, axis=-1: (b - a).mean(axis),
        permutation_type="samples",
        n_resamples=9999,
        vectorized=True,
        rng=np.random.default_rng(0),
    )
    assert found.p_value == pytest.approx(reference.pvalue, abs=tolerance)


def test_equal_models_and_a_single_cluster():
    sums = clusters_of_four(0.1, 3)
    same = paired_difference(sums, first_share, first_share)
    assert (same.difference.estimate, same.p_value) == (0, 1)
    alone = paired_difference(sums[:1], first_share, second_share)
    assert math.isnan(alone.p_value)
    assert math.isnan(alone.difference.low)


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
