"""The measures of ``benchmarks/relabel_judge.py``, on rows whose shares are known."""

from __future__ import annotations

import math

import pytest
import relabel_judge


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
