"""Intervals cover and tests reject as often as they say; the full table is the benchmark's."""

import json
from functools import partial

import numpy as np
import pytest
from error_rates.intervals import coverage, intervals, rejections, truths
from error_rates.trials import NullTrials, PowerTrials, draw_pairs
from error_rates.votes import MT_BENCH, UKP, Sizes, VoteTrials, draw_votes, intervals_hold
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

    trials = NullTrials(200, 99).all()
    rows = list(rejections("null", trials, 60, progress=lambda line: None))
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
