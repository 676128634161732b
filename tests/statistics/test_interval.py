"""Intervals by cluster and by groups and annotators, r², and paired models: closed forms, SciPy."""

import math

import numpy as np
import pytest
from scipy import stats

from hidden_context.statistics import interval
from hidden_context.statistics.evaluation.judgement_metrics import explained_variance
from hidden_context.statistics.interval import (
    Interval,
    cluster_interval,
    cluster_sums,
    explained_moments,
    explained_variance_of_sums,
    influence,
    ratio,
    within_moments,
    within_variance_of_sums,
)
from hidden_context.statistics.means import ItemMeans, two_way_interval
from hidden_context.statistics.significance.permutation import mcnemar_test, paired_difference


def _sums(values, cluster=None):
    values = np.asarray(values, dtype=float)
    cluster = np.arange(len(values)) if cluster is None else np.asarray(cluster)
    return cluster_sums(np.stack([values, np.ones_like(values)], axis=1), cluster)


def test_sums_are_by_cluster_and_leave_out_numbers_that_do_not_occur():
    values = np.array([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]])
    assert cluster_sums(values, np.array([3, 0, 3])).tolist() == [[2.0, 20.0], [5.0, 50.0]]


def test_the_bootstrap_is_scipy_s_of_the_same_mean():
    values = np.random.default_rng(0).exponential(size=60)
    ours = cluster_interval(_sums(values), ratio, resamples=1500, seed=4)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=1500, method="BCa", rng=np.random.default_rng(4)
    ).confidence_interval
    assert (ours.method, ours.estimate) == ("bootstrap", pytest.approx(values.mean()))
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    # rows of a cluster move together
    copied = _sums(np.repeat(values, 8), np.repeat(np.arange(60), 8))
    again = cluster_interval(copied, ratio, resamples=1500, seed=4)
    assert (again.low, again.high) == pytest.approx((ours.low, ours.high))
    for_rows = cluster_interval(_sums(np.repeat(values, 8)), ratio)
    assert for_rows.high - for_rows.low < 0.5 * (ours.high - ours.low)


def test_the_delta_method_is_normal_on_the_line_and_on_logits_between_bounds(monkeypatch):
    monkeypatch.setattr(interval, "EXACT_UP_TO", 100)
    right = np.r_[np.ones(990), np.zeros(10)]
    error = right.std(ddof=1) / math.sqrt(1000)
    line = cluster_interval(_sums(right), ratio)
    reach = stats.norm.ppf(0.975) * error
    assert line.method == "delta"
    assert (line.low, line.high) == pytest.approx((0.99 - reach, 0.99 + reach))
    found = cluster_interval(_sums(right), ratio, bounds=(0, 1))
    logit, slope = math.log(0.99 / 0.01), 1 / (0.99 * 0.01)
    ends = [1 / (1 + math.exp(-(logit + s * 1.959964 * error * slope))) for s in (-1, 1)]
    assert (found.low, found.high) == pytest.approx(ends, rel=1e-5)
    wide = cluster_interval(_sums(right), ratio, bounds=(-1, 1))
    assert 0.97 < wide.low < 0.99 < wide.high < 1


def test_a_share_all_of_one_kind_has_wilson_s_interval():
    found = cluster_interval(_sums(np.zeros(20)), ratio, bounds=(0, 1))
    assert found == Interval(0.0, 0.0, pytest.approx(0.1611, abs=1e-4), 0.95, "wilson")
    assert interval.Resampling().share(np.zeros(20), np.arange(20)) == found


def test_no_interval_from_a_few_clusters_or_no_value():
    alone = cluster_interval(_sums([1.0, 0.0, 2.0, 1.0]), ratio)
    nothing = {"low": None, "high": None, "level": 0.95, "method": "none"}
    assert alone.to_dict() == {"estimate": 1.0, **nothing}
    assert cluster_interval(np.zeros((6, 2)), ratio).to_dict() == {"estimate": None, **nothing}
    same = cluster_interval(_sums([2.0] * 6), ratio)
    assert (same.low, same.high) == (2.0, 2.0)
    means = ItemMeans(np.arange(6))
    assert means.of(np.full(6, np.nan)).to_dict() == {"estimate": None, **nothing}
    endless = means.of(np.array([1.0, np.inf, 1, 1, 1, 1]))
    assert (endless.estimate, math.isnan(endless.low)) == (math.inf, True)


