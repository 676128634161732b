from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hidden_context.data.example import Comparison, Judgement
from hidden_context.errors import DataError
from support.published import import_files, jsonl_file


def row(**columns: Any) -> dict[str, Any]:
    return {
        "prompt": "How do I open it?",
        "response_0": "With this trick.",
        "response_1": "Better not.",
        "prompt_source": "a model",
        "response_0_source": "Alpaca-7B",
        "is_response_0_safe": False,
        "is_response_1_safe": True,
        "response_0_harm_category": {"Privacy Violation": True, "Violence": False},
        "response_1_harm_category": {"Privacy Violation": False, "Violence": False},
        "response_0_severity_level": 2,
        "response_1_severity_level": 0,
        "better_response_id": 0,
        "safer_response_id": 1,
        "response_0_sha256": "ab",
        **columns,
    }


def test_two_objectives_of_a_row_are_two_examples(tmp_path: Path) -> None:
    examples, report = import_files("pku_saferlhf", [jsonl_file(tmp_path / "t.jsonl", [row()])])
    helpful, harmless = examples
    assert (helpful.objective, harmless.objective) == ("helpful", "harmless")
    assert helpful.judgements == (Judgement(Comparison(0, 1, 1.0)),)
    assert harmless.judgements == (Judgement(Comparison(0, 1, 0.0)),)
    assert helpful.texts == harmless.texts
    assert helpful.prompt == [{"role": "user", "content": "How do I open it?"}]
    for example in examples:
        assert example.columns["is_response_0_safe"] is False
        assert example.columns["is_response_1_safe"] is True
        assert example.columns["response_0_harm_category"] == ["Privacy Violation"]
        assert example.columns["response_1_harm_category"] == []
        assert example.columns["response_0_severity_level"] == 2
        assert example.data_subset == example.objective
    assert (report.judgements, len(report.annotators), report.table) == (2, 0, None)


def test_an_older_row_and_a_choice_that_is_missing(tmp_path: Path) -> None:
    older = {
        name: value
        for name, value in row().items()
        if not name.endswith(("level", "category", "source", "sha256"))
    }
    rows = [older, row(better_response_id=None, safer_response_id=0.0)]
    examples, report = import_files("pku_saferlhf", [jsonl_file(tmp_path / "t.jsonl", rows)])
    assert [example.objective for example in examples] == ["helpful", "harmless", "harmless"]
    assert examples[2].judgements == (Judgement(Comparison(0, 1, 1.0)),)
    assert report.left_out == {"pairs of which nobody said which is helpful": 1}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"better_response_id": -1},
            "t.jsonl, line 1, field 'better_response_id': a number from 0",
        ),
        ({"safer_response_id": True}, "field 'safer_response_id': a finite number is needed"),
        ({"better_response_id": 0.5}, "field 'better_response_id': an integer is needed"),
        ({"response_1": None}, "field 'response_1': text is needed, not null"),
        ({"is_response_1_safe": "yes"}, "field 'is_response_1_safe': true or false is needed"),
        ({"response_0_severity_level": 4}, "field 'response_0_severity_level': a number from 0"),
    ],
)
def test_odd_values(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        import_files("pku_saferlhf", [jsonl_file(tmp_path / "t.jsonl", [row(**changed)])])


def test_preferences_of_one_dimension_are_refused(tmp_path: Path) -> None:
    single = row()
    del single["safer_response_id"]
    with pytest.raises(DataError, match="safer_response_id are needed, the file has prompt"):
        import_files("pku_saferlhf", [jsonl_file(tmp_path / "t.jsonl", [single])])
