"""The ground-truth benchmark: what its tabular fits must show, and a run of it at toy size."""

import json

import pytest
from ground_truth.fits import HEADS, measure, theorem_3_4
from ground_truth.ignorance import by_size_of_table, shared_context_share, shared_context_table

from hidden_context import heads
from hidden_context.worlds.tables import gaussian_independent, shared_factor


def test_heads_recover_what_they_can_express_and_nothing_else():
    probit, factor = heads.make("mean_and_variance"), heads.make("factor", num_factors=2)
    exact = measure(gaussian_independent(0), "probit", probit, 400, 0)
    assert exact["probability_error"] < 1e-5
    assert exact["r2_error"] < 0.01
    assert exact["variance_spearman"] > 0.999
    paper = heads.make("mean_and_variance", likelihood="logistic")
    assert measure(gaussian_independent(0), "logistic", paper, 400, 0)["r2_error"] > 0.05
    shared = measure(shared_factor(0), "factor", factor, 400, 0)
    assert shared["probability_error"] < 0.001
    assert shared["shared_share"] == pytest.approx(shared["true_shared_share"], abs=0.05)
    assert measure(shared_factor(0), "probit", probit, 400, 0)["probability_error"] > 0.02


def test_no_head_tells_the_worlds_of_theorem_3_4_apart():
    for record in theorem_3_4(0, judgements=4000):
        assert record["head"] in HEADS
        assert record["gap_in_standard_errors"] < 3
        assert record["first"] == pytest.approx(0.5, abs=0.03)


def test_ignorance_falls_and_shared_context_stays():
    few, many = by_size_of_table((260, 1500), 1, members=8, progress=lambda line: None)
    assert few["true_shared_context"] == shared_context_share(shared_context_table(1))
    assert many["ignorance"] < few["ignorance"] / 2
    low, high = few["shared_context_interval"]
    assert low < many["shared_context"] < high
    assert low < few["true_shared_context"] < high
    assert high - low < 0.4


def test_a_toy_run_writes_every_record_and_draws(script, tmp_path):
    output, figure = tmp_path / "results.json", tmp_path / "figure.svg"
    printed = script(
        "ground_truth/run.py",
        *("--parts", "text,ignorance", "--size", "toy", "--seeds", "1", "--worlds", "camps"),
        *("--heads", "base;factor, annotators known"),
        *("--output", output, "--figure", figure),
    )
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
    assert "### text, camps" in printed
    assert figure.read_text().startswith("<?xml")
