"""Chatbot Arena: four releases, sessions that go on after a vote, and battles that are left out."""

import json
from collections import Counter

import pytest

from hidden_context.data.collections import find_source
from hidden_context.data.example import Abstention, Comparison, Judgement
from support.published import CHAT, OTHER, assistant, parts, row, user

ARENA = "chatbot_arena"


def battle(release="33k", **columns):
    return row(f"{ARENA}:{release}", **columns)


WINNERS = {"model_a": 1.0, "model_b": 0.0, "tie": 0.5}


def test_votes_ties_and_both_bad(imported):
    said = [*WINNERS, "tie (bothbad)"]
    rows = [battle(question_id=f"q{n}", winner=winner) for n, winner in enumerate(said)]
    rows[3]["judge"] = "arena_user_8"
    examples, report = imported(ARENA, *rows)
    assert [example.judgements for example in examples] == [
        *((Judgement(Comparison(0, 1, share), "arena_user_7"),) for share in WINNERS.values()),
        (Judgement(Abstention(), "arena_user_8"),),
    ]
    assert examples[0].columns == {
        "prompt": CHAT[:1],
        "responses": [CHAT[1:], OTHER[1:]],
        "judgements": [{"annotator": "arena_user_7", "comparison": [0, 1], "preference": 1.0}],
        "data_subset": "33k",
        "item": "q0",
        "models": ["alpha", "beta"],
        "language": "English",
        "turn": 2,
        "anony": True,
    }
    assert examples[3].judgements[0].columns["said"] == "both bad"
    assert (report.judgements, report.abstentions, report.table) == (3, 1, None)
    assert (report.annotators, report.left_out) == ({"arena_user_7", "arena_user_8"}, {})


def test_what_both_sides_share_is_the_prompt(imported):
    rows = [
        battle(question_id="q2", conversation_b=[*CHAT[:3], assistant("Water.")]),
        battle(question_id="q3", conversation_b=CHAT),
    ]
    (late, same), _ = imported(ARENA, *rows)
    assert late.prompt == same.prompt == CHAT[:3]
    assert late.responses == ([assistant("Taste.")], [assistant("Water.")])
    assert same.identical


def test_a_battle_that_stands_twice_counts_once_and_the_100k_has_hashes(imported, write_rows):
    files = [
        write_rows("33k.jsonl", [battle(), battle()]),
        write_rows("100k.jsonl", [battle("100k")]),  # the same number in another release
    ]
    examples, report = imported(ARENA, *files)
    assert [(one.data_subset, one.judgements) for one in examples] == [
        ("100k", (Judgement(Comparison(0, 1, 0.0), "9f3c"),)),
        ("33k", (Judgement(Comparison(0, 1, 0.0), "arena_user_7"),)),
    ]
    assert examples[0].columns["is_refusal"] is True
    assert report.left_out == {"battles that occur twice, by their id": 1}


def test_a_later_vote_has_the_session_before_it_and_not_after(imported):
    after = battle("140k", id="after")
    after["full_conversation"][3]["model_side_a"] = None  # said after the vote
    ties = [
        battle("140k", id=said, winner=said, evaluation_order=1) for said in ("tie", "both_bad")
    ]
    examples, report = imported(ARENA, battle("140k"), after, *ties)
    turns = [m for n in (1, 2) for m in (user(f"Question {n}?"), assistant(f"a{n}"))]
    for example in examples[:2]:
        assert example.prompt == [user("Question 0?")]
        assert example.responses[0] == [assistant("a0"), *turns]
        assert example.judgements == (Judgement(Comparison(0, 1, 1.0)),)
    for example, answer in zip(examples[2:], (Comparison(0, 1, 0.5), Abstention()), strict=True):
        assert (example.prompt, example.responses[0]) == (turns[:1], turns[1:])
        assert example.judgements == (Judgement(answer),)
    assert examples[0].columns["evaluation_session_id"] == "s1"
    assert report.left_out == {}


def test_a_later_vote_without_its_context_is_left_out(imported):
    rows = {name: battle("140k", id=name) for name in ("twice", "image", "missing")}
    rows["twice"]["full_conversation"] *= 2
    part = rows["image"]["full_conversation"][0]["user"]["content"][0]
    part |= {"type": "image", "text": None}
    rows["missing"]["full_conversation"][0]["model_side_b"] = None
    sides = {f"conversation_{side}": [user("Q"), assistant(side)] for side in "ab"}
    elsewhere = battle("140k", id="elsewhere", **sides)
    absent = battle("140k", id="absent", full_conversation=None)
    _, report = imported(ARENA, battle("140k"), *rows.values(), elsewhere, absent)
    assert report.left_out == {"later votes of a session whose earlier turns are not found": 5}


def test_flags_of_the_csv_file(imported):
    rows = [
        battle("55k"),
        battle("55k", id=2, winner_model_a=0, winner_model_b=1),
        battle("55k", id=3, winner_model_a=0, winner_tie=1),
    ]
    examples, _ = imported(ARENA, *rows, file="train.csv")
    assert [example.judgements for example in examples] == [
        (Judgement(Comparison(0, 1, share)),) for share in (1.0, 0.0, 0.5)
    ]
    told = [example.judgements[0].columns.get("said") for example in examples]
    assert told == [None, None, "tie or both bad"]
    why = user("Why, “exactly”?")
    assert examples[0].prompt == [user("Tea?")]
    assert examples[0].responses == (
        [assistant("Yes."), why, assistant("")],  # an empty answer is an answer
        [assistant("No."), why, assistant("Taste.")],
    )
    assert (examples[0].columns["item"], examples[0].data_subset) == ("30192", "55k")


def first(*messages):
    """A first vote of the 140k."""
    return battle("140k", evaluation_order=1, conversation_a=list(messages))


IMAGE, ANSWER = "battles with an image, or with a message that is missing", parts(assistant("a"))


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (battle("55k", response_a='["Yes.", null]'), IMAGE),
        (
            battle("55k", response_b='["No.", "\\ud83d"]'),
            "battles whose texts hold half a character",
        ),
        (
            battle("55k", response_b=json.dumps(["No."])),
            "battles with more questions than answers, or fewer",
        ),
        (battle("55k", prompt='["", "Why?"]'), "battles with an empty question"),
        (
            battle(conversation_a=[user("Tea?")]),
            "battles in which a side does not end with an answer",
        ),
        (battle(conversation_a=CHAT[:2]), "battles whose two sides are not asked the same"),
        (first(parts(user("?"), type="image"), ANSWER), IMAGE),
        (first(parts(user("?"), image="cat.png"), ANSWER), IMAGE),
        (first({**user("?"), "content": []}, ANSWER), IMAGE),
    ],
)
def test_battles_that_cannot_be_compared(one, reason, write_rows):
    left_out = Counter()
    path = write_rows("rows.jsonl", [one])
    assert list(find_source(ARENA).read([path], left_out)) == []
    assert left_out == {reason: 1}
