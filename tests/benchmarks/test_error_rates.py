"""Intervals cover and tests reject as often as they say; the full table is the benchmark's.

And the arithmetic of two benchmarks: votes that an order saves, and pairs that a model judges.
"""

import json
import math
from functools import partial

import numpy as np
import pytest
import relabel_judge
from error_rates.intervals import coverage, intervals, rejections, truths
from error_rates.trials import NullTrials, PowerTrials, draw_pairs
from error_rates.votes import MT_BENCH, UKP, Sizes, VoteTrials, draw_votes, intervals_hold
from people import next_votes
from scipy import stats

from hidden_context.statistics.votes.krippendorff import alpha


def differs(count, total, share):
    """Whether a count is what hardly one in ten thousand data sets would give."""
    return stats.binomtest(count, total, share).pvalue < 1e-4


def test_truths_are_those_of_the_simulated_world():

    true = truths()
    found = intervals(draw_pairs(8000, np.random.default_rng(0)))
    assert found["r²"].method == "delta"
    for name, interval in found.items():
        if name != "ECE, calibrated":
            reach = (interval.high - interval.low) / 2
            assert abs(interval.estimate - true[name]) < 2.5 * reach, name
    assert found["ECE, calibrated"].low == 0
    assert true["accuracy"] == pytest.approx(0.5 + np.arctan(1 / 0.6) / np.pi, abs=0.02)


@pytest.mark.slow
def test_intervals_cover():

    rows = coverage(100, 60, progress=lambda line: None)
    assert len(rows) == 8
    for row in rows:
        assert not differs(row["count"], 60, 0.95), row
        assert row["mean_width"] > 0


def test_tests_keep_their_level_and_find_two_objectives():

    rows = list(rejections("null", NullTrials(200, 99).all(), 60, progress=lambda line: None))
    assert len(rows) == 10
    for row in rows:  # exact tests may reject too seldom, no test too often
        assert stats.binomtest(row["count"], 60, 0.05, "greater").pvalue > 1e-4, row
    two = {"two objectives": PowerTrials(1000, 99).two}
    (row,) = rejections("power", two, 10, progress=lambda line: None)
    assert row["share"] >= 0.9


def test_votes_are_drawn_as_their_shape_says():

    for shape, votes, equal, agreement in (
        (UKP, 84_466, 0.226, 0.27),
        (MT_BENCH, 3_336, 0.24, 0.39),
    ):
        table = draw_votes(shape, Sizes(), np.random.default_rng(0)).table
        assert len(table) == pytest.approx(votes, rel=0.02)
        assert (table.share == 0.5).mean() == pytest.approx(equal, abs=0.02)
        found = alpha(table.counts.whole, mirrored=True, resamples=1).estimate
        assert found == pytest.approx(agreement, abs=0.04)
        assert table.is_first_answer.all()


def test_tests_of_annotators_keep_their_level_and_find_differences():

    trials = VoteTrials(MT_BENCH, 99)
    alike = {"within": trials.answers, "across": partial(trials.answers, across=True)}
    for row in rejections("alike", alike, 80, progress=lambda line: None):
        assert stats.binomtest(row["count"], 80, 0.05, "greater").pvalue > 1e-4, row
    differ = {
        "readiness": partial(trials.answers, sizes=Sizes(readiness=0.5), across=True),
        "sharpness": partial(trials.answers, sizes=Sizes(sharpness=1.0)),
        "taste": partial(trials.answers, sizes=Sizes(taste=1.0), feature=True, across=True),
    }
    for row in rejections("different", differ, 10, progress=lambda line: None):
        assert row["share"] >= 0.9, row


def test_posterior_intervals_of_annotators_hold_the_truth():

    counts = {}
    for number in range(6):
        for name, found in intervals_hold(MT_BENCH, Sizes(0.5, 0.3, 0.3, 0.3), number).items():
            counts[name] = counts.get(name, np.zeros(5)) + found
    for name, (people, inside, clear, wrong, said) in counts.items():
        assert people == 6 * 65
        # answers are not made by a tilt, and few people have many votes: somewhat below 95 %
        assert 0.88 < inside / people <= 1, name
        assert wrong <= 0.05 * clear + 2, name
        assert said <= 0.05 * clear + 1, name
    assert counts["readiness"][2] > 60


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "parts"),
    [
        (
            "votes",
            [f"--{name}_sets=1" for name in ("data", "level", "power", "interval")],
            (8, 20, 12),
        ),
        (
            "intervals",
            ["--data_sets=2", "--prompts=20", "--pairs=60", "--power_pairs=100"],
            (8, 10, 2, 4),
        ),
    ],
)
def test_the_scripts_print_a_table_and_write_it(script, tmp_path, name, options, parts):
    output = tmp_path / "folder" / "rows.json"
    printed = script(f"error_rates/{name}.py", *options, "--resamples=19", "--output", output)
    rows = json.loads(output.read_text())["rows"]
    assert len(rows) == sum(parts)
    assert len(printed.split("| part |")[1].strip().splitlines()) == 2 + len(rows)
    if name == "intervals":
        assert all(row["data_sets"] == 2 for row in rows)


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
