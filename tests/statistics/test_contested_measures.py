"""Measures of contested items against each other, on the same resamples."""

from __future__ import annotations

import numpy as np
import pytest

from hidden_context.errors import ConfigError
from hidden_context.statistics import contested_measures
from hidden_context.statistics.agreement import auroc, diverging_auroc
from hidden_context.statistics.contested_measures import compare_measures


def world(size=600, groups=40, seed=0):
    """Items that are contested where a hidden score is high; two measures see it, one less well."""
    generator = np.random.default_rng(seed)
    hidden = generator.normal(size=size)
    sought = hidden + 0.7 * generator.normal(size=size) > 0.8
    scores = {
        "near_half": hidden + 1.5 * generator.normal(size=size),
        "sharp": hidden,
        "length": generator.normal(size=size),
    }
    return scores, sought, np.arange(size) % groups


def test_areas_and_differences_are_those_of_the_columns():
    scores, sought, cluster = world()
    found = {each.name: each for each in compare_measures(scores, sought, cluster)}
    areas = {name: auroc(values, sought) for name, values in scores.items()}
    for name, each in found.items():
        assert each.auroc.estimate == pytest.approx(areas[name])
        assert each.auroc.low < areas[name] < each.auroc.high
    sharp = found["sharp"]
    assert sharp.minus_near_half.estimate == pytest.approx(areas["sharp"] - areas["near_half"])
    assert sharp.minus_length.estimate == pytest.approx(areas["sharp"] - areas["length"])
    assert sharp.minus_near_half.low > 0.05
    assert found["near_half"].minus_near_half is None
    assert found["length"].minus_length is None
    # the same resamples: a difference is better known than its two sides
    width = [each.high - each.low for each in (sharp.minus_near_half, found["near_half"].auroc)]
    assert width[0] < 1.2 * width[1]


def test_the_interval_agrees_with_that_of_one_measure_alone():
    scores, sought, cluster = world()
    share = np.where(sought, 0.5, 0.9)
    alone = diverging_auroc(scores["sharp"], share, cluster, resamples=999)
    found = compare_measures({"sharp": scores["sharp"]}, sought, cluster)[0].auroc
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high), abs=0.008)


def test_no_difference_is_found_between_two_of_the_same_kind():
    outside = 0
    for seed in range(60):
        scores, sought, cluster = world(300, 30, seed)
        generator = np.random.default_rng(1000 + seed)
        scores["twin"] = scores["sharp"] + generator.normal(size=300)
        scores["near_half"] = scores["sharp"] + generator.normal(size=300)
        (twin,) = (
            each
            for each in compare_measures(scores, sought, cluster, resamples=300, seed=seed)
            if each.name == "twin"
        )
        outside += not twin.minus_near_half.low <= 0 <= twin.minus_near_half.high
    assert outside <= 9


def test_measures_that_say_nothing_are_left_out():
    scores, sought, cluster = world()
    scores |= {"same": np.ones(600), "unknown": np.full(600, np.nan)}
    del scores["length"]
    found = compare_measures(scores, sought, cluster)
    assert [each.name for each in found] == ["near_half", "sharp"]
    assert found[1].minus_length is None
    assert compare_measures(scores, np.zeros(600, dtype=bool)) == []
    assert compare_measures({}, sought) == []


def test_few_groups_have_no_interval():
    scores, sought, cluster = world()
    (first, *_) = compare_measures(scores, sought, cluster % 4)
    assert first.auroc.method == "none"
    assert np.isnan(first.auroc.low)


def test_of_very_many_items_a_sample_is_looked_at(monkeypatch):
    monkeypatch.setattr(contested_measures, "MOST", 400)
    scores, sought, cluster = world()
    (_, sharp, _) = compare_measures(scores, sought, cluster, resamples=100)
    assert sharp.auroc.estimate == pytest.approx(auroc(scores["sharp"], sought), abs=0.05)
    assert sharp.auroc.estimate != auroc(scores["sharp"], sought)


def test_shapes_have_to_fit():
    with pytest.raises(ConfigError, match="a score for each item"):
        compare_measures({"a": np.ones(3)}, np.ones(2, dtype=bool))
