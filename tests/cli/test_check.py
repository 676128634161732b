import json

import pytest

from hidden_context.cli.main import main

ROWS = [
    {
        "prompt": f"question {n}?",
        "chosen": f"yes {n}",
        "rejected": f"no {n}",
        "annotations": [{"annotator": f"p{k}", "preference": (k + n) % 2} for k in range(6)],
    }
    for n in range(6)
]


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "votes.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return path


def test_check_prints_the_answer_and_writes_both_files(data, tmp_path, capsys):
    folder = tmp_path / "out"
    assert main(["check", str(data), "--output_dir", str(folder), "--no_predict"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("Your people disagree: they are split on 100 % of 6 pairs.")
    assert printed.err.split("\n")[0] == "reading …"
    assert json.loads((folder / "check.json").read_text())["answer"]["verdict"] == "disagree"
    assert (folder / "check.html").read_text().startswith("<!doctype html>")


def test_quiet_prints_the_answer_alone(data, tmp_path, capsys):
    arguments = ["check", str(data), "--output_dir", str(tmp_path), "--no_predict", "--quiet"]
    assert main(arguments) == 0
    assert capsys.readouterr().err == ""


def test_a_file_that_is_not_there_is_exit_code_2(capsys):
    assert main(["check", "nowhere/votes.jsonl"]) == 2
    assert "nowhere" in capsys.readouterr().err
