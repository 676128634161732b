"""Krippendorff's α against published worked examples, closed forms and a resampling by hand."""

import itertools
import math

import numpy as np
import pytest

from hidden_context.statistics.votes.krippendorff import (
    alpha,
    mean_difference,
    rating_alpha,
)

# Krippendorff (2011): four observers, twelve units, five values, some missing
FOUR = [
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
]


def counts_of(rows: list[str]) -> np.ndarray:
    """Counts of each unit's values, in the order of the values."""
    cells = [row.split() for row in rows]
    values = sorted({cell for row in cells for cell in row} - {"."})
    return np.array(
        [[unit.count(value) for value in values] for unit in zip(*cells, strict=True)], float
    )


def test_published_examples():
    nominal = counts_of(["a a b b d c c c e d d a", "b a b b b c c c e d d d"])
    assert alpha(nominal).estimate == pytest.approx(0.692, abs=5e-4)
    binary = counts_of(["0 1 0 0 0 0 0 0 1 0", "1 1 1 0 0 1 0 0 0 0"])
    assert alpha(binary).estimate == pytest.approx(0.095, abs=5e-4)
    for metric, published in (("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)):
        found = alpha(counts_of(FOUR), metric=metric)
        assert found.estimate == pytest.approx(published, abs=5e-4), metric
        assert found.low < found.estimate < found.high
    pairs = [
        (unit, float(cell)) for row in FOUR for unit, cell in enumerate(row.split()) if cell != "."
    ]
    unit, value = zip(*pairs, strict=True)
    assert rating_alpha(unit, value).estimate == pytest.approx(0.849, abs=5e-4)


def test_rating_alpha_is_that_of_categories_and_does_not_move_with_unit_or_level():
    rng = np.random.default_rng(0)
    item = np.repeat(np.arange(50), 4)
    value = rng.integers(0, 4, 50)[item] + rng.integers(0, 3, 200)
    counts = np.stack([np.bincount(item, value == v, 50) for v in range(6)], axis=1)
    found = rating_alpha(item, value, resamples=199)
    same = alpha(counts, metric="interval", resamples=199)
    assert found.estimate == pytest.approx(same.estimate)
    assert found.low == pytest.approx(same.low)
    moved = rating_alpha(item, 1e6 + 0.01 * value, resamples=199)
    assert moved.estimate == pytest.approx(found.estimate, abs=1e-6)


def test_names_of_sides_mean_nothing_where_mirrored():
    rng = np.random.default_rng(1)
    first = rng.binomial(5, rng.beta(1, 1, 4000))
    counts = np.stack([first, np.zeros(4000), 5 - first], axis=1).astype(float)
    won = np.where((counts[:, 0] < counts[:, 2])[:, None], counts[:, ::-1], counts)
    plain, mirrored = alpha(counts, resamples=9), alpha(counts, mirrored=True, resamples=9)
    # a beta(1, 1) has an intraclass correlation of 1/3
    assert plain.estimate == pytest.approx(1 / 3, abs=0.02)
    assert mirrored.estimate == pytest.approx(plain.estimate, abs=1e-3)
    # where the winner is always called first, people seem to agree by chance
    assert alpha(won, resamples=9).estimate < 0.12
    assert alpha(won, mirrored=True, resamples=9).estimate == pytest.approx(mirrored.estimate)


def test_interval_is_over_groups():
    rng = np.random.default_rng(2)
    group = np.repeat(np.arange(40), 10)
    share = np.clip(rng.beta(0.5, 0.5, 40)[group] + 0.05 * rng.normal(size=400), 0, 1)
    first = rng.binomial(4, share)
    counts = np.stack([first, 4 - first], axis=1).astype(float)
    found = alpha(counts, group, resamples=999)
    drawn = []
    for _ in range(300):
        rows = np.concatenate([np.flatnonzero(group == g) for g in rng.integers(0, 40, 40)])
        drawn.append(alpha(counts[rows], np.zeros(400)).estimate)
    ends = np.quantile(drawn, [0.025, 0.975])
    np.testing.assert_allclose([found.low, found.high], ends, atol=0.04)
    item, value = np.repeat(np.arange(2), 2), np.repeat([1.0, 0.0], [2, 2])
    assert rating_alpha(item, value, np.array([5, 5, 9, 9])).estimate == 1.0


@pytest.mark.parametrize(
    "found",
    [
        alpha(np.array([[3.0, 0], [2, 0]])),
        alpha(np.array([[1.0, 0], [0, 1]])),
        rating_alpha([0, 0, 1, 1], [0.1, 0.1, 0.1, 0.1]),
        rating_alpha([0, 1, 2], [1.0, 2, 3]),
    ],
)
def test_nothing_to_disagree_about_gives_no_number(found):
    assert math.isnan(found.estimate)


def test_mean_difference_against_all_pairs():
    rng = np.random.default_rng(3)
    item, value = rng.integers(0, 9, 60), rng.normal(size=60)
    item[item == 4] = 5
    item[0] = 4  # alone on its item
    expected = [
        np.mean([abs(a - b) for a, b in itertools.combinations(value[item == number], 2)] or np.nan)
        for number in range(10)
    ]
    np.testing.assert_allclose(mean_difference(item, value, 10), expected)
