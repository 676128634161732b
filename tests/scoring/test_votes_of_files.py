"""Evaluations held against their votes: the same numbers as an analysis of the same file."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from hidden_context import heads
from hidden_context.analysis import score_analysis
from hidden_context.analysis.config import AnalyzeConfig
from hidden_context.cli.main import main
from hidden_context.likelihood import make_likelihood
from hidden_context.scoring.evaluation import votes_of_file
from support.builders import preference_rows
from support.paper_layout import one_thread, reward_checkpoint, write_rows

__all__ = ["one_thread"]

BASE = make_likelihood(heads.make("base"))


def voted(rows, people=4, seed=0):
    generator = np.random.default_rng(seed)
    for row in rows:
        row["annotations"] = [
            {"annotator": f"a{n}", "preference": float(generator.choice([0, 0.5, 1]))}
            for n in range(people)
        ]
    return rows


def scored(rows, seed=1):
    generator = np.random.default_rng(seed)
    for row in rows:
        row["reward_output_chosen"] = [float(generator.normal())]
        row["reward_output_rejected"] = [float(generator.normal())]
    return rows


def test_it_agrees_with_an_analysis_of_the_same_file(tmp_path):
    path = tmp_path / "scores.jsonl"
    write_rows(path, scored(voted(preference_rows(40))))
    found = votes_of_file(path, BASE)
    config = AnalyzeConfig(files=[str(path)], resamples=1000, head="base")
    (analysis,) = score_analysis.run(config).analyses
    assert found == analysis.votes.metrics
    assert found.votes == 160
    assert found.annotators == 4


def test_rated_texts_and_rows_without_rewards_are_left_out(tmp_path):
    path = tmp_path / "scores.jsonl"
    rows = scored(voted(preference_rows(12)))
    rows[3]["reward_output_chosen"] = None
    rated = {"text": "Tea.", "ratings": [{"rating": 3}], "reward_output": [0.5]}
    write_rows(path, [rated, *rows])
    found = votes_of_file(path, BASE)
    assert (found.items, found.votes) == (11, 44)
    write_rows(path, [rated])
    assert votes_of_file(path, BASE) is None
    write_rows(path, scored(preference_rows(4)))
    assert votes_of_file(path, BASE) is None


def test_votes_of_one_annotator_each_are_put_together_over_rows(tmp_path):
    path = tmp_path / "scores.jsonl"
    row = {**preference_rows(1)[0], "reward_output_chosen": [1.0], "reward_output_rejected": [0.0]}
    turned = {
        **row,
        "chosen": row["rejected"],
        "rejected": row["chosen"],
        "reward_output_chosen": [0.0],
        "reward_output_rejected": [1.0],
    }
    write_rows(path, [{**row, "annotator": "a"}, {**turned, "annotator": "b"}])
    found = votes_of_file(path, BASE)
    assert (found.items, found.votes, found.several) == (1, 2, 1)
    p = 1 / (1 + math.exp(-1))
    losses = {row.name: row.two_way.estimate for row in found.loss}
    assert losses["model"] == pytest.approx(-(math.log(p) + math.log(1 - p)) / 2)
    assert losses["floor"] == pytest.approx(math.log(2))
    assert found.disagreement.observed.estimate == 1


def test_evaluate_prints_and_writes_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_rows("pairs.jsonl", voted(preference_rows(8)))
    folder = reward_checkpoint("factors/final", "factor", num_factors=1)
    assert main(["evaluate", folder, "--data_path=pairs.jsonl", "--disable_tqdm"]) == 0
    printed = capsys.readouterr().out
    path = f"{folder}/eval_results_both.jsonl.metrics.json"
    votes = json.loads((tmp_path / path).read_text())["votes"]
    assert (votes["items"], votes["votes"], votes["annotators"]) == (8, 32, 4)
    assert "32 votes on 8 pairs, 8 with several" in printed
    loss = {row["name"]: row["two_way"]["estimate"] for row in votes["loss"]}
    assert f"{loss['floor']:.4f}" in printed
    assert loss["floor"] < loss["model"]
    assert printed.endswith("eval_results_both.jsonl: 8 of 8 rows written\n")
