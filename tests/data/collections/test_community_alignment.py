from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hidden_context.data.collections.community_alignment import SOURCE
from hidden_context.data.example import Comparison, Example, Judgement
from hidden_context.errors import DataError
from support.published import csv_file, jsonl_file, people_of
from support.source_files import import_source, parquet_file

TURNS = ("first", "second", "third", "fourth")


def read(files: Sequence[Path]) -> tuple[list[Example], Counter[str]]:
    examples, report = import_source(SOURCE, files)
    return examples, report.left_out


def turn(name: str, best: str | None, answers: str = "wxyz", **columns: Any) -> dict[str, Any]:
    """A turn of the answers w, x, y and z to the question of its name."""
    said = {
        f"{name}_turn_prompt": f"{name}?",
        **{f"{name}_turn_response_{a}": t for a, t in zip("abcd", answers, strict=True)},
        f"{name}_turn_preferred_response": best and f"response_{best}",
        f"{name}_turn_feedback": None,
    }
    return {**said, **{f"{name}_turn_{key}": value for key, value in columns.items()}}


def row(*turns: dict[str, Any], who: Any = "ann", **columns: Any) -> dict[str, Any]:
    missing = {
        f"{name}_turn_{column}": None
        for name in TURNS
        for column in (
            *("prompt", "preferred_response", "feedback"),
            *(f"response_{letter}" for letter in "abcd"),
        )
    }
    return {
        "conversation_id": 1,
        "assigned_lang": "fr",
        "annotator_id": who,
        **missing,
        **{key: value for one in turns for key, value in one.items()},
        "annotator_age": "18-34",
        "annotator_gender": "female",
        "annotator_education_level": None,
        "annotator_political": "Prefer not to say",
        "annotator_ethnicity": "Other",
        "annotator_country": "france",
        "is_pregenerated_first_prompt": True,
        "in_balanced_subset": False,
        "wave": 1,
        **columns,
    }


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def votes(best: int, who: str = "ann", weight: float = 0.5) -> tuple[Judgement, ...]:
    """What it is to choose one of four."""
    return tuple(
        Judgement(
            Comparison(min(best, other), max(best, other), float(best < other)),
            who,
            weight=weight,
        )
        for other in range(4)
        if other != best
    )


def test_a_choice_is_three_comparisons_and_says_nothing_of_the_others(tmp_path: Path) -> None:
    path = jsonl_file(tmp_path / "rows.jsonl", [row(turn("first", "c"))])
    ((example,), left_out) = read([path])
    assert example.prompt == [user("first?")]
    assert example.responses == tuple([assistant(text)] for text in "wxyz")
    assert example.judgements == (
        Judgement(Comparison(0, 2, 0.0), "ann", weight=0.5),
        Judgement(Comparison(1, 2, 0.0), "ann", weight=0.5),
        Judgement(Comparison(2, 3, 1.0), "ann", weight=0.5),
    )
    assert example.judgements == votes(2)
    columns = example.columns
    assert (columns["turn"], columns["assigned_lang"], columns["wave"]) == (1, "fr", 1)
    assert (columns["is_pregenerated_first_prompt"], columns["in_balanced_subset"]) == (True, False)
    assert not left_out


def test_the_chat_goes_on_with_the_chosen_answer(tmp_path: Path) -> None:
    said = row(turn("first", "b"), turn("second", "a", feedback="Short."))
    examples, _ = read([jsonl_file(tmp_path / "rows.jsonl", [said])])
    second, first = examples  # first turns are collected, as others judge them too
    assert first.columns["turn"] == 1
    assert second.prompt == [user("first?"), assistant("x"), user("second?")]
    assert second.judgements == votes(0)
    assert [vote.columns["feedback"] for vote in second.judgements] == ["Short."] * 3
    assert "feedback" not in first.judgements[0].columns


def test_people_who_judge_the_same_first_turn_in_any_order(tmp_path: Path) -> None:
    rows = [
        row(turn("first", "a")),
        row(turn("first", "a", "zyxw"), who=7, conversation_id=2, assigned_lang="en"),
        row(turn("first", "b", "wxyv"), who="cat", conversation_id=3),
    ]
    examples, _ = read([jsonl_file(tmp_path / "rows.jsonl", rows)])
    both, other = examples
    assert both.judgements == (
        *votes(0),
        Judgement(Comparison(3, 2, 1.0), "7", weight=0.5),  # z stood before y
        Judgement(Comparison(3, 1, 1.0), "7", weight=0.5),
        Judgement(Comparison(3, 0, 1.0), "7", weight=0.5),
    )
    assert "conversation_id" not in both.columns
    assert "assigned_lang" not in both.columns
    assert both.columns["wave"] == 1
    assert (other.columns["conversation_id"], other.judgements) == (3, votes(1, "cat"))


