"""The two-way bootstrap: its width in closed form, its draws, and its coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hidden_context.errors import ConfigError
from hidden_context.statistics.two_way_bootstrap import two_way_interval


def table(groups, annotators, seed=0, noise=0.0):
    """Votes of every annotator on every group: what is of either, and noise."""
    generator = np.random.default_rng(seed)
    of_group, of_annotator = generator.normal(size=groups), 0.5 * generator.normal(size=annotators)
    group, annotator = np.divmod(np.arange(groups * annotators), annotators)
    values = of_group[group] + of_annotator[annotator]
    values = values + noise * generator.normal(size=len(values))
    return values, group, annotator, of_group, of_annotator


def test_an_additive_table_has_a_closed_form():
    # the mean of a resample is the two resampled means, added
    values, group, annotator, of_group, of_annotator = table(40, 60)
    found = two_way_interval(values, group, annotator, resamples=4000)
    assert found.estimate == pytest.approx(of_group.mean() + of_annotator.mean())
    error = math.sqrt(of_group.var() / 40 + of_annotator.var() / 60)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.06)
    assert found.method == "two-way"
    # over groups alone, with the annotators held fixed, it is narrower
    only = two_way_interval(of_group, np.arange(40), np.arange(40) % 5, resamples=4000)
    assert only.high - only.low != pytest.approx(found.high - found.low, rel=0.01)


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
    repeated = np.repeat(np.arange(len(values)), weight.astype(int))
    longer = two_way_interval(values[repeated], group[repeated], annotator[repeated])
    assert longer.estimate == pytest.approx(found.estimate)


def test_it_covers_the_truth_where_groups_and_annotators_are_drawn():
    covered = 0
    for seed in range(150):
        values, group, annotator, _, _ = table(25, 25, seed=seed, noise=1.0)
        found = two_way_interval(values, group, annotator, resamples=300, seed=seed)
        covered += found.low <= 0 <= found.high
    assert 0.88 <= covered / 150 <= 0.99


def test_few_groups_or_annotators_give_no_interval():
    values, group, annotator, _, _ = table(4, 10)
    assert two_way_interval(values, group, annotator).method == "none"
    assert math.isnan(two_way_interval(values, annotator, group).low)
    with pytest.raises(ConfigError, match="weight above 0"):
        two_way_interval(values, group, annotator, weight=np.zeros(len(values)))
    with pytest.raises(ConfigError, match="annotator numbers"):
        two_way_interval(values, group, annotator[1:])