def test_influence_is_the_change_when_a_cluster_counts_a_little_more():
    generator = np.random.default_rng(3)
    texts = explained_moments(generator.normal(size=40), generator.exponential(size=40))
    pull = influence(texts, explained_variance_of_sums)
    assert pull.sum() == pytest.approx(0, abs=1e-9)
    more = texts.sum(0) + 1e-6 * texts[7]
    change = explained_variance_of_sums(more) - explained_variance_of_sums(texts.sum(0))
    # r² does not depend on the number of texts, so the mean row alone changes nothing
    assert pull[7] == pytest.approx(float(change) / 1e-6, rel=1e-3)


def test_moments_of_texts_give_the_explained_variance_and_differences_that_within_prompts():
    generator = np.random.default_rng(7)
    mean, variance = generator.normal(5, 2, size=100), generator.exponential(size=100)
    found = explained_variance_of_sums(explained_moments(mean, variance).sum(0))
    assert found == pytest.approx(explained_variance(mean, variance))
    assert math.isnan(explained_variance_of_sums(np.array([2.0, 0.0, 0.0, 0.0])))
    level = generator.normal(scale=10, size=5000)
    a, b = (level + generator.normal(scale=2, size=5000) for _ in range(2))
    found = within_variance_of_sums(within_moments(a - b, np.full(5000, 2 * 3.0)).sum(0))
    assert found == pytest.approx(4 / 7, abs=0.02)  # 2·4 / (2·4 + 2·3)
    assert math.isnan(within_variance_of_sums(np.zeros(2)))


def table(groups, annotators, seed=0, noise=0.0):
    """Votes of every annotator on every group: what is of either, and noise."""
    generator = np.random.default_rng(seed)
    of_group, of_annotator = generator.normal(size=groups), 0.5 * generator.normal(size=annotators)
    group, annotator = np.divmod(np.arange(groups * annotators), annotators)
    values = of_group[group] + of_annotator[annotator]
    values = values + noise * generator.normal(size=len(values))
    return values, group, annotator, of_group, of_annotator


def test_two_ways_of_an_additive_table_have_a_closed_form():
    # the mean of a resample is the two resampled means, added
    values, group, annotator, of_group, of_annotator = table(40, 60)
    found = two_way_interval(values, group, annotator, resamples=4000)
    assert found.estimate == pytest.approx(of_group.mean() + of_annotator.mean())
    error = math.sqrt(of_group.var() / 40 + of_annotator.var() / 60)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.06)
    assert found.method == "two-way"


def test_votes_weigh_and_order_plays_no_part():
    values, group, annotator, _, _ = table(8, 7, seed=1, noise=1.0)
    weight = np.random.default_rng(2).integers(0, 3, size=len(values)).astype(float)
    found = two_way_interval(values, group, annotator, weight=weight)
    assert found.estimate == pytest.approx(np.average(values, weights=weight))
    order = np.random.default_rng(3).permutation(len(values))
    again = two_way_interval(
        values[order], 3 * group[order], annotator[order], weight=weight[order]
    )
    assert (again.low, again.high) == pytest.approx((found.low, found.high))


def test_two_ways_cover_the_truth_where_groups_and_annotators_are_drawn():
    covered = 0
    for seed in range(150):
        values, group, annotator, _, _ = table(25, 25, seed=seed, noise=1.0)
        found = two_way_interval(values, group, annotator, resamples=300, seed=seed)
        covered += found.low <= 0 <= found.high
    assert 0.88 <= covered / 150 <= 0.99


def test_few_groups_or_annotators_give_no_interval():
    values, group, annotator, _, _ = table(4, 10)
    assert two_way_interval(values, group, annotator).method == "none"
    assert two_way_interval(values, annotator, group).method == "none"


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


@pytest.mark.parametrize(("count", "tolerance"), [(40, 0.03), (8, 1e-6)])  # of few: all signs
def test_difference_of_shares_and_the_permutation_test_of_scipy(count, tolerance):
    sums = clusters_of_four(0.05, 1, count)
    found = paired_difference(sums, first_share, second_share, resamples=9999)
    assert found.first == pytest.approx(sums[:, 0].mean() / 4)
    assert found.difference == cluster_interval(
        sums, lambda totals: second_share(totals) - first_share(totals), resamples=9999
    )
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
