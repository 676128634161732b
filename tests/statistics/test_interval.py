from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from hidden_context.errors import ConfigError
from hidden_context.statistics import interval
from hidden_context.statistics.explained import (
    explained_moments,
    explained_variance_of_sums,
    within_moments,
    within_variance_of_sums,
)
from hidden_context.statistics.interval import (
    Interval,
    cluster_interval,
    cluster_sums,
    influence,
    ratio,
    stack_sums,
)
from hidden_context.statistics.variance import explained_variance


def _sums(values, cluster=None):
    values = np.asarray(values, dtype=float)
    cluster = np.arange(len(values)) if cluster is None else np.asarray(cluster)
    return cluster_sums(np.stack([values, np.ones_like(values)], axis=1), cluster)


def test_sums_are_by_cluster_and_leave_out_numbers_that_do_not_occur():
    values = np.array([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]])
    assert cluster_sums(values, np.array([3, 0, 3])).tolist() == [[2.0, 20.0], [5.0, 50.0]]
    with pytest.raises(ConfigError, match="at least one"):
        cluster_sums(np.empty((0, 2)), np.empty(0, dtype=int))
    with pytest.raises(ConfigError, match="3 and 2"):
        cluster_sums(values, np.array([0, 1]))


def test_the_bootstrap_is_scipy_s_of_the_same_mean():
    values = np.random.default_rng(0).exponential(size=60)
    ours = cluster_interval(_sums(values), ratio, resamples=1500, seed=4)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=1500, method="BCa", rng=np.random.default_rng(4)
    ).confidence_interval
    assert ours.method == "bootstrap"
    assert ours.estimate == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_the_delta_method_is_the_normal_interval_of_a_mean(monkeypatch):
    monkeypatch.setattr(interval, "EXACT_UP_TO", 100)
    values = np.random.default_rng(1).normal(3, 2, size=400)
    ours = cluster_interval(_sums(values), ratio)
    error = values.std(ddof=1) / 20
    assert ours.method == "delta"
    reach = stats.norm.ppf(0.975) * error
    assert (ours.low, ours.high) == pytest.approx((values.mean() - reach, values.mean() + reach))


def test_between_bounds_the_delta_method_works_on_logits(monkeypatch):
    monkeypatch.setattr(interval, "EXACT_UP_TO", 10)
    right = np.r_[np.ones(990), np.zeros(10)]
    found = cluster_interval(_sums(right), ratio, bounds=(0, 1))
    error = right.std(ddof=1) / math.sqrt(1000)
    logit, slope = math.log(0.99 / 0.01), 1 / (0.99 * 0.01)
    ends = [1 / (1 + math.exp(-(logit + s * 1.959964 * error * slope))) for s in (-1, 1)]
    assert (found.low, found.high) == pytest.approx(ends, rel=1e-5)
    wide = cluster_interval(_sums(right), ratio, bounds=(-1, 1))
    assert 0.97 < wide.low < 0.99 < wide.high < 1


def test_rows_of_a_cluster_move_together():
    values = np.random.default_rng(2).normal(size=50)
    alone = cluster_interval(_sums(values), ratio)
    copied = cluster_interval(_sums(np.repeat(values, 8), np.repeat(np.arange(50), 8)), ratio)
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high))
    for_rows = cluster_interval(_sums(np.repeat(values, 8)), ratio)
    assert for_rows.high - for_rows.low < 0.5 * (alone.high - alone.low)


def test_a_share_all_of_one_kind_has_wilson_s_interval():
    found = cluster_interval(_sums(np.zeros(20)), ratio, bounds=(0, 1))
    wilson = stats.binomtest(0, 20).proportion_ci(0.95, "wilson")
    assert found == Interval(0.0, wilson.low, wilson.high, 0.95, "wilson")
    assert found.high == pytest.approx(0.1611, abs=1e-4)


def test_no_interval_from_a_few_clusters_or_no_value():
    alone = cluster_interval(_sums([1.0, 0.0, 2.0, 1.0]), ratio)
    assert alone.method == "none"
    assert alone.to_dict() == {
        "estimate": 1.0,
        "low": None,
        "high": None,
        "level": 0.95,
        "method": "none",
    }
    nothing = cluster_interval(np.zeros((6, 2)), ratio)
    assert math.isnan(nothing.estimate)
    assert nothing.to_dict()["estimate"] is None
    same = cluster_interval(_sums([2.0] * 6), ratio)
    assert (same.low, same.high) == (2.0, 2.0)


@pytest.mark.parametrize(
    ("sums", "options", "message"),
    [
        (np.ones((3, 2)), {"level": 1.0}, "level is 1.0"),
        (np.ones((0, 2)), {}, "at least one cluster"),
        (np.ones(3), {}, "at least one cluster"),
    ],
)
def test_what_cannot_be_an_interval_is_refused(sums, options, message):
    with pytest.raises(ConfigError, match=message):
        cluster_interval(sums, ratio, **options)


def test_influence_is_the_change_when_a_cluster_counts_a_little_more():
    generator = np.random.default_rng(3)
    texts = explained_moments(generator.normal(size=40), generator.exponential(size=40))
    pull = influence(texts, explained_variance_of_sums)
    assert pull.sum() == pytest.approx(0, abs=1e-9)
    more = texts.sum(0) + 1e-6 * texts[7]
    change = explained_variance_of_sums(more) - explained_variance_of_sums(texts.sum(0))
    # r² does not depend on the number of texts, so the mean row alone changes nothing
    assert pull[7] == pytest.approx(float(change) / 1e-6, rel=1e-3)


def test_both_methods_agree_where_there_are_many_clusters(monkeypatch):
    generator = np.random.default_rng(5)
    cluster = np.repeat(np.arange(800), 3)
    mean = generator.normal(size=800)[cluster] + generator.normal(size=2400)
    texts = explained_moments(mean, generator.exponential(size=2400))
    sums = cluster_sums(texts, cluster)
    bootstrap = cluster_interval(sums, explained_variance_of_sums, bounds=(0, 1))
    monkeypatch.setattr(interval, "EXACT_UP_TO", 10)
    delta = cluster_interval(sums, explained_variance_of_sums, bounds=(0, 1))
    assert bootstrap.estimate == delta.estimate
    width = bootstrap.high - bootstrap.low
    assert delta.low == pytest.approx(bootstrap.low, abs=0.06 * width)
    assert delta.high == pytest.approx(bootstrap.high, abs=0.06 * width)


def test_sums_of_two_models_stand_side_by_side():
    first, second = _sums([1.0, 2.0]), _sums([3.0, 4.0])
    assert stack_sums([first, second]).tolist() == [[1, 1, 3, 1], [2, 1, 4, 1]]


def test_moments_of_texts_give_the_explained_variance():
    generator = np.random.default_rng(7)
    mean, variance = generator.normal(5, 2, size=100), generator.exponential(size=100)
    found = explained_variance_of_sums(explained_moments(mean, variance).sum(0))
    assert found == pytest.approx(explained_variance(mean, variance))
    assert math.isnan(explained_variance_of_sums(np.array([2.0, 0.0, 0.0, 0.0])))


def test_within_prompts_only_differences_count():
    generator = np.random.default_rng(8)
    level = generator.normal(scale=10, size=5000)
    a, b = (level + generator.normal(scale=2, size=5000) for _ in range(2))
    found = within_variance_of_sums(within_moments(a - b, np.full(5000, 2 * 3.0)).sum(0))
    assert found == pytest.approx(4 / 7, abs=0.02)  # 2·4 / (2·4 + 2·3)
    assert math.isnan(within_variance_of_sums(np.zeros(2)))
