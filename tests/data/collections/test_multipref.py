from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hidden_context.data.example import Abstention, Comparison, Judgement
from hidden_context.data.labels import annotator_of
from hidden_context.errors import DataError
from support.published import import_files, jsonl_file, people_of

A, SLIGHTLY_B, TIE = "A-is-clearly-better", "B-is-slightly-better", "Tie"


def said(who: str | None, overall: str | None, **columns: Any) -> dict[str, Any]:
    """One annotation as published; an aspect that is not named is a tie."""
    preferences = {f"{name}_pref": TIE for name in ("helpful", "truthful", "harmless")}
    return {
        **preferences,
        "helpful_checked_reasons": ["Follows the instruction"],
        "helpful_own_reason": None,
        "overall_pref": overall,
        "overall_confidence": "fairly-confident",
        "evaluator": who,
        "time_spent": 283,
        "timestamp": "2024-05-21 19:18:25.735159",
        **columns,
    }


def row(**columns: Any) -> dict[str, Any]:
    return {
        "comparison_id": "c1",
        "prompt_id": "p1",
        "text": "Who would win?",
        "model_a": "tulu",
        "completion_a": "The first.",
        "model_b": "gpt",
        "completion_b": "The second.",
        "source": "lmsys",
        "category": "Open QA",
        "subject_study": None,
        "highest_level_degree": "Bachelor's",
        "normal_worker_annotations": [said("ann", A), said("bob", SLIGHTLY_B)],
        "expert_worker_annotations": [said("cat", TIE), said("dan", A, overall_confidence=None)],
        **columns,
    }


def test_votes_and_ties_of_each_aspect(tmp_path: Path) -> None:
    first = row()
    first["normal_worker_annotations"][0] |= {"harmless_pref": "B-is-clearly-better"}
    first["normal_worker_annotations"][1] |= {"overall_confidence": "absolutely-confident"}
    examples, report = import_files("multipref", [jsonl_file(tmp_path / "train.jsonl", [first])])
    assert [example.objective for example in examples] == [
        "overall",
        "helpful",
        "truthful",
        "harmless",
    ]
    overall, _, _, harmless = examples
    assert overall.judgements == (
        Judgement(Comparison(0, 1, 1.0, 2), "ann", confidence=2.0),
        Judgement(Comparison(0, 1, 0.0, -1), "bob", confidence=3.0),
        Judgement(Comparison(0, 1, 0.5, 0), "cat", confidence=2.0),
        Judgement(Comparison(0, 1, 1.0, 2), "dan"),
    )
    assert [judgement.answer for judgement in harmless.judgements] == [
        Comparison(0, 1, 0.0, -2),
        *[Comparison(0, 1, 0.5, 0)] * 3,
    ]
    assert overall.prompt == [{"role": "user", "content": "Who would win?"}]
    assert overall.responses[1] == [{"role": "assistant", "content": "The second."}]
    assert overall.columns["category"] == "Open QA"
    assert "subject_study" not in overall.columns
    assert [annotator_of(judgement, "worker") for judgement in overall.judgements] == [
        *["normal"] * 2,
        *["expert"] * 2,
    ]
    assert (report.judgements, report.abstentions, report.left_out) == (16, 0, {})
    assert people_of(report) == {
        "ann": {"worker": "normal"},
        "bob": {"worker": "normal"},
        "cat": {"worker": "expert"},
        "dan": {"worker": "expert"},
    }


def test_what_is_missing_is_no_vote(tmp_path: Path) -> None:
    rows = [
        row(expert_worker_annotations=[said("ann", None)]),
        row(normal_worker_annotations=None, expert_worker_annotations=[]),
        row(
            normal_worker_annotations=[said("ann", A, helpful_pref=None)],
            expert_worker_annotations=[],
        ),
        row(expert_worker_annotations=[said("eve", A, overall_confidence="random-guess")]),
    ]
    examples, report = import_files("multipref", [jsonl_file(tmp_path / "a.jsonl", rows)])
    assert examples[0].judgements[2] == Judgement(Abstention(), "ann")
    assert report.abstentions == 1
    assert [example.objective for example in examples[4:7]] == ["overall", "truthful", "harmless"]
    assert examples[7].judgements[2] == Judgement(Comparison(0, 1, 1.0, 2), "eve")
    assert report.left_out == {
        "comparisons without annotations": 1,
        "comparisons that nobody judged by helpful": 1,
        "confidences of an unknown name (text ('random-guess')), not their votes": 1,
    }
    assert people_of(report)["ann"] == {"worker": "normal and expert"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"normal_worker_annotations": [said("ann", "A is better")]},
            r"line 1, field 'normal_worker_annotations\[0\].overall_pref': one of A-is-clearly",
        ),
        (
            {"expert_worker_annotations": [said("ann", A), said(None, A)]},
            r"field 'expert_worker_annotations\[1\].evaluator': an annotator's name is needed",
        ),
        ({"expert_worker_annotations": ["Tie"]}, r"annotations\[0\]': an object is needed"),
        ({"expert_worker_annotations": {"0": {}}}, "a list of .* is needed, not a dict"),
        ({"completion_b": None}, "field 'completion_b': text is needed, not null"),
        ({"text": 3}, "field 'text': text is needed"),
    ],
)
def test_odd_rows(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        import_files("multipref", [jsonl_file(tmp_path / "a.jsonl", [row(**changed)])])


def test_another_file_is_refused(tmp_path: Path) -> None:
    binarized = [{"prompt": "a", "chosen": [], "rejected": []}]
    with pytest.raises(DataError, match=r"the file has prompt, chosen, rejected.*MultiPref-Train"):
        import_files("multipref", [jsonl_file(tmp_path / "binarized.jsonl", binarized)])
