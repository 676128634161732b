from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hidden_context.data.example import Abstention, Judgement, Rating
from hidden_context.errors import DataError
from support.published import csv_file, import_files, jsonl_file, people_of

CONTEXT = "USER: Is this fine?\nOr not?\nLAMDA: What do you mean?\nUSER: USER: this"


def rating(rater: int, item: int = 173, answer: str = "No", **columns: Any) -> dict[str, Any]:
    return {
        "id": rater * 1000 + item,
        "rater_id": rater,
        "rater_gender": "Woman",
        "rater_race": "White",
        "rater_age": "gen z",
        "item_id": item,
        "context": CONTEXT,
        "response": "It is, I think.",
        "degree_of_harm": "Benign",
        "safety_gold": "No",
        "Q2_harmful_content_overall": "Yes",
        "Q_overall": answer,
        **columns,
    }


def test_the_published_csv(tmp_path: Path) -> None:
    rows = [
        rating(4, answer="Yes"),
        rating(5, item=7, answer="No", response="No.", degree_of_harm=""),
        rating(5, answer="Unsure"),
        rating(6, answer="No", rater_gender="Man", rater_race=""),
        rating(7, answer="", rater_age="gen x+"),
    ]
    examples, report = import_files("dices", [csv_file(tmp_path / "350.csv", rows)])
    first, second = examples
    assert first.prompt == [
        {"role": "user", "content": "Is this fine?\nOr not?"},
        {"role": "assistant", "content": "What do you mean?"},
        {"role": "user", "content": "USER: this"},
    ]
    assert first.responses == ([{"role": "assistant", "content": "It is, I think."}],)
    assert first.judgements == (
        Judgement(Rating(0, 1.0), "4"),
        Judgement(Abstention(), "5"),
        Judgement(Rating(0, 0.0), "6"),
        Judgement(Abstention(), "7"),
    )
    assert first.objective == "unsafe"
    assert (first.columns["item"], first.columns["degree_of_harm"]) == ("173", "Benign")
    assert second.judgements == (Judgement(Rating(0, 0.0), "5"),)
    assert "degree_of_harm" not in second.columns
    assert (report.judgements, report.abstentions) == (3, 2)
    assert people_of(report) == {
        "4": {"rater_gender": "Woman", "rater_race": "White", "rater_age": "gen z"},
        "5": {"rater_gender": "Woman", "rater_race": "White", "rater_age": "gen z"},
        "6": {"rater_gender": "Man", "rater_age": "gen z"},
        "7": {"rater_gender": "Woman", "rater_race": "White", "rater_age": "gen x+"},
    }


def test_conversations_with_a_list_of_answers(tmp_path: Path) -> None:
    row = {
        "item": 53,
        "context": "USER: \nLAMDA: Hm?",
        "response": "Go on.",
        "unsafe": ["Yes", "Unsure", "No"],
        "expert_unsafe": "Yes",
    }
    (example,), report = import_files("dices", [jsonl_file(tmp_path / "350.jsonl", [row])])
    assert example.prompt == [
        {"role": "user", "content": ""},
        {"role": "assistant", "content": "Hm?"},
    ]
    assert example.judgements == (
        Judgement(Rating(0, 1.0), "0"),
        Judgement(Abstention(), "1"),
        Judgement(Rating(0, 0.0), "2"),
    )
    assert example.columns["expert_unsafe"] == "Yes"
    assert report.table is None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"Q_overall": "Maybe"}, "line 2, field 'Q_overall': one of Yes, No, Unsure is needed"),
        ({"rater_gender": "Man"}, "line 2, field 'rater_id': rater 4 is described otherwise"),
        ({"rater_id": ""}, "field 'rater_id': an annotator's name is needed"),
        ({"item_id": ""}, "field 'item_id': text is needed, not null"),
    ],
)
def test_odd_rows(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = csv_file(tmp_path / "350.csv", [rating(4), rating(4, **changed)])
    with pytest.raises(DataError, match=message):
        import_files("dices", [path])


def test_an_odd_conversation(tmp_path: Path) -> None:
    row = {"item": 3, "context": ["USER: a"], "response": "b", "unsafe": ["No"]}
    with pytest.raises(DataError, match="line 1, field 'context': text is needed, not a list"):
        import_files("dices", [jsonl_file(tmp_path / "350.jsonl", [row])])


def test_one_file_of_conversations_is_needed(tmp_path: Path) -> None:
    small = csv_file(tmp_path / "350.csv", [rating(4)])
    large = csv_file(tmp_path / "990.csv", [rating(4, item=9)])
    with pytest.raises(DataError, match=r"one file is needed, not 2\..*number their raters alike"):
        import_files("dices", [small, large])


def test_what_was_rated_is_told_by_its_texts(tmp_path: Path) -> None:
    rows = [
        rating(4),
        rating(5, response="It is not."),
        rating(6, item=8, context=""),
        rating(6, item=9, context="Hello USER: you\nLAMDA: Yes?"),
    ]
    examples, _ = import_files("dices", [csv_file(tmp_path / "350.csv", rows)])
    assert [example.columns["item"] for example in examples] == ["173", "173", "8", "9"]
    assert all(len(example.judgements) == 1 for example in examples)
    assert (examples[2].prompt, examples[2].responses) == ("", ("It is, I think.",))
    assert examples[3].prompt == [
        {"role": "user", "content": "Hello USER: you"},
        {"role": "assistant", "content": "Yes?"},
    ]


@pytest.mark.real_data
def test_the_published_conversations(real_data: Path, tmp_path: Path) -> None:
    name = "dices_350.jsonl.gz"
    (tmp_path / name).write_bytes((real_data / "people" / name).read_bytes())
    examples, report = import_files("dices", [tmp_path / name])
    assert len(examples) == 350
    assert len(report.annotators) == 123
    assert all(len(example.judgements) == 123 for example in examples)
    values = Counter(
        said.answer.value if isinstance(said.answer, Rating) else None
        for example in examples
        for said in example.judgements
    )
    assert values == {0.0: 26_292, 1.0: 14_064, None: 2_694}
    assert all(example.prompt[0]["role"] == "user" for example in examples)  # type: ignore[index]
