"""PandaLM's test set: three votes on each pair, 0 a tie, and inputs that are not a number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hidden_context.data.collections.pandalm import SOURCE
from hidden_context.data.example import Comparison, Judgement
from hidden_context.errors import DataError
from support.published import jsonl_file
from support.source_files import import_source, parquet_file


def row(*votes: Any, **columns: Any) -> dict[str, Any]:
    return {
        "idx": 7,
        "motivation_app": "Maps",
        "cmp_key": "bloom-7b_pythia-6.9b",
        "instruction": "Name the nearest town.",
        "input": "We are at the old mill.",
        "response1": "Millbrook.",
        "response2": "",
        **{f"annotator{number}": vote for number, vote in enumerate(votes or (1, 2, 0), start=1)},
        **columns,
    }


def array_file(path: Path, *rows: dict[str, Any]) -> Path:
    """Write rows as the published file is: one array, indented, NaN for no input."""
    path.write_text(json.dumps(rows, indent=4), encoding="utf-8")
    return path


def test_one_two_and_a_tie(tmp_path: Path) -> None:
    (example,), report = import_source(SOURCE, [array_file(tmp_path / "testset-v1.json", row())])
    assert example.judgements == (
        Judgement(Comparison(0, 1, 1.0), "annotator1"),
        Judgement(Comparison(0, 1, 0.0), "annotator2"),
        Judgement(Comparison(0, 1, 0.5), "annotator3"),
    )
    assert example.prompt == [
        {"role": "user", "content": "Name the nearest town.\n\nWe are at the old mill."}
    ]
    assert example.responses == (
        [{"role": "assistant", "content": "Millbrook."}],
        [{"role": "assistant", "content": ""}],
    )
    assert example.columns["item"] == 7
    assert example.columns["cmp_key"] == "bloom-7b_pythia-6.9b"
    assert example.columns["motivation_app"] == "Maps"
    assert (report.examples, report.judgements, report.abstentions) == (1, 3, 0)
    assert report.annotators == {"annotator1", "annotator2", "annotator3"}
    assert report.left_out == {}


@pytest.mark.parametrize("nothing", [float("nan"), None, ""])
def test_no_input(nothing: Any, tmp_path: Path) -> None:
    path = array_file(tmp_path / "testset-v1.json", row(input=nothing))
    (example,), _ = import_source(SOURCE, [path])
    assert example.prompt == [{"role": "user", "content": "Name the nearest town."}]


def test_pairs_of_other_models_with_the_same_answers_are_judged_apart(tmp_path: Path) -> None:
    rows = [row(), row(2, 2, 2, idx=8, cmp_key="opt-7b_pythia-6.9b")]
    examples, report = import_source(SOURCE, [array_file(tmp_path / "testset-v1.json", *rows)])
    assert [example.columns["item"] for example in examples] == [7, 8]
    assert (report.judgements, report.repeated) == (6, 0)


def test_jsonl_and_parquet_say_the_same(tmp_path: Path) -> None:
    rows = [row(), row(0, 0, 2, input=None)]
    array, _ = import_source(SOURCE, [array_file(tmp_path / "testset-v1.json", *rows)])
    lines, _ = import_source(SOURCE, [jsonl_file(tmp_path / "testset-v1.jsonl", rows)])
    table, report = import_source(SOURCE, [parquet_file(tmp_path / "testset-v1.parquet", rows)])
    assert array == lines == table
    assert [said.answer for said in table[1].judgements] == [
        Comparison(0, 1, 0.5),
        Comparison(0, 1, 0.5),
        Comparison(0, 1, 0.0),
    ]
    assert report.judgements == 6


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"annotator2": 3}, "field 'annotator2': a number from 0 to 2 is needed, not 3"),
        ({"annotator3": None}, "field 'annotator3': a number is needed, not null"),
        ({"annotator1": 0.5}, "field 'annotator1': an integer is needed, not 0.5"),
        ({"annotator1": "Tie"}, "field 'annotator1': a finite number is needed"),
        ({"response2": None}, "field 'response2': text is needed, not null"),
        ({"instruction": 4}, "field 'instruction': text is needed"),
        ({"input": 4.0}, "field 'input': text is needed, not a number"),
    ],
)
def test_odd_rows(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = array_file(tmp_path / "testset-v1.json", row(), row(**changed))
    with pytest.raises(DataError, match=r"testset-v1\.json, line 2, " + message):
        import_source(SOURCE, [path])


def test_judgements_of_models_are_refused(tmp_path: Path) -> None:
    judged = {name: value for name, value in row().items() if "annotator" not in name}
    path = array_file(tmp_path / "gpt-3.5-turbo-testset-v1.json", {**judged, "gpt_result": "1"})
    with pytest.raises(DataError, match=r"annotator3 are needed, the file has idx, .*by models"):
        import_source(SOURCE, [path])
