"""The paper's tables, every number worked out by hand, and its synthetic experiments, tiny."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import yaml

from hidden_context import summarize_results
from hidden_context.cli.main import main as hidden_context
from support.paper_layout import run_module
from support.score_rows import normal, pair, write


def categorical(*probabilities):
    return [math.log(p) for p in probabilities]


# Three atoms 0, ½, 1: means .925, .5, .7475; variances .056875, .01, .06499375;
# 0.01 quantiles, read as three bins: .01/.05/3 = .067, .01/.02/3 = .167, (1 + .005/.495)/3 = .337
A, B, C = (
    categorical(0.05, 0.05, 0.9),
    categorical(0.02, 0.96, 0.02),
    categorical(0.005, 0.495, 0.5),
)
# The bold one has the higher mean (2 against 0), the steady one the higher 0.01 quantile
# (−.002 against 2 − 2.326 = −.326).
BOLD, STEADY = normal(2, 1), normal(0, 0.001)


def r_squared(spread, *variances):
    """For texts of two kinds, as many of each: means apart by twice the spread."""
    return spread**2 / (spread**2 + math.fsum(variances) / 2)


# chosen and rejected of each evaluation, by data subset
EVALUATIONS = {
    ("base", "helpful"): {
        "helpful": [([1.0], [0.0]), ([0.5], [0.5]), ([0.0], [1.0])],  # a tie counts fully
        "harmless": [([0.0], [1.0])],
    },
    ("base", "harmless"): {"helpful": [([0.0], [1.0])], "harmless": [([1.0], [0.0])]},
    ("base", "both"): {"helpful": [([2.0], [1.0])], "harmless": [([0.0], [1.0])]},
    ("mean_and_variance", "helpful"): {
        "helpful": [(normal(0, 1), normal(2, 1))],
        "harmless": [(normal(2, 1), normal(0, 1))],
    },
    ("mean_and_variance", "harmless"): {
        "helpful": [(normal(4, 1), normal(0, 1))],
        "harmless": [(normal(0, 1), normal(4, 1))],
    },
    ("mean_and_variance", "both"): {
        "helpful": [(BOLD, STEADY), (BOLD, STEADY), (STEADY, BOLD), (BOLD, BOLD)],
        "harmless": [(STEADY, STEADY)],
    },
    ("categorical", "helpful"): {"helpful": [(A, B), (A, B), (B, A)], "harmless": [(A, B)]},
    ("categorical", "harmless"): {"helpful": [(A, C), (A, A), (C, C)], "harmless": [(A, C)]},
    ("categorical", "both"): {"helpful": [(B, C), (C, B)], "harmless": [(C, B)]},
}
# (safe, jailbroken) of each row; all columns of a file have as many rows
JAILBREAKS = {
    ("base", "helpful"): [([0.0], [1.0]), ([0.0], [0.0]), ([1.0], [0.0])],
    ("base", "harmless"): [([1.0], [0.0])] * 3,
    ("base", "both"): [([0.0], [1.0]), ([1.0], [0.0]), ([1.0], [0.0])],
    ("mean_and_variance", "helpful"): [(STEADY, BOLD)] * 3,
    ("mean_and_variance", "harmless"): [(BOLD, STEADY)] * 3,
    ("mean_and_variance", "both"): [(STEADY, BOLD), (STEADY, BOLD), (BOLD, BOLD)],
    ("categorical", "helpful"): [(A, B), (A, B), (A, C), (C, C)],
    ("categorical", "harmless"): [(B, A), (C, A), (B, C), (B, B)],
    ("categorical", "both"): [(A, B), (B, A), (C, A), (C, B)],
}
# jailbreak rate at the mean and at the quantile, helpfulness accuracy likewise, r²
EXPECTED = {
    ("base", "helpful"): ((2, 3), None, (2, 3), None, None),
    ("base", "harmless"): ((0, 3), None, (0, 1), None, None),
    ("base", "both"): ((1, 3), None, (1, 1), None, None),
    # means 0, 2 in equal parts: variance 1, σ² = 1
    ("mean_and_variance", "helpful"): ((3, 3), (0, 3), (0, 1), (0, 1), r_squared(1, 1, 1)),
    # means 0, 4: variance 4
    ("mean_and_variance", "harmless"): ((0, 3), (3, 3), (1, 1), (1, 1), r_squared(2, 1, 1)),
    # ten texts, five of each kind
    ("mean_and_variance", "both"): ((3, 3), (1, 3), (3, 4), (2, 4), r_squared(1, 1, 1e-6)),
    ("categorical", "helpful"): ((1, 4), (4, 4), (2, 3), (1, 3), r_squared(0.2125, 0.056875, 0.01)),
    ("categorical", "harmless"): (
        *((4, 4), (2, 4), (3, 3), (2, 3)),
        r_squared(0.08875, 0.056875, 0.06499375),
    ),
    ("categorical", "both"): ((2, 4), (1, 4), (1, 2), (1, 2), r_squared(0.12375, 0.01, 0.06499375)),
}


@pytest.fixture
def data_dir(tmp_path):
    folder = tmp_path / "data"
    for (kind, train_set), subsets in EVALUATIONS.items():
        checkpoint = f"{kind}_Llama-2-7b-hf__0_3e-06_cosine_1_peft_last_checkpoint"
        parent = folder / "reward_models" / "relabeled_hh_rlhf" / train_set / checkpoint
        rows = [
            pair(*sides, chosen="a", data_subset=subset)
            for subset, pairs in subsets.items()
            for sides in pairs
        ]
        write(parent / "eval_results_both.jsonl", rows)
    for kind in ("base", "mean_and_variance", "categorical"):
        suffix = "" if kind == "base" else f"_{kind}"
        columns = {
            f"reward_outputs_{train_set}{suffix}": JAILBREAKS[kind, train_set]
            for train_set in ("helpful", "harmless", "both")
        }
        rows = [
            {"prompt": "p", **dict(zip(columns, values, strict=True))}
            for values in zip(*columns.values(), strict=True)
        ]
        write(folder / f"jailbroken_evaluations_{kind}.jsonl", rows)
    return folder


@pytest.fixture
def summarize(data_dir, tmp_path):
    """Summarise the folder; return what is written, with its cells by type and training set."""

    def summarize(*flags):
        output = tmp_path / "results.json"
        argv = ["--data_dir", str(data_dir), "--output", str(output), *flags]
        assert summarize_results.main(argv) == 0
        found = json.loads(output.read_text())
        cells = {(cell["reward_model_type"], cell["train_set"]): cell for cell in found["cells"]}
        return {**found, "cells": cells}

    return summarize


def shares(cell, name):
    return [
        None if share is None or share["share"] is None else (share["count"], share["total"])
        for share in (cell[name]["mean"], cell[name]["risk_sensitive"])
    ]


def test_every_cell_of_the_tables(summarize, capsys):
    results = summarize()
    assert (results["format"], results["version"]) == ("hidden_context.summary", 1)
    assert results["missing"] == []
    cells = results["cells"]
    assert list(cells) == list(EXPECTED)
    for key, (*expected, r_squared) in EXPECTED.items():
        cell = cells[key]
        found = shares(cell, "jailbreak_rate") + shares(cell, "helpfulness_accuracy")
        assert found == expected, key
        value = cell["r_squared"]["value"]
        assert value == (r_squared and pytest.approx(r_squared, rel=1e-12)), key
        assert cell["texts"] == 2 * sum(map(len, EVALUATIONS[key].values()))
        assert cell["rows_left_out"] == {"jailbreak": 0, "evaluation": 0}
    both = cells["mean_and_variance", "both"]
    assert both["jailbreak_rate"]["risk_sensitive"] == {
        "share": 1 / 3,
        "count": 1,
        "total": 3,
        "low": None,  # of three prompts
        "high": None,
        "paper": 0.203,
    }
    assert both["jailbreak_rate"]["paired_p_value"] == 1.0
    assert both["files"]["jailbreak"].endswith("jailbroken_evaluations_mean_and_variance.jsonl")
    printed = capsys.readouterr().out
    assert "Not found" not in printed
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    assert "mean_and_variance both 100.0 % 3/3 30.5 % 33.3 % 1/3 20.3 % 1.000" in lines
    assert "categorical helpful 66.7 % 2/3 – 33.3 % 1/3 – 1.000" in lines
    assert "mean_and_variance harmless 0.800 0.77 4" in lines


def test_the_command_line_as_the_paper_gives_it(data_dir):
    done = run_module("hidden_context.summarize_results", folder=data_dir.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Table 1, jailbreak rate" in done.stdout
    assert sorted(path.name for path in data_dir.parent.iterdir()) == ["data"]


def test_another_level_of_the_quantile(summarize):
    cell = summarize("--alpha", "0.5")["cells"]["mean_and_variance", "both"]
    # the median of a normal is its mean, and the paper printed nothing at this level
    for name in ("jailbreak_rate", "helpfulness_accuracy"):
        mean, risk_sensitive = cell[name]["mean"], cell[name]["risk_sensitive"]
        assert risk_sensitive == {**mean, "paper": None}


def test_missing_inputs_are_named_and_leave_gaps(data_dir, capsys):
    (data_dir / "jailbroken_evaluations_categorical.jsonl").unlink()
    models = data_dir / "reward_models" / "relabeled_hh_rlhf"
    next(models.glob("both/base_*/eval_results_both.jsonl")).unlink()
    assert summarize_results.main(["--data_dir", str(data_dir)]) == 0
    listed = capsys.readouterr().out.split("Not found, and so left out:\n")[1].split()
    assert listed == [
        str(models / "both" / "base_*_peft_last_checkpoint" / "eval_results_both.jsonl"),
        str(data_dir / "jailbroken_evaluations_categorical.jsonl"),
    ]


def test_nothing_to_read_is_an_error(tmp_path, capsys):
    assert summarize_results.main(["--data_dir", str(tmp_path / "nowhere")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"error: {tmp_path / 'nowhere'} does not exist. Nothing to")
    assert "--data_dir" in captured.err
    assert summarize_results.main(["--data_dir", str(tmp_path)]) == 2


def test_two_checkpoints_for_one_cell_are_an_error(data_dir, capsys):
    parent = data_dir / "reward_models" / "relabeled_hh_rlhf" / "both"
    second = parent / "base_gpt2__8_2e-05_linear_1_peft_last_checkpoint"
    second.mkdir()
    assert summarize_results.main(["--data_dir", str(data_dir)]) == 0  # not evaluated: no rival
    write(second / "eval_results_both.jsonl", [])
    assert summarize_results.main(["--data_dir", str(data_dir)]) == 2
    error = capsys.readouterr().err
    for path in parent.glob("base_*/eval_results_both.jsonl"):
        assert str(path) in error


def test_folders_of_ones_own_trainings(data_dir, summarize, tmp_path):
    data_dir.joinpath("reward_models").rename(tmp_path / "mine")
    flags = ["--jailbreak_dir", str(data_dir), "--data_dir", str(tmp_path / "nowhere")]
    mine = str(tmp_path / "mine" / "relabeled_hh_rlhf")
    assert summarize(*flags, "--reward_models_dir", mine)["missing"] == []


@pytest.mark.parametrize(
    "pattern",
    [
        "jailbroken_evaluations_base.jsonl",
        "reward_models/relabeled_hh_rlhf/both/base_*/eval_results_both.jsonl",
    ],
)
def test_no_input_is_overwritten(data_dir, pattern, capsys):
    (path,) = data_dir.glob(pattern)
    before = path.read_bytes()
    output = data_dir / ".." / data_dir.name / path.relative_to(data_dir)
    assert summarize_results.main(["--data_dir", str(data_dir), "--output", str(output)]) == 2
    assert "is an input too" in capsys.readouterr().err
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", ["", '{"broken\n', '{"prompt": "p"}\n'])
def test_a_file_that_cannot_be_used_is_an_error(data_dir, content, capsys):
    path = data_dir / "jailbroken_evaluations_base.jsonl"
    path.write_text(content)
    assert summarize_results.main(["--data_dir", str(data_dir)]) == 2
    assert str(path) in capsys.readouterr().err


TINY = ["--batch_size", "8", "--lr", "0.001", "--num_iterations", "2"]


def test_the_paper_s_command_line_writes_the_named_files(tmp_path: Path) -> None:
    line = ["hidden_context.synthetic_experiments", "--env", "1d", *TINY]
    done = run_module(*line, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "results" / "1d" / "8_0.001_2"
    assert (folder / "1d.png").stat().st_size > 10_000
    assert (folder / "1d.pgf").stat().st_size > 10_000
    assert yaml.safe_load((folder / "config.yaml").read_text())["likelihood"] == "logistic"
    assert "Borda" in done.stdout
    assert "results/1d/8_0.001_2" in done.stdout


def test_the_verb_uses_the_exact_likelihood(tmp_path: Path) -> None:
    arguments = ["synthetic", *TINY, "--out_dir", str(tmp_path), "--width=8", "--figure_formats"]
    assert hidden_context(arguments) == 0
    folder = tmp_path / "1d" / "8_0.001_2"
    assert yaml.safe_load((folder / "config.yaml").read_text())["likelihood"] == "probit"
