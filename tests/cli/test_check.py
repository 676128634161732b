import json

import pytest

from hidden_context.cli.main import main
from support.paper_layout import write_rows

ROWS = [
    {
        "prompt": f"question {n}?",
        "chosen": f"yes {n}",
        "rejected": f"no {n}",
        "annotations": [{"annotator": f"p{k}", "preference": (k + n) % 2} for k in range(6)],
    }
    for n in range(6)
]


@pytest.mark.parametrize(("more", "said"), [([], "reading …"), (["--quiet"], "")])
def test_check_prints_the_answer_and_writes_both_files(tmp_path, capsys, more, said):
    data, folder = write_rows(tmp_path / "votes.jsonl", ROWS), tmp_path / "out"
    assert main(["check", data, "--output_dir", str(folder), "--no_predict", *more]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("Your people disagree: they are split on 100 % of 6 pairs.")
    assert printed.err.split("\n")[0] == said
    assert json.loads((folder / "check.json").read_text())["answer"]["verdict"] == "disagree"
    assert (folder / "check.html").read_text().startswith("<!doctype html>")


def test_a_file_that_is_not_there_is_exit_code_2(capsys):
    assert main(["check", "nowhere/votes.jsonl"]) == 2
    assert "nowhere" in capsys.readouterr().err
