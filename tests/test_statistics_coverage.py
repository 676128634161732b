"""Intervals cover and tests reject as often as they say; the full table is the benchmark's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def differs(count, total, share):
    """Whether a count is what hardly one in ten thousand data sets would give."""
    return stats.binomtest(count, total, share).pvalue < 1e-4


def test_truths_are_those_of_the_simulated_world():
    from statistics_coverage import intervals, truths
    from statistics_trials import draw_pairs

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
    from statistics_coverage import coverage

    rows = coverage(100, 60, progress=lambda line: None)
    assert len(rows) == 8
    for row in rows:
        assert not differs(row["count"], 60, 0.95), row
        assert row["mean_width"] > 0


def test_tests_keep_their_level_and_find_two_objectives():
    from statistics_coverage import rejections
    from statistics_trials import NullTrials, PowerTrials

    trials = NullTrials(200, 99).all()
    rows = list(rejections("null", trials, 60, progress=lambda line: None))
    assert len(rows) == 10
    for row in rows:  # exact tests may reject too seldom, no test too often
        assert stats.binomtest(row["count"], 60, 0.05, "greater").pvalue > 1e-4, row
    two = {"two objectives": PowerTrials(1000, 99).two}
    (row,) = rejections("power", two, 10, progress=lambda line: None)
    assert row["share"] >= 0.9


def test_votes_are_drawn_as_their_shape_says():
    from statistics_votes import MT_BENCH, UKP, Sizes, draw_votes

    from hidden_context.statistics.krippendorff import alpha

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
    from statistics_coverage import rejections
    from statistics_votes import MT_BENCH, Sizes, VoteTrials

    trials = VoteTrials(MT_BENCH, 99)
    alike = {"within": trials.within, "across": trials.across}
    for row in rejections("alike", alike, 80, progress=lambda line: None):
        assert stats.binomtest(row["count"], 80, 0.05, "greater").pvalue > 1e-4, row
    differ = {
        "readiness": lambda n: trials.across(n, Sizes(readiness=0.5)),
        "sharpness": lambda n: trials.within(n, Sizes(sharpness=1.0)),
        "taste": lambda n: trials.across(n, Sizes(taste=1.0), feature=True),
    }
    for row in rejections("different", differ, 10, progress=lambda line: None):
        assert row["share"] >= 0.9, row


def test_posterior_intervals_of_annotators_hold_the_truth():
    from statistics_votes import MT_BENCH, Sizes, intervals_hold

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
def test_the_script_of_votes_prints_a_table_and_writes_it(tmp_path):
    output = tmp_path / "folder" / "votes.json"
    sets = ("data_sets", "level_sets", "power_sets", "interval_sets")
    options = [word for name in sets for word in (f"--{name}", "1")]
    script = str(BENCHMARKS / "statistics_votes.py")
    command = [sys.executable, script, *options, "--resamples", "19", "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads(output.read_text())["rows"]
    assert len(rows) == 8 + 20 + 12
    assert len(done.stdout.split("| part |")[1].splitlines()) == 2 + len(rows)


@pytest.mark.slow
def test_the_script_prints_a_table_and_writes_it(tmp_path):
    output = tmp_path / "folder" / "coverage.json"
    options = ["--data_sets", "2", "--prompts", "20", "--pairs", "60", "--power_pairs", "100"]
    script = str(BENCHMARKS / "statistics_coverage.py")
    command = [sys.executable, script, *options, "--resamples", "39", "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(output.read_text())
    assert len(found["rows"]) == 8 + 10 + 2 + 4
    assert all(row["data_sets"] == 2 for row in found["rows"])
    table = done.stdout.split("| part |")[1].splitlines()
    assert len(table) == 2 + len(found["rows"])
