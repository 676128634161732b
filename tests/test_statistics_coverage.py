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
