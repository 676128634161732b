from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hidden_context.data.collections.chatbot_arena import SOURCE
from hidden_context.data.example import Abstention, Comparison, Example, Judgement
from hidden_context.errors import DataError
from support.published import csv_file, jsonl_file
from support.source_files import import_source, parquet_file


def read(files: Sequence[Path]) -> tuple[list[Example], Counter[str]]:
    examples, report = import_source(SOURCE, files)
    return examples, report.left_out


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def parts(message: dict[str, Any], **columns: Any) -> dict[str, Any]:
    """A message as the 140k has it."""
    part = {"type": "text", "text": message["content"], "image": None, "mimeType": None}
    return {"role": message["role"], "content": [{**part, **columns}]}


def battle(**columns: Any) -> dict[str, Any]:
    """A row of the 33k."""
    return {
        "question_id": "q1",
        "model_a": "alpha",
        "model_b": "beta",
        "winner": "model_b",
        "judge": "arena_user_7",
        "conversation_a": [user("Tea?"), assistant("Yes.")],
        "conversation_b": [user("Tea?"), assistant("No.")],
        "turn": 1,
        "anony": True,
        "language": "English",
        "tstamp": 1682351591.1,
        "openai_moderation": {"flagged": False},
        **columns,
    }


def hashed(**columns: Any) -> dict[str, Any]:
    """A row of the 100k."""
    row = battle(judge_hash="9f3c", is_code=False, is_refusal=True, **columns)
    return {name: value for name, value in row.items() if name != "judge"}


def later(order: int = 1, **columns: Any) -> dict[str, Any]:
    """A row of the 140k: a session of four turns, of which the second and third were voted on."""
    whole = [
        {
            "user": parts(user(f"Question {n}?")),
            "model_side_a": parts(assistant(f"a{n}")),
            "model_side_b": parts(assistant(f"b{n}")),
        }
        for n in range(4)
    ]
    chats = {
        f"conversation_{side}": [turn[name] for turn in whole[1:3] for name in ("user", model)]
        for side, model in (("a", "model_side_a"), ("b", "model_side_b"))
    }
    return {
        "id": f"vote-{order}",
        "model_a": "alpha",
        "model_b": "beta",
        "winner": "model_a",
        "evaluation_session_id": "s1",
        "evaluation_order": order,
        **chats,
        "full_conversation": whole,
        "language": "en",
        "is_code": False,
        **columns,
    }


def flagged(**columns: Any) -> dict[str, Any]:
    """A row of the 55k."""
    return {
        "id": 30192,
        "model_a": "alpha",
        "model_b": "beta",
        "prompt": json.dumps(["Tea?", "Why, “exactly”?"]),
        "response_a": json.dumps(["Yes.", ""]),
        "response_b": json.dumps(["No.", "Taste."]),
        "winner_model_a": 1,
        "winner_model_b": 0,
        "winner_tie": 0,
        **columns,
    }


WINNERS = [("model_a", 1.0), ("model_b", 0.0), ("tie", 0.5)]


def test_votes_ties_and_both_bad(tmp_path: Path) -> None:
    said = [*(winner for winner, _ in WINNERS), "tie (bothbad)"]
    rows = [battle(question_id=f"q{n}", winner=winner) for n, winner in enumerate(said)]
    examples, left_out = read([jsonl_file(tmp_path / "33k.jsonl", rows)])
    assert [example.judgements for example in examples] == [
        *((Judgement(Comparison(0, 1, share), "arena_user_7"),) for _, share in WINNERS),
        (Judgement(Abstention(), "arena_user_7"),),
    ]
    first, bad = examples[0], examples[3]
    assert first.prompt == [user("Tea?")]
    assert first.responses == ([assistant("Yes.")], [assistant("No.")])
    assert first.data_subset == "33k"
    assert first.columns["models"] == ["alpha", "beta"]
    assert first.columns["item"] == "q0"
    assert (first.columns["turn"], first.columns["language"]) == (1, "English")
    assert bad.judgements[0].columns["said"] == "both bad"
    assert not left_out


def test_the_100k_names_users_by_a_hash(tmp_path: Path) -> None:
    examples, _ = read([jsonl_file(tmp_path / "100k.jsonl", [hashed()])])
    assert examples[0].judgements == (Judgement(Comparison(0, 1, 0.0), "9f3c"),)
    assert examples[0].data_subset == "100k"
    assert examples[0].columns["is_refusal"] is True


