from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hidden_context.data.example import Comparison, Judgement, Rating
from hidden_context.errors import DataError
from support.published import import_files, jsonl_file

POST = {"id": "t3_1", "post": "I had\n\nan accident.", "title": "Car", "subreddit": "legaladvice"}
NEWS = {"id": "167f", "site": "dailymail", "title": "Sent off", "article": "He was sent off."}
TEXTS = (" car accident", " we suspect them")


def vote(worker: str | None = "ann", choice: Any = 1, **columns: Any) -> dict[str, Any]:
    return {
        "info": POST,
        "summaries": [
            {"text": TEXTS[0], "policy": "ppo", "note": "Unclear."},
            {"text": TEXTS[1], "policy": "ref", "note": None},
        ],
        "choice": choice,
        "worker": worker,
        "batch": "batch9",
        "split": "train",
        "extra": {"confidence": 8},
        **columns,
    }


def swapped(**columns: Any) -> dict[str, Any]:
    return vote(**{"summaries": vote()["summaries"][::-1], **columns})


def rated(worker: str = "ann", text: str = "Sent off..", **axes: Any) -> dict[str, Any]:
    return {
        "info": NEWS,
        "split": "test",
        "summary": {"text": text, "policy": "ref", "note": "13th??", "axes": axes},
        "worker": worker,
        "batch": "cnndm1",
    }


def test_votes_on_one_pair_are_one_example(tmp_path: Path) -> None:
    rows = [
        vote(),
        swapped(worker="bob", choice=1, extra={}),
        vote(worker="ann", choice=0, batch="batch10", extra={"confidence": None}),
        vote(info={**POST, "id": 2}, extra=None),
    ]
    examples, report = import_files(
        "summarize_from_feedback", [jsonl_file(tmp_path / "batch9.json", rows)]
    )
    first, other = examples
    assert first.judgements == (
        Judgement(Comparison(0, 1, 0.0), "ann", confidence=8.0),
        Judgement(Comparison(1, 0, 0.0), "bob"),  # the second of those shown, which is response 0
        Judgement(Comparison(0, 1, 1.0), "ann"),
    )
    assert (len(other.judgements), other.columns["item"]) == (1, "2")
    assert [response[0]["content"] for response in first.responses] == list(TEXTS)
    assert first.prompt == [
        {
            "role": "user",
            "content": "SUBREDDIT: r/legaladvice\n\nTITLE: Car\n\nPOST: I had\n\nan accident.\n\n"
            "TL;DR:",
        }
    ]
    assert first.columns["policies"] == ["ppo", "ref"]
    assert (first.objective, first.data_subset) == ("overall", "comparisons")
    assert [first.columns[name] for name in ("item", "split", "subreddit")] == [
        *("t3_1", "train", "legaladvice"),
    ]
    assert (report.judgements, len(report.annotators), report.left_out) == (4, 2, {})


def test_pairs_of_one_text_and_of_other_splits(tmp_path: Path) -> None:
    same = [{"text": " a", "policy": "x"}, {"text": " a", "policy": "y"}]
    rows = [
        vote(summaries=same),
        vote(summaries=same, worker="bob", choice=0),
        vote(split="valid1"),
    ]
    examples, _ = import_files(
        "summarize_from_feedback", [jsonl_file(tmp_path / "a.json", [vote(), *rows])]
    )
    assert [len(example.judgements) for example in examples] == [1, 2, 1]
    assert [said.answer for said in examples[1].judgements] == [
        Comparison(0, 1, 0.0),
        Comparison(0, 1, 1.0),
    ]


def test_ratings_of_each_axis(tmp_path: Path) -> None:
    rows = [
        rated(overall=3, accuracy="5", coherence=2),
        rated("bob", overall=7, coverage=None, compatible=True),
        rated("bob", "Another.", overall=1, compatible=None),
    ]
    votes = jsonl_file(tmp_path / "batch3.json", [vote()])
    axes = jsonl_file(tmp_path / "cnndm1.json", rows)
    examples, report = import_files("summarize_from_feedback", [axes, votes])
    assert [(e.data_subset, e.objective, len(e.judgements)) for e in examples] == [
        ("comparisons", "overall", 1),
        ("axis_overall", "overall", 2),
        ("axis_accuracy", "accuracy", 1),
        ("axis_coherence", "coherence", 1),
        ("axis_overall", "overall", 1),
    ]
    assert examples[1].judgements == (
        Judgement(Rating(0, 3.0), "ann"),
        Judgement(Rating(0, 7.0), "bob"),
    )
    assert examples[2].judgements == (Judgement(Rating(0, 5.0), "ann"),)
    assert examples[1].prompt == [
        {"role": "user", "content": "TITLE: Sent off\n\nHe was sent off.\n\nTL;DR:"}
    ]
    assert examples[1].columns["site"] == "dailymail"
    assert report.left_out == {"answers to 'compatible', which is yes or no": 1}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (vote(choice=2), "a.json, line 2, field 'choice': a number from 0 to 1 is needed, not 2"),
        (vote(choice=None), "field 'choice': a number is needed"),
        (vote(choice=True), "field 'choice': a finite number is needed"),
        (vote(worker=None), "field 'worker': an annotator's name is needed"),
        (vote(summaries=[{"text": "a"}]), "field 'summaries': two summaries are needed, not 1"),
        (vote(summaries=[{"text": "a"}, {}]), r"field 'summaries\[1\]': a summary with its 'text'"),
        (vote(summaries=None), "field 'summaries': the column is missing or null"),
        (vote(info=None), "field 'info': a post or an article is needed"),
        (vote(info={"id": "x"}), "field 'info': a 'post' or an 'article' is needed"),
        (vote(info={"post": 3}), "field 'info.post': text is needed"),
        (vote(info={**POST, "id": ["x"]}), "field 'info.id': text is needed, not a list"),
        (vote(split={}), "field 'split': text is needed, not a dict"),
        (vote(extra=3), "field 'extra': an object is needed"),
        (vote(extra={"confidence": "high"}), "field 'extra.confidence': a finite number is needed"),
    ],
)
def test_odd_votes(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        import_files("summarize_from_feedback", [jsonl_file(tmp_path / "a.json", [vote(), row])])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (rated(overall=8), "field 'summary.axes.overall': a number from 1 to 7 is needed"),
        (rated(accuracy=2.5), "field 'summary.axes.accuracy': an integer is needed"),
        ({**rated(), "summary": {"text": "a"}}, "field 'summary.axes': ratings are needed"),
        ({**rated(), "summary": None}, "field 'summary': a summary with its 'text' is needed"),
    ],
)
def test_odd_ratings(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        import_files("summarize_from_feedback", [jsonl_file(tmp_path / "a.json", [row])])


def test_a_file_of_something_else(tmp_path: Path) -> None:
    renamed = {"meta": POST, "responses": [], "label": 1}
    path = tmp_path / "a.json"
    path.write_text(json.dumps(renamed) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="the file has meta, responses, label"):
        import_files("summarize_from_feedback", [path])
