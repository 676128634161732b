"""The arithmetic of two benchmarks: votes that an order saves, and pairs that a model judges."""

import math

import numpy as np
import pytest
import relabel_judge
from people import next_votes

FRACTIONS = np.array(next_votes.FRACTIONS)


def test_votes_needed_are_found_between_batches():
    curve = 1 - FRACTIONS
    assert next_votes.votes_needed(curve, 0.5) == pytest.approx(0.5)
    assert next_votes.votes_needed(curve, 0.45) == pytest.approx(0.55)
    assert np.isnan(next_votes.votes_needed(curve, -0.1))
    bumpy = curve.copy()
    bumpy[6] = 0.9  # what was reached before counts
    assert next_votes.votes_needed(bumpy, 0.82) == pytest.approx(0.18)


def test_ratios_of_a_policy_that_needs_half_the_votes_are_a_half_in_every_group():
    items = np.array([10.0, 20.0, 5.0])
    slow = np.stack([np.outer(1 - FRACTIONS, items)] * 2, axis=1)
    fast = np.stack([np.outer(np.maximum(1 - 2 * FRACTIONS, 0), items)] * 2, axis=1)
    found = next_votes.ratios({"random": slow, "fast": fast}, items, "random", 0, draws=50)
    for level in ("0.2", "0.4", "0.6", "0.8"):
        np.testing.assert_allclose(found["random"][level], 1)
        np.testing.assert_allclose(found["fast"][level], 0.5, atol=0.03)


def test_the_largest_values_are_taken_one_by_one():
    left = np.array([2, 1, 3])
    taken = next_votes._largest(lambda step: np.array([5.0, 4.0, 3.0]) - step, left, 4)
    assert taken.tolist() == [2, 1, 1]


def row(number, first, second, label, lengths, objective="helpful"):
    """A judged pair; ``first`` and ``second`` are its preference where chosen was shown there."""
    answers = [{"preference": one} if one is not None else {} for one in (first, second)]
    both = None not in (first, second)
    entry = {"answers": answers} | ({"preference": (first + second) / 2} if both else {})
    return {
        "prompt": f"prompt {number}",
        "chosen": f"c{number}",
        "rejected": f"r{number}",
        "objective": objective,
        "label": label,
        "responses": ["x" * length for length in lengths],
        "annotations": [{"preference": 1.0}, entry],
    }


ROWS = [
    row(0, 0.9, 0.8, 0, (3, 2)),
    row(1, 0.9, 0.2, 1, (5, 4)),  # 0.55, the chosen response is the shorter one
    row(2, 0.7, 0.3, 0, (4, 4)),  # a tie in both respects
    row(3, 0.1, 0.2, 1, (1, 9)),
    row(4, 0.6, None, 0, (1, 2)),
    row(4, 0.5, 0.5, 0, (1, 2)),
]


def test_shares_are_those_of_a_count_by_hand():
    measured = relabel_judge.measure(ROWS)
    assert {name: one.estimate for name, one in measured.items()} == {
        "both orders": pytest.approx((1 + 1 + 0.5 + 0 + 0.5) / 5),
        "chosen shown first": pytest.approx((1 + 1 + 1 + 0 + 1 + 0.5) / 6),
        "chosen shown second": pytest.approx((1 + 0 + 0 + 0 + 0.5) / 5),
        "baseline: the longer response": pytest.approx((1 + 0 + 0.5 + 1 + 0 + 0) / 6),
        "baseline: the first of `responses`": pytest.approx(4 / 6),
        "decision changes with the order": pytest.approx(2 / 5),
        "abstains": pytest.approx(1 / 6),
    }
    interval = measured["baseline: the longer response"]
    assert interval.method == "bootstrap"
    assert 0 <= interval.low < interval.estimate < interval.high <= 1
    assert all(math.isfinite(one.low) for one in measured.values())


def test_as_many_pairs_of_each_objective_are_drawn_and_none_of_equal_texts():
    rows = [row(n, 1, 1, 0, (1, 1), ("helpful", "harmless")[n % 2]) for n in range(40)]
    rows += [{**rows[0], "rejected": rows[0]["chosen"]}] * 40
    drawn = relabel_judge.draw(rows, 15)
    assert {name: len(found) for name, found in drawn.items()} == {"helpful": 15, "harmless": 15}
    assert all(one["objective"] == name for name, found in drawn.items() for one in found)
    assert all(one["chosen"] != one["rejected"] for found in drawn.values() for one in found)
    assert relabel_judge.draw(rows, 15) == drawn