def test_what_both_sides_share_is_the_prompt(tmp_path: Path) -> None:
    parting = [user("Tea?"), assistant("Yes."), user("Why?"), assistant("Taste.")]
    other = [user("Tea?"), assistant("No."), user("Why?"), assistant("Water.")]
    later_part = [*parting[:3], assistant("Water.")]
    rows = [
        battle(question_id="q1", conversation_a=parting, conversation_b=other),
        battle(question_id="q2", conversation_a=parting, conversation_b=later_part),
        battle(question_id="q3", conversation_a=parting, conversation_b=parting),
    ]
    examples, _ = read([jsonl_file(tmp_path / "33k.jsonl", rows)])
    assert [example.prompt for example in examples] == [parting[:1], parting[:3], parting[:3]]
    assert examples[0].responses == (parting[1:], other[1:])
    assert examples[1].responses == ([assistant("Taste.")], [assistant("Water.")])
    assert examples[2].identical


def test_content_in_parts_and_no_named_user(tmp_path: Path) -> None:
    rows = [later(winner=said) for said in ("tie", "both_bad")]
    rows[1]["id"] = "another"
    examples, _ = read([jsonl_file(tmp_path / "140k.jsonl", rows)])
    assert examples[0].judgements == (Judgement(Comparison(0, 1, 0.5)),)
    assert examples[1].judgements == (Judgement(Abstention()),)
    assert examples[0].prompt == [user("Question 1?")]
    assert examples[0].responses[1] == [assistant("b1"), user("Question 2?"), assistant("b2")]
    assert examples[0].columns["evaluation_session_id"] == "s1"


def test_a_later_vote_has_the_session_before_it_and_not_after(tmp_path: Path) -> None:
    examples, left_out = read([jsonl_file(tmp_path / "140k.jsonl", [later(2)])])
    assert examples[0].prompt == [user("Question 0?")]
    assert examples[0].responses[0] == [
        *(assistant("a0"), user("Question 1?"), assistant("a1")),
        *(user("Question 2?"), assistant("a2")),
    ]
    assert not left_out


def test_a_later_vote_without_its_context_is_left_out(tmp_path: Path) -> None:
    twice = later(2, id="twice")
    twice["full_conversation"] *= 2
    image = later(2, id="image")
    image["full_conversation"][0]["user"]["content"][0] |= {"type": "image", "text": None}
    missing = later(2, id="missing")
    missing["full_conversation"][0]["model_side_b"] = None
    elsewhere = later(2, id="elsewhere", conversation_a=[user("Q"), assistant("a")])
    elsewhere["conversation_b"] = [user("Q"), assistant("b")]
    absent = later(3, full_conversation=None)
    after = later(2, id="after")
    after["full_conversation"][3]["model_side_a"] = None  # said after the vote
    rows = [twice, image, missing, elsewhere, absent, after]
    examples, left_out = read([jsonl_file(tmp_path / "140k.jsonl", rows)])
    assert [example.columns["item"] for example in examples] == ["after"]
    assert left_out == {"later votes of a session whose earlier turns are not found": 5}


