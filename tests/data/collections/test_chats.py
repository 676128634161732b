"""Whole conversations and trees of messages: Chatbot Arena, and Open Assistant."""

import json

import pytest

from hidden_context.data.example import Abstention, Comparison, Judgement, Ranking, Rating
from support.published import CHAT, OTHER, by, passed, row
from support.rows import assistant, user

ARENA = "chatbot_arena"


def battle(release="33k", **columns):
    return row(f"{ARENA}:{release}", **columns)


def parts(message, **columns):
    """A message of the 140k, whose content is a list of parts."""
    part = battle("140k")["conversation_a"][0]["content"][0]
    return {**message, "content": [{**part, "text": message["content"], **columns}]}


WINNERS = {"model_a": 1.0, "model_b": 0.0, "tie": 0.5}


def test_arena_votes_ties_and_both_bad(imported):
    said = [*WINNERS, "tie (bothbad)"]
    rows = [battle(question_id=f"q{n}", winner=winner) for n, winner in enumerate(said)]
    rows[3]["judge"] = "arena_user_8"
    examples, _ = imported(ARENA, *rows)
    votes = [by(arena_user_7=share) for share in WINNERS.values()]
    assert [example.judgements for example in examples] == [*votes, by(arena_user_8=None)]
    assert examples[0].columns == {
        "prompt": CHAT[:1],
        "responses": [CHAT[1:], OTHER[1:]],
        "judgements": [{"annotator": "arena_user_7", "comparison": [0, 1], "preference": 1.0}],
        "data_subset": "33k",
        "item": "q0",
        "models": ["alpha", "beta"],
        **passed(f"{ARENA}:33k", "language", "turn", "anony"),
    }
    assert examples[3].judgements[0].columns["said"] == "both bad"


def test_arena_what_both_sides_share_is_the_prompt(imported):
    rows = [
        battle(question_id="q2", conversation_b=[*CHAT[:3], assistant("Water.")]),
        battle(question_id="q3", conversation_b=CHAT),
    ]
    (late, same), _ = imported(ARENA, *rows)
    assert late.prompt == same.prompt == CHAT[:3]
    assert late.responses == ([assistant("Taste.")], [assistant("Water.")])
    assert same.identical


def test_arena_a_battle_that_stands_twice_counts_once_and_the_100k_has_hashes(imported):
    # the same number in another release
    files = {"33k.jsonl": [battle(), battle()], "100k.jsonl": [battle("100k")]}
    examples, report = imported(ARENA, files=files)
    assert [(one.data_subset, one.judgements) for one in examples] == [
        ("100k", by(**{"9f3c": 0.0})),
        ("33k", by(arena_user_7=0.0)),
    ]
    assert examples[0].columns["is_refusal"] is True
    assert report.left_out == {"battles that occur twice, by their id": 1}


def test_arena_a_later_vote_has_the_session_before_it_and_not_after(imported):
    after = battle("140k", id="after")
    after["full_conversation"][3]["model_side_a"] = None  # said after the vote
    ties = [
        battle("140k", id=said, winner=said, evaluation_order=1) for said in ("tie", "both_bad")
    ]
    examples, _ = imported(ARENA, battle("140k"), after, *ties)
    turns = [m for n in (1, 2) for m in (user(f"Question {n}?"), assistant(f"a{n}"))]
    for example in examples[:2]:
        assert example.prompt == [user("Question 0?")]
        assert example.responses[0] == [assistant("a0"), *turns]
        assert example.judgements == (Judgement(Comparison(0, 1, 1.0)),)
    for example, answer in zip(examples[2:], (Comparison(0, 1, 0.5), Abstention()), strict=True):
        assert (example.prompt, example.responses[0]) == (turns[:1], turns[1:])
        assert example.judgements == (Judgement(answer),)
    assert examples[0].columns["evaluation_session_id"] == "s1"


def test_arena_a_later_vote_without_its_context_is_left_out(imported):
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


def test_arena_flags_of_the_csv_file(imported):
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


ANSWER = parts(assistant("a"))
NOT_COMPARABLE = {
    "battles with an image, or with a message that is missing": [
        battle("55k", response_a='["Yes.", null]'),
        first(parts(user("?"), type="image"), ANSWER),
        first(parts(user("?"), image="cat.png"), ANSWER),
        first({**user("?"), "content": []}, ANSWER),
    ],
    "battles whose texts contain half a character": [
        battle("55k", response_b='["No.", "\\ud83d"]'),
    ],
    "battles with different numbers of questions and answers": [
        battle("55k", response_b=json.dumps(["No."])),
    ],
    "battles with an empty question": [battle("55k", prompt='["", "Why?"]')],
    "battles in which a side does not end with an answer": [battle(conversation_a=[user("Tea?")])],
    "battles in which the user asks the two models different questions": [
        battle(conversation_a=CHAT[:2]),
    ],
}


@pytest.mark.parametrize(
    ("one", "reason"),
    [(one, reason) for reason, battles in NOT_COMPARABLE.items() for one in battles],
)
def test_arena_battles_that_cannot_be_compared(one, reason, refused):
    refused(rf"nothing was found to import; left out: {reason} \(1\)", ARENA, one)