def test_end_tokens_are_no_text(tmp_path: Path) -> None:
    answers = {
        "response_a": "w <|end_of_text|> ",
        "response_b": "x\n<|end_of_text|><|end_of_text|>",
        "response_c": "<|end_of_text|> is a token",
        "response_d": "w",
    }
    path = jsonl_file(tmp_path / "rows.jsonl", [row(turn("first", "a", **answers))])
    ((example,), left_out) = read([path])
    assert example.responses == tuple(
        [assistant(text)] for text in ("w", "x", "<|end_of_text|> is a token")
    )
    assert left_out == {"answers of the same text as another beside them": 1}
    assert example.judgements == (
        Judgement(Comparison(0, 1, 1.0), "ann", weight=2 / 3),
        Judgement(Comparison(0, 2, 1.0), "ann", weight=2 / 3),
    )


def test_what_is_missing(tmp_path: Path) -> None:
    rows = [
        row(turn("first", "a", response_b=None)),
        row(turn("first", "a", "wwww"), turn("second", "d"), conversation_id=2),
        row(turn("first", None), turn("second", "d"), turn("third", "d"), conversation_id=3),
        row(turn("first", "b", response_b=None), conversation_id=4),
        row(turn("second", "d"), conversation_id=5),
        row(turn("first", "b", prompt=None), conversation_id=6),
        row(conversation_id=7),
        row(turn("first", "a"), conversation_id=1),
    ]
    examples, left_out = read([jsonl_file(tmp_path / "rows.jsonl", rows)])
    second, first = examples
    assert second.prompt == [user("first?"), assistant("w"), user("second?")]
    assert [vote.answer for vote in first.judgements] == [Comparison(0, 1), Comparison(0, 2)]
    assert first.judgements[0].weight == 2 / 3
    assert left_out == {
        "answers that are missing beside a choice": 1,
        "answers of the same text as another beside them": 3,
        "choices among answers that are all the same": 1,
        "turns without a choice, or whose chosen answer is missing": 4,
        "turns whose chat so far is not known, as an earlier turn is missing": 3,
        "conversations that stand twice, by their id": 1,
    }


def test_what_people_say_of_themselves(tmp_path: Path) -> None:
    rows = [
        row(turn("first", "a")),
        row(turn("first", "b"), who="bob", conversation_id=2, annotator_age=None),
        row(turn("second", "b"), who="bob", conversation_id=3, assigned_lang="en"),
    ]
    _, report = import_source(SOURCE, [jsonl_file(tmp_path / "rows.jsonl", rows)])
    known = {"age": "18-34", "gender": "female", "ethnicity": "Other", "country": "france"}
    assert people_of(report) == {
        "ann": {**known, "assigned_lang": "fr"},
        "bob": {**known, "assigned_lang": "en and fr"},
    }


def test_csv_parquet_and_json_lines_say_the_same(tmp_path: Path) -> None:
    rows = [
        row(turn("first", "a", feedback='"Good", she said.'), turn("second", "b"), wave="1"),
        row(turn("first", "c"), who="bob", conversation_id=2, wave="1"),
    ]
    examples, left_out = read([jsonl_file(tmp_path / "rows.jsonl", rows)])
    assert read([parquet_file(tmp_path / "rows.parquet", rows)]) == (examples, left_out)
    told, _ = read([csv_file(tmp_path / "rows.csv", rows)])
    assert [one.judgements for one in told] == [one.judgements for one in examples]
    assert [one.prompt for one in told] == [one.prompt for one in examples]
    assert told[0].columns == {**examples[0].columns, "conversation_id": "1"}


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (
            row(turn("first", "e")),
            "line 1, field 'first_turn_preferred_response': one of response_a, .* is needed, not",
        ),
        (row(turn("first", "a"), who=None), "field 'annotator_id': an annotator's name is needed"),
        (row(turn("first", "a"), conversation_id=None), "field 'conversation_id': text or an"),
        (row(turn("first", "a", response_d=4)), "field 'first_turn_response_d': text is needed"),
        (row(turn("first", "a", prompt=["?"])), "field 'first_turn_prompt': text is needed"),
        (
            row(turn("first", "a"), in_balanced_subset="maybe"),
            r"field 'in_balanced_subset': a truth value is needed, not text \('maybe'\)",
        ),
    ],
)
def test_odd_rows(odd: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read([jsonl_file(tmp_path / "rows.jsonl", [odd])])


def test_the_first_layout_is_refused(tmp_path: Path) -> None:
    early = {"conversation_id": 1, "annotator_id": "ann", "first_turn_responses": "A: w B: x"}
    with pytest.raises(DataError, match=r"the file has conversation_id, annotator_id, first_turn_"):
        read([jsonl_file(tmp_path / "rows.jsonl", [early])])