def test_flags_of_the_csv_file(tmp_path: Path) -> None:
    rows = [
        flagged(),
        flagged(id=2, winner_model_a=0, winner_model_b=1),
        flagged(id=3, winner_model_a=0, winner_tie=1),
    ]
    examples, _ = read([csv_file(tmp_path / "train.csv", rows)])
    assert [example.judgements for example in examples] == [
        (Judgement(Comparison(0, 1, share)),) for share in (1.0, 0.0, 0.5)
    ]
    assert "said" not in examples[0].judgements[0].columns
    assert examples[2].judgements[0].columns["said"] == "tie or both bad"
    assert examples[0].prompt == [user("Tea?")]
    why = user("Why, “exactly”?")
    assert examples[0].responses == (
        [assistant("Yes."), why, assistant("")],  # an empty answer is an answer
        [assistant("No."), why, assistant("Taste.")],
    )
    assert (examples[0].columns["item"], examples[0].data_subset) == ("30192", "55k")
    assert read([jsonl_file(tmp_path / "train.jsonl", rows)])[0] == examples


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (flagged(response_a='["Yes.", null]'), "battles with an image, or with a message that"),
        (flagged(response_b='["No.", "\\ud83d"]'), "battles whose texts hold half a character"),
        (flagged(response_b='["No."]'), "battles with more questions than answers, or fewer"),
        (flagged(prompt='["", "Why?"]'), "battles with an empty question"),
        (battle(conversation_a=[user("Tea?")]), "battles in which a side does not end with an"),
        (
            battle(conversation_a=[user("Milk?"), assistant("Yes.")]),
            "battles whose two sides are not asked the same",
        ),
        (
            later(conversation_a=[parts(user("?"), type="image"), parts(assistant("a"))]),
            "battles with an image, or with a message that",
        ),
        (
            later(conversation_a=[parts(user("?"), image="cat.png"), parts(assistant("a"))]),
            "battles with an image, or with a message that",
        ),
        (
            later(conversation_a=[{"role": "user", "content": []}, parts(assistant("a"))]),
            "battles with an image, or with a message that",
        ),
    ],
)
def test_battles_that_cannot_be_compared(row: dict[str, Any], reason: str, tmp_path: Path) -> None:
    path = jsonl_file(tmp_path / "rows.jsonl", [row])
    left_out: Counter[str] = Counter()
    assert list(SOURCE.read([path], left_out)) == []
    ((said, count),) = left_out.items()
    assert (said[: len(reason)], count) == (reason, 1)


def test_a_battle_that_stands_twice_counts_once(tmp_path: Path) -> None:
    files = [
        jsonl_file(tmp_path / "33k.jsonl", [battle(), battle()]),
        jsonl_file(tmp_path / "100k.jsonl", [hashed()]),  # the same number in another release
    ]
    examples, left_out = read(files)
    assert Counter(example.data_subset for example in examples) == {"33k": 1, "100k": 1}
    assert left_out == {"battles that stand twice, by their id": 1}


@pytest.mark.parametrize("row", [battle(), hashed(), later(2)])
def test_parquet_and_json_lines_say_the_same(row: dict[str, Any], tmp_path: Path) -> None:
    path = parquet_file(tmp_path / "rows.parquet", [row])
    assert read([path])[0] == read([jsonl_file(tmp_path / "rows.jsonl", [row])])[0]


def test_users_and_abstentions_are_counted(tmp_path: Path) -> None:
    rows = [battle(), battle(question_id="q2", winner="tie (bothbad)", judge="arena_user_8")]
    _, report = import_source(SOURCE, [jsonl_file(tmp_path / "33k.jsonl", rows)])
    assert (report.examples, report.judgements, report.abstentions) == (2, 1, 1)
    assert (report.annotators, report.table) == ({"arena_user_7", "arena_user_8"}, None)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (battle(winner="model_c"), r"line 1, field 'winner': one of model_a, tie, model_b, tie \("),
        (battle(judge=None), "field 'judge': an annotator's name is needed"),
        (battle(question_id=None), "field 'question_id': text or an integer is needed"),
        (battle(model_b=None), "field 'model_b': text is needed, not null"),
        (battle(conversation_b=None), "field 'conversation_b': the column is missing or null"),
        (
            battle(conversation_a=[{"role": "human", "content": "Tea?"}]),
            r"field 'conversation_a\[0\].role': one of user, assistant, system is needed",
        ),
        (later(evaluation_order=None), "field 'evaluation_order': a number is needed, not null"),
        (flagged(winner_tie=1), "field 'winner_model_a': one of .* has to be 1, not 2 of them"),
        (flagged(winner_tie=2), "field 'winner_tie': a number from 0 to 1 is needed"),
        (flagged(prompt="Tea?"), "field 'prompt': the JSON of a list is needed, not text"),
        (flagged(response_a="[]"), "field 'response_a': a list of at least one text is needed"),
    ],
)
def test_odd_rows(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read([jsonl_file(tmp_path / "rows.jsonl", [row])])


def test_the_votes_of_mt_bench_are_refused(tmp_path: Path) -> None:
    row = {name: value for name, value in battle().items() if name != "anony"}
    with pytest.raises(DataError, match="the columns conversation_a, conversation_b, winner, eval"):
        read([jsonl_file(tmp_path / "human.jsonl", [row])])