def message(name, parent, **columns):
    """A message; one with an even number of dots in its name is a user's."""
    role = "assistant" if name.count(".") % 2 else "prompter"
    told = {"message_id": name, "parent_id": parent, "text": f"text of {name}", "role": role}
    of_tree = {"message_tree_id": name.split(".")[0]}
    return {**REPLY, "labels": None, **told, **of_tree, **columns}


REPLY = row("oasst")["prompt"]["replies"][0]
LABELS = {"quality": {"value": 0.75, "count": 3}, "spam": {"value": 0.0, "count": 2}}
MESSAGES = (
    message("t", None, labels=LABELS),
    message("t.1", "t", rank=1, labels=LABELS),
    message("t.2", "t", rank=0, labels={"quality": {"value": None, "count": 0}}),
    message("t.1.1", "t.1"),
    message("t.1.1.1", "t.1.1", labels={"humor": {"value": 0.5, "count": 1}}),
)


def tree(messages):
    """Put messages into the tree that they make."""
    nodes = {one["message_id"]: {**one, "replies": []} for one in messages}
    for node in nodes.values():
        node.pop("message_tree_id")
        if node["parent_id"] in nodes:
            nodes[node["parent_id"]]["replies"].append(node)
    return {"message_tree_id": "t", "tree_state": "ready_for_export", "prompt": nodes["t"]}


def in_lists(one):
    """Write labels as the parquet files have them: lists of names, values and counts."""
    given = one["labels"]
    if given is None:
        return one
    columns = {key: [label[key] for label in given.values()] for key in ("value", "count")}
    return {**one, "labels": {"name": list(given), **columns}}


def found(examples):
    return [
        (one.data_subset, one.columns.get("item"), one.judgements[0].answer) for one in examples
    ]


def test_oasst_labels_of_answers_and_rankings(imported):
    examples, report = imported("oasst", *MESSAGES)
    assert found(examples) == [
        ("quality", "t.1", Rating(0, 0.75)),
        ("spam", "t.1", Rating(0, 0.0)),
        ("humor", "t.1.1.1", Rating(0, 0.5)),
        ("ranking", None, Ranking((2, 1))),
    ]
    quality, _, humor, ranking = examples
    assert quality.columns == {
        "prompt": [user("text of t")],
        "responses": ["text of t.1"],
        "judgements": [{"response": 0, "rating": 0.75, "count": 3}],
        "objective": "quality",
        "data_subset": "quality",
        "item": "t.1",
        "lang": "en",
        "message_tree_id": "t",
    }
    asked = [user("text of t"), assistant("text of t.1"), user("text of t.1.1")]
    assert humor.prompt == asked
    assert (ranking.objective, ranking.prompt) == (None, quality.prompt)
    assert ranking.columns["items"] == ["t.1", "t.2"]
    assert report.left_out == {
        "labelled user messages, which are not answers": 1,
        "labels without a value": 1,
    }


def test_oasst_trees_and_tables_say_the_same_in_any_order(imported, refused):
    messages, report = imported("oasst", *MESSAGES)
    for rows, file in (
        ([tree(MESSAGES)], "trees.jsonl"),
        ([in_lists(one) for one in MESSAGES], "t.parquet"),
        ([in_lists(one) for one in MESSAGES], "t.jsonl"),
    ):
        same, other = imported("oasst", *rows, file=file)
        assert (same, other.left_out) == (messages, report.left_out)
    backwards, _ = imported("oasst", *MESSAGES[::-1])
    names = [("humor", "t.1.1.1"), ("quality", "t.1"), ("spam", "t.1"), ("ranking", None)]
    assert [one[:2] for one in found(backwards)] == names
    assert backwards[3].judgements[0].answer == Ranking((1, 2))
    files = {"m.jsonl": MESSAGES, "trees.jsonl": [tree(MESSAGES)]}
    refused(r"m\.jsonl, line 1, field 'message_id': message t occurs twice", "oasst", files=files)
    odd = [MESSAGES[0], {**MESSAGES[1], "rank": -1}, MESSAGES[2]]
    refused("line 2, field 'rank': an integer of at least 0 is needed", "oasst", *odd)


def test_oasst_answers_without_their_thread_and_deleted_ones(imported):
    rows = [
        *MESSAGES[:2],
        message("t.2", "t", rank=0, labels=LABELS, deleted=True),
        message("t.3", "t"),
        *(message("u.1", "u", rank=0, labels=LABELS), message("v.1", None, labels=LABELS)),
        *(message("a.1", "b", labels=LABELS), message("b", "a.1")),  # they answer each other
    ]
    examples, report = imported("oasst", *rows)
    assert [one[:2] for one in found(examples)] == [("quality", "t.1"), ("spam", "t.1")]
    assert report.left_out == {
        "labelled user messages, which are not answers": 1,
        "answers that were deleted": 1,
        "answers to a message that is not in the files": 3,
    }
