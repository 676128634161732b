from __future__ import annotations

import json
from pathlib import Path

import pytest

from hidden_context import evaluate_llm_preference_model
from hidden_context.cli.main import main
from support.builders import preference_rows
from support.paper_layout import (
    one_thread,
    read_rows,
    reward_checkpoint,
    write_relabeled,
    write_rows,
)

__all__ = ["one_thread"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_rows("pairs.jsonl", preference_rows(8))
    reward_checkpoint("run/final")
    return tmp_path


def test_it_prints_what_was_read_the_metrics_and_where_the_scores_lie(here, capsys):
    assert main(["evaluate", "run/final", "--data_path=pairs.jsonl", "--disable_tqdm"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("pairs.jsonl: 8 of 8 examples kept.\n")
    assert printed.endswith("run/final/eval_results_both.jsonl: 8 of 8 rows written\n")
    metrics = json.loads(Path("run/final/eval_results_both.jsonl.metrics.json").read_text())[
        "metrics"
    ]
    lines = [" ".join(line.replace("│", " ").split()) for line in printed.splitlines()]
    names = ("loss", "accuracy", "reward_mean", "reward_stddev", "r2")
    assert "all " + " ".join(f"{metrics[name]:.4f}" for name in names) in lines
    assert any(line.startswith("objective helpful ") for line in lines)


def test_the_causes_of_variance_are_printed_and_written(here, capsys):
    folder = reward_checkpoint("factors/final", "factor", num_factors=2)
    assert main(["evaluate", folder, "--data_path=pairs.jsonl", "--disable_tqdm"]) == 0
    printed = capsys.readouterr().out
    metrics = json.loads(Path(folder, "eval_results_both.jsonl.metrics.json").read_text())[
        "metrics"
    ]
    shares = [metrics[f"{cause}_share"] for cause in ("shared_context", "noise")]
    assert sum(shares) == pytest.approx(1)
    lines = [" ".join(line.replace("│", " ").split()) for line in printed.splitlines()]
    assert f"all {shares[0]:.1%} {shares[1]:.1%}" in lines
    assert "variance of the difference between two sides" in printed.replace("\n", " ")


def test_the_config_written_beside_the_results_gives_the_same_run(here):
    flags = ["--data_path=pairs.jsonl", "--eval_dataset_size=5", "--seed=3", "--disable_tqdm"]
    assert main(["evaluate", "run/final", *flags]) == 0
    results = Path("run/final/eval_results_both.jsonl")
    first = results.read_bytes()
    assert len(read_rows(results)) == 5
    results.unlink()
    assert main(["evaluate", "--config", "run/final/eval_results_both.jsonl.config.yaml"]) == 0
    assert results.read_bytes() == first


def test_the_config_of_the_paper_s_command_is_read_by_the_verb(here):
    write_relabeled("data", test=4)
    flags = ["--reward_model_checkpoint=run/final", "--data_path=data", "--data_subset=harmless"]
    assert evaluate_llm_preference_model.main([*flags, "--num_outputs=2", "--disable_tqdm"]) == 0
    results = Path("run/final/eval_results_harmless.jsonl")
    first = results.read_bytes()
    assert main(["evaluate", "--config", "run/final/eval_results_harmless.jsonl.config.yaml"]) == 0
    assert results.read_bytes() == first


def test_a_subset_names_the_file(here):
    flags = ["--data_path=pairs.jsonl", "--data_subset=helpful", "--disable_tqdm"]
    assert main(["evaluate", "run/final", *flags]) == 0
    rows = read_rows("run/final/eval_results_helpful.jsonl")
    assert [row["data_subset"] for row in rows] == ["helpful"] * 4


def test_malformed_rows_are_skipped_when_asked_for(here, capsys):
    with Path("pairs.jsonl").open("a") as file:
        file.write('{"chosen": 1}\n')
    flags = ["--data_path=pairs.jsonl", "--on_malformed=skip", "--disable_tqdm"]
    assert main(["evaluate", "run/final", *flags]) == 0
    printed = capsys.readouterr().out
    assert "8 of 9 examples kept (1 skipped as malformed). " in printed
    assert " Malformed: pairs.jsonl, line 9" in printed
