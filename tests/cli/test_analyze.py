from __future__ import annotations

import json
from pathlib import Path

import pytest

from hidden_context.cli.main import main

ROWS = [
    {"reward_output_chosen": [2.0, 0.0], "reward_output_rejected": [0.0, 0.0]},
    {"reward_output_chosen": [0.0, 0.0], "reward_output_rejected": [2.0, 0.0]},
]


@pytest.fixture
def scores(tmp_path):
    path = tmp_path / "scores.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return str(path)


def test_score_files_and_flags_in_any_order(scores, tmp_path, capsys):
    output = str(tmp_path / "analysis.json")
    assert main(["analyze", "--head", "mean_and_variance", scores, scores, "--output", output]) == 0
    saved = json.loads(Path(output).read_text())
    assert [a["file"] for a in saved["analyses"]] == [scores, scores]
    # means 0, 2 in equal parts: variance 1; σ² = log²2
    assert saved["analyses"][0]["groups"][0]["r2"] == pytest.approx(
        1 / (1 + 0.6931471805599453**2), abs=1e-12
    )
    flags = ["--risk", "cvar:0.05", "entropic:1", "--likelihood", "logistic"]
    assert main(["analyze", scores, *flags]) == 0
    printed = capsys.readouterr().out
    assert "accuracy cvar:0.05" in printed
    assert "(mean_and_variance, logistic)" in printed
    assert "a tie counts one half" in printed


def test_a_head_by_its_name_and_the_width(scores, capsys):
    flags = ["--head", "factor", "--risk", "relative_quantile:0.1"]
    assert main(["analyze", scores, *flags]) == 0
    printed = capsys.readouterr().out
    assert "pairs (factor)" in printed
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    assert "all 0.0 % 100.0 %" in lines  # of two numbers none is a loading
    assert main(["analyze", scores, "--risk", "relative_quantile:0.1"]) == 2
    assert "is of a mean_and_variance head" in capsys.readouterr().err


def test_without_files_it_prints_the_paper_s_tables(tmp_path, capsys):
    row = {"reward_outputs_both": [[0.0], [1.0]]}
    (tmp_path / "jailbroken_evaluations_base.jsonl").write_text(json.dumps(row) + "\n")
    assert main(["analyze", "--data_dir", str(tmp_path)]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "base both 100.0 % 1/1 25.1 % – – –" in lines


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["absent.jsonl"], "absent.jsonl does not exist"),
        (["SCORES", "--head", "base"], "but a base head writes 1"),
        (["SCORES", "--head", "sparse"], "'sparse' is not known"),
        (["SCORES", "--risk", "cvar:2"], "cvar"),
        (["SCORES", "--output", "SCORES/x.json"], "could not be written"),
        (["SCORES", "--output", "SCORES"], "is an input too"),
        (["SCORES", "--alpha", "0.05"], "use --alpha"),
        (["--likelihood", "logistic"], "use --likelihood"),
        (["--data_dir", "absent"], "absent does not exist"),
    ],
)
def test_bad_input_is_one_paragraph_and_code_2(scores, capsys, arguments, words):
    assert main(["analyze", *(a.replace("SCORES", scores) for a in arguments)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error


def test_help_is_there_without_any_file(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["analyze", "--help"])
    assert caught.value.code == 0
    assert "--likelihood {probit,logistic}" in capsys.readouterr().out
