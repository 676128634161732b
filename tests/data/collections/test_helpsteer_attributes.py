"""HelpSteer: every attribute a rating of its own, and labels within conversations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hidden_context.data.collections.helpsteer import ATTRIBUTES, SOURCE
from hidden_context.data.example import Example, Judgement, Rating
from hidden_context.errors import DataError
from support.published import jsonl_file
from support.source_files import import_source, parquet_file


def rated(*ratings: Any, **columns: Any) -> dict[str, Any]:
    values = dict(zip(ATTRIBUTES, ratings or (3, 4, 4, 2, 0), strict=True))
    return {"prompt": "Name a tea.", "response": "Green tea.", **values, **columns}


def turn(speaker: str, text: str, label: Any = None) -> dict[str, Any]:
    return {"value": text, "from": speaker, "label": label}


def chat(*turns: dict[str, Any], **columns: Any) -> dict[str, Any]:
    said = {"conversations": list(turns), "system": "Be kind.", "mask": "User"}
    return {**said, "type": "VALUE_TO_TEXT", **columns}


def import_rows(path: Path, *rows: dict[str, Any]) -> Any:
    return import_source(SOURCE, [jsonl_file(path / "train.jsonl", rows)])


def ratings(examples: list[Example]) -> dict[str | None, list[Any]]:
    return {one.objective: [said.answer for said in one.judgements] for one in examples}


def test_each_attribute_is_a_rating(tmp_path: Path) -> None:
    examples, report = import_rows(tmp_path, rated())
    assert ratings(examples) == {
        "helpfulness": [Rating(0, 3.0)],
        "correctness": [Rating(0, 4.0)],
        "coherence": [Rating(0, 4.0)],
        "complexity": [Rating(0, 2.0)],
        "verbosity": [Rating(0, 0.0)],
    }
    assert {example.data_subset for example in examples} == set(ATTRIBUTES)
    first = examples[0]
    assert first.judgements == (Judgement(Rating(0, 3.0)),)
    assert first.prompt == [{"role": "user", "content": "Name a tea."}]
    assert first.responses == ([{"role": "assistant", "content": "Green tea."}],)
    assert (report.examples, report.judgements, report.annotators) == (5, 5, set())


def test_lists_of_several_people_and_ratings_that_are_missing(tmp_path: Path) -> None:
    examples, report = import_rows(tmp_path, rated([3, 1, 4], [4, 4, 4], None, [], [0]))
    assert ratings(examples) == {
        "helpfulness": [Rating(0, 3.0), Rating(0, 1.0), Rating(0, 4.0)],
        "correctness": [Rating(0, 4.0)] * 3,
        "verbosity": [Rating(0, 0.0)],
    }
    assert report.left_out == {
        "answers without a rating for coherence": 1,
        "answers without a rating for complexity": 1,
    }


def test_marks_between_turns_are_not_text(tmp_path: Path) -> None:
    prompt = "Hi\n<extra_id_1>Assistant\nHello.\n<extra_id_1>User\nTea?"
    examples, _ = import_rows(tmp_path, rated(prompt=prompt))
    assert examples[0].prompt == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "Tea?"},
    ]


def test_labels_within_a_conversation(tmp_path: Path) -> None:
    row = chat(
        turn("User", "Tea?"),
        turn("Assistant", "Yes.", "quality:4,toxicity:0,verbosity:1"),
        turn("User", "More?"),
        turn("Assistant", "No.", "quality:2"),
        turn("User", "Bye."),
        turn("Assistant", "Bye."),
        dataset="teas",
    )
    examples, report = import_rows(tmp_path, row)
    found = [(example.objective, len(example.prompt)) for example in examples]
    assert found == [("quality", 2), ("toxicity", 2), ("verbosity", 2), ("quality", 4)]
    assert [example.judgements[0].answer for example in examples] == [
        *(Rating(0, 4.0), Rating(0, 0.0), Rating(0, 1.0), Rating(0, 2.0)),
    ]
    assert examples[3].prompt == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Tea?"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "More?"},
    ]
    assert examples[3].responses == ([{"role": "assistant", "content": "No."}],)
    assert examples[0].columns["dataset"] == "teas"
    assert report.left_out == {}


def test_what_conversations_share_counts_once(tmp_path: Path) -> None:
    start = (turn("User", "Tea?"), turn("Assistant", "Yes.", "quality:4"))
    rows = [
        chat(*start, turn("User", "More?"), turn("Assistant", "No.", "quality:1")),
        chat(*start, turn("User", "Why?"), turn("Assistant", "So.", "quality:2")),
        chat(start[0], turn("Assistant", "Yes.", "quality:3")),
        chat(turn("User", "Coffee?"), start[1]),
        chat(turn("User", "Tea?", "quality:4"), turn("Assistant", "Hm.")),
        chat(turn("User", "Tea?"), turn("Assistant", "Hm.", "")),
    ]
    examples, report = import_rows(tmp_path, *rows)
    assert [example.judgements[0].answer for example in examples] == [
        Rating(0, value) for value in (4.0, 1.0, 2.0, 3.0, 4.0)
    ]
    assert report.left_out == {
        "answers that stand, labelled alike, in an earlier conversation": 1,
        "labels of what a user says": 1,
        "conversations without a label": 1,
    }


def test_the_user_is_who_is_masked_and_a_system_text_may_be_missing(tmp_path: Path) -> None:
    turns = (turn("Ann", "Tea?"), turn("User", "Yes.", "humor:1.5"))
    (example,), _ = import_rows(tmp_path, chat(*turns, mask="Ann", system=None))
    assert example.prompt == [{"role": "user", "content": "Tea?"}]
    assert ratings([example]) == {"humor": [Rating(0, 1.5)]}


def test_parquet_says_the_same(tmp_path: Path) -> None:
    rows = [rated(), rated(1, 2, None, 4, 0)]
    lines, _ = import_rows(tmp_path, *rows)
    table, report = import_source(SOURCE, [parquet_file(tmp_path / "train.parquet", rows)])
    assert table == lines
    assert report.judgements == 9
    chats = [chat(turn("User", "Tea?"), turn("Assistant", "Yes.", "quality:4,humor:0"))]
    lines, _ = import_rows(tmp_path, *chats)
    table, report = import_source(SOURCE, [parquet_file(tmp_path / "chats.parquet", chats)])
    assert table == lines
    assert report.judgements == 2


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (rated(5, 4, 4, 2, 0), "field 'helpfulness': a number from 0 to 4 is needed, not 5"),
        (rated(3, 4, 4, 2, 0.5), "field 'verbosity': an integer is needed, not 0.5"),
        (rated([3, None], 4, 4, 2, 0), "field 'helpfulness': a number is needed, not null"),
        (rated(prompt=None), "field 'prompt': text is needed, not null"),
        (rated(response=3), "field 'response': text is needed"),
    ],
)
def test_odd_rows(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.jsonl, line 2, " + message):
        import_rows(tmp_path, rated(), row)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("quality:5", "a number from 0 to 4 is needed, not 5"),
        ("quality:high", "a finite number is needed, not text"),
        ("quality", r"attributes and ratings are needed, each once, not text \('quality'\)"),
        ("quality:1,quality:2", "attributes and ratings are needed, each once"),
        ("charm:2", "attributes and ratings are needed.*The attributes are quality, toxicity"),
        (4, r"attributes and ratings are needed, each once, not a number \(4\)"),
    ],
)
def test_odd_labels(label: Any, message: str, tmp_path: Path) -> None:
    row = chat(turn("User", "Tea?"), turn("Assistant", "Yes.", label))
    field = r"train\.jsonl, line 1, field 'conversations\[1\]\.label': "
    with pytest.raises(DataError, match=field + message):
        import_rows(tmp_path, row)


def test_odd_conversations(tmp_path: Path) -> None:
    good = chat(turn("User", "Tea?"), turn("Assistant", "Yes.", "quality:4"))
    for changed, message in (
        ({"conversations": []}, "field 'conversations': a list of at least one object"),
        ({"conversations": [{"from": "User"}]}, r"'conversations\[0\]\.value': text is needed"),
        ({"mask": None}, "field 'mask': text is needed, not null"),
        ({"system": 3}, "field 'system': text is needed"),
    ):
        with pytest.raises(DataError, match=r"train\.jsonl, line 2, .*" + message):
            import_rows(tmp_path, good, {**good, **changed})
    with pytest.raises(DataError, match=r"the columns conversations, mask or prompt, response, "):
        import_rows(tmp_path, {"conversations": []})
