from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hidden_context.data.example import Comparison, Judgement
from hidden_context.errors import DataError
from support.published import import_files, jsonl_file

TURNS = "My daughter fought.\n\nAssistant:  I'm sorry.\n\nHuman:  What now?"


def task(folder: Path, *scored: Any, **columns: Any) -> Path:
    """Write a task of BIG-bench as published: one indented JSON document."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "task.json"
    examples = [{"input": TURNS, "target_scores": one} for one in scored]
    content = {"canary": "GUID", "name": "hhh_alignment", "examples": examples, **columns}
    path.write_text(json.dumps(content, indent=4), encoding="utf-8")
    return path


def wrapped(response: str, prompt: str = TURNS) -> str:
    return (
        f"###Task Description:\nAn instruction.\n\n###The instruction to evaluate:\n{prompt}\n\n"
        f"###Response to evaluate:\n{response}\n\n###Score Rubrics:\n[Is it kind?]\n\n###Feedback: "
    )


def judged(**columns: Any) -> dict[str, Any]:
    return {
        "source": "honest",
        "chosen_instruction": wrapped("Ask her.\n\nThen listen."),
        "rejected_instruction": wrapped("Nothing."),
        **columns,
    }


def test_a_task_of_big_bench(tmp_path: Path) -> None:
    path = task(tmp_path / "harmless", {"Ask her.": 1, "Nothing.": 0}, {"No.": 0.0, "Yes.": 1.0})
    (first, second), report = import_files("hhh_alignment", [path])
    assert first.prompt == [
        {"role": "user", "content": "My daughter fought."},
        {"role": "assistant", "content": "I'm sorry."},
        {"role": "user", "content": "What now?"},
    ]
    assert first.responses[0] == [{"role": "assistant", "content": "Ask her."}]
    assert first.judgements == (Judgement(Comparison(0, 1)),)
    assert [response[0]["content"] for response in second.responses] == ["Yes.", "No."]
    assert second.judgements == (Judgement(Comparison(0, 1)),)
    assert first.data_subset == "harmless"
    assert (report.judgements, len(report.annotators)) == (2, 0)
    marked = [{"input": "Hm?\n\nAssistant:", "target_scores": {"a": 1, "b": 0}}]
    (example,), _ = import_files("hhh_alignment", [task(tmp_path / "y", examples=marked)])
    assert example.prompt == [{"role": "user", "content": "Hm?"}]
    (plain,), _ = import_files("hhh_alignment", [task(tmp_path / "x", {"a": 1, "b": 0})])
    assert plain.data_subset is None
    named = task(tmp_path / "x", {"a": 1, "b": 0}, name="hhh_alignment_helpful")
    assert import_files("hhh_alignment", [named])[0][0].data_subset == "helpful"


def test_rows_with_choices(tmp_path: Path) -> None:
    rows = [{"input": "Hello?", "targets": {"choices": ["Go.", "Hi."], "labels": [0, 1]}}]
    path = jsonl_file(tmp_path / "other-00000-of-00001.json", rows)
    (example,), _ = import_files("hhh_alignment", [path])
    assert example.judgements == (Judgement(Comparison(0, 1)),)
    assert example.columns["chosen"] == [{"role": "assistant", "content": "Hi."}]
    assert example.prompt == [{"role": "user", "content": "Hello?"}]
    assert example.data_subset == "other"


def test_pairs_wrapped_in_a_prompt_to_a_judge(tmp_path: Path) -> None:
    path = tmp_path / "eval.json"
    path.write_text(json.dumps([judged()], indent=2), encoding="utf-8")
    (example,), _ = import_files("hhh_alignment", [path])
    assert [response[0]["content"] for response in example.responses] == [
        "Ask her.\n\nThen listen.",
        "Nothing.",
    ]
    assert example.judgements == (Judgement(Comparison(0, 1)),)
    assert (len(example.prompt), example.data_subset) == (3, "honest")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"source": "kind"}, "one of harmless, helpful, honest, other is needed"),
        ({"rejected_instruction": "Nothing."}, "line 1, field 'rejected_instruction': no instruct"),
        ({"rejected_instruction": wrapped("No.", "Eh?")}, "answer different instructions"),
        ({"chosen_instruction": None}, "field 'chosen_instruction': text is needed"),
    ],
)
def test_odd_wrapped_rows(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        import_files("hhh_alignment", [jsonl_file(tmp_path / "a.json", [judged(**changed)])])


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (
            {"a": 1, "b": 1},
            r"task.json, field 'examples\[0\].target_scores': two answers are needed",
        ),
        ({"a": 1}, "one labelled 1 and one 0"),
        ({"a": 1, "b": 0, "c": 0}, "one labelled 1 and one 0"),
        ({"a": True, "b": 0}, "one labelled 1 and one 0"),
        (None, r"field 'examples\[0\]': an 'input' and its 'target_scores' are needed"),
    ],
)
def test_odd_tasks(scores: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        import_files("hhh_alignment", [task(tmp_path / "x", scores)])


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ("a", "field 'targets': 'choices' with their 'labels' are needed"),
        (None, "field 'targets': 'choices' with their 'labels' are needed"),
        ({"choices": ["a", "b"], "labels": [1]}, "1 labels are given for 2 responses"),
        ({"choices": ["a", 2], "labels": [1, 0]}, "field 'targets': text is needed, not a number"),
    ],
)
def test_odd_choices(targets: Any, message: str, tmp_path: Path) -> None:
    rows = [{"input": "Hello?", "targets": targets}]
    with pytest.raises(DataError, match=message):
        import_files("hhh_alignment", [jsonl_file(tmp_path / "a.jsonl", rows)])


def test_a_file_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the file has a\. Give bigbench"):
        import_files("hhh_alignment", [jsonl_file(tmp_path / "a.json", [{"a": 1}, {"a": 2}])])
    empty = task(tmp_path / "x")
    with pytest.raises(DataError, match="a list of at least one example is needed"):
        import_files("hhh_alignment", [empty])


@pytest.mark.real_data
def test_the_published_pairs(real_data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "hhh_alignment_eval.json.gz"
    copy.write_bytes((real_data / "people" / copy.name).read_bytes())
    examples, report = import_files("hhh_alignment", [copy])
    assert len(examples) == report.judgements == 221
    assert Counter(example.data_subset for example in examples) == {
        "honest": 61,
        "helpful": 59,
        "harmless": 58,
        "other": 43,
    }
    assert all(example.judgements == (Judgement(Comparison(0, 1)),) for example in examples)
    assert Counter(len(example.prompt) for example in examples) == {1: 180, 3: 40, 5: 1}
    assert len({example.prompt_key for example in examples}) == 102
    assert not any("###" in json.dumps(example.columns) for example in examples)
