"""The ground-truth benchmark: what its tabular fits must show, and a run of it at toy size."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hidden_context import heads

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_probit_returns_the_true_share_of_explained_variance():
    from ground_truth_fits import measure
    from ground_truth_tabular import gaussian_independent

    world = gaussian_independent(0)
    exact = measure(world, "probit", heads.make("mean_and_variance"), 400, 0)
    assert exact["probability_error"] < 1e-5
    assert exact["r2_error"] < 0.01
    assert exact["variance_spearman"] > 0.999
    paper = heads.make("mean_and_variance", likelihood="logistic")
    assert measure(world, "logistic", paper, 400, 0)["r2_error"] > 0.05


def test_factors_recover_a_shared_context_and_its_share():
    from ground_truth_fits import measure
    from ground_truth_tabular import shared_factor

    world = shared_factor(0)
    found = measure(world, "factor", heads.make("factor", num_factors=2), 400, 0)
    assert found["probability_error"] < 0.001
    assert found["shared_share"] == pytest.approx(found["true_shared_share"], abs=0.05)
    independent = measure(world, "probit", heads.make("mean_and_variance"), 400, 0)
    assert independent["probability_error"] > 0.02


def test_no_head_tells_the_worlds_of_theorem_3_4_apart():
    from ground_truth_fits import HEADS, theorem_3_4

    for record in theorem_3_4(0, judgements=4000):
        assert record["head"] in HEADS
        assert record["gap_in_standard_errors"] < 3
        assert record["first"] == pytest.approx(0.5, abs=0.03)


def test_ignorance_falls_and_shared_context_stays():
    from ground_truth_ignorance import SharedContextTable, by_size_of_table

    few, many = by_size_of_table((260, 1500), [1], members=8, progress=lambda line: None)
    assert few["true_shared_context"] == SharedContextTable(1).shared_context_share
    assert many["ignorance"] < few["ignorance"] / 2
    low, high = few["shared_context_interval"]
    assert low < many["shared_context"] < high
    assert low < few["true_shared_context"] < high
    assert high - low < 0.4


def test_a_toy_run_writes_every_record_and_draws(tmp_path):
    output, figure = tmp_path / "results.json", tmp_path / "figure.svg"
    command = [
        sys.executable,
        str(BENCHMARKS / "ground_truth.py"),
        *("--parts", "text,ignorance", "--size", "toy", "--seeds", "1", "--worlds", "camps"),
        *("--heads", "base;factor, annotators known"),
        *("--output", str(output), "--figure", str(figure)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(output.read_text())
    assert [record["head"] for record in found["text"]] == ["base", "factor, annotators known"]
    for record in found["text"]:
        assert 0 < record["probability_error"] < 0.5
        assert 0 <= record["calibration"] < 0.5
        assert record["nll"] < 1
    known = found["text"][1]
    shares = [known[f"{part}_share"] for part in ("shared_context", "noise", "ignorance")]
    assert sum(shares) == pytest.approx(1)
    for table in ("ignorance", "ignorance_table"):
        assert [record["pairs"] for record in found[table]] == [100, 400]
    assert "### text, camps" in done.stdout
    assert figure.read_text().startswith("<?xml")
