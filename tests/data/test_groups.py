"""What a division leaves together: conversations of one first question, or a column's value."""

from __future__ import annotations

from typing import Any

import pytest

from hidden_context.data.example import Example
from hidden_context.data.groups import SplitOptions, first_question
from hidden_context.data.importers import read_row
from hidden_context.data.splits import folds, split_by_prompt
from hidden_context.errors import DataError


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def votes(questions: int = 80) -> list[dict[str, Any]]:
    """Chats without a prompt column: first and second turns, whose first answers differ."""
    rows = []
    for number in range(questions):
        for answer in "abc":
            first = [user(f"question {number}"), assistant(f"answer {answer}")]
            rows.append({"chosen": first, "rejected": [first[0], assistant("no answer")]})
            before = [*first, user(f"and then {number}?")]
            rows.append(
                {"chosen": [*before, assistant("good")], "rejected": [*before, assistant("bad")]}
            )
    return [row | {"number": place // 6} for place, row in enumerate(rows)]


def as_text(messages: list[dict[str, str]], end: str = "\n") -> str:
    names = {"user": "Human", "assistant": "Assistant"}
    return "".join(f"{end}{end}{names[m['role']]}: {m['content']}" for m in messages)


def questions(examples: list[Example]) -> set[int]:
    return {example.columns["number"] for example in examples}


@pytest.mark.parametrize("kind", ["chats", "text"])
def test_no_first_question_stands_on_both_sides(kind: str) -> None:
    rows = votes()
    if kind == "text":
        rows = [row | {side: as_text(row[side]) for side in ("chosen", "rejected")} for row in rows]
    examples = [read_row(row) for row in rows]
    for fraction in (0.1, 0.3):
        rest, held_out = split_by_prompt(examples, fraction)
        assert held_out
        assert not questions(rest) & questions(held_out)
    for rest, held_out in folds(examples, 5):
        assert not questions(rest) & questions(held_out)


def test_the_first_question_is_the_same_in_every_format() -> None:
    chats = [user("Tea  or\ncoffee?"), assistant("Tea."), user("Why?")]
    sides = {"chosen": "So.", "rejected": "No."}
    whole = {side: [*chats, assistant(text)] for side, text in sides.items()}
    system = {"role": "system", "content": "You are terse."}
    texts = {side: as_text(messages) for side, messages in whole.items()}
    rows: list[dict[str, Any]] = [
        whole,
        texts,
        {side: text.replace("\n", "\r\n") for side, text in texts.items()},
        {side: text.removeprefix("\n\n") for side, text in texts.items()},
        {side: f"A dialogue.{text}" for side, text in texts.items()},
        {"prompt": chats} | {side: [assistant(text)] for side, text in sides.items()},
        {"prompt": [system, *chats]} | {side: [assistant(text)] for side, text in sides.items()},
        {"prompt": as_text(chats)} | sides,
        {"prompt": as_text(chats) + "\n\nAssistant:"} | sides,
        {"prompt": "Tea  or\ncoffee?"} | sides,
        {"prompt": "Tea  or\ncoffee?"} | whole,
        {"prompt": "Tea or coffee?\n\nAssistant: Tea.\n\nHuman: Why?\n\nAssistant:"} | sides,
        {side: [system, *messages] for side, messages in whole.items()},
        {"prompt": [system]} | whole,
        {"prompt": chats, "responses": ["So.", "No."], "ranks": [1, 2]},
        {"messages": whole["chosen"], "rating": 3},
    ]
    assert [first_question(read_row(row)) for row in rows] == ["Tea or coffee?"] * len(rows)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Tea?", "chosen": " a", "rejected": " b"},
        {"prompt": "Tea? Human: no", "chosen": " a", "rejected": " b\n\nHuman: c\n\nAssistant: d"},
        {"prompt": "\n\nHuman: Tea?\n\nAssistant:", "chosen": " a", "rejected": " b"},
        {
            "chosen": "\n\nHuman: Tea?\n\nAssistant: a",
            "rejected": "\n\nHuman: Tea?\n\nAssistant: b",
        },
        {"chosen": [user("Tea?"), assistant("a")], "rejected": [user("Tea?"), assistant("b")]},
        {"chosen": "some text a", "rejected": "some text b"},
        {"chosen": "a", "rejected": "b"},
        {"chosen": "\n\nAssistant: a", "rejected": "\n\nAssistant: b"},
    ],
)
def test_prompts_of_one_turn_keep_their_sides(row: dict[str, Any]) -> None:
    """What is hashed for them is what always was."""
    example = read_row(row)
    assert first_question(example) == example.prompt_key


def test_sides_that_begin_with_different_questions_belong_to_both() -> None:
    row = {"chosen": [user("a"), assistant("x")], "rejected": [user("b"), assistant("y")]}
    assert first_question(read_row(row)) == "a\0b"


def pair(**columns: Any) -> Example:
    return read_row({"prompt": "p", "chosen": " a", "rejected": " b"} | columns, line=7)


def test_a_column_s_values_are_spelt_alike() -> None:
    def key(value: Any) -> str:
        return SplitOptions("topic").keys([pair(topic=value)])[0]

    assert key("Ban  bottles ") == key("Ban bottles")
    assert key(3) == key(3.0) == key("3")
    assert key({"b": 1, "a": [{"c": 2, "d": None}]}) == key({"a": [{"c": 2}], "b": 1, "e": None})
    assert key(False) == "false"


@pytest.mark.parametrize("value", [None, "", " ", float("nan")])
def test_an_empty_value_is_an_error_that_names_the_row(value: Any) -> None:
    examples = [pair(topic="a"), pair(topic=value)]
    with pytest.raises(
        DataError, match=r"file, line 7, field 'topic': 1 of 2 examples have no"
    ) as e:
        SplitOptions("topic").keys(examples, "file")
    assert "there: prompt, chosen, rejected, topic" in str(e.value)
    with pytest.raises(DataError, match="2 of 2 examples have no value"):
        split_by_prompt(examples, 0.5, options=SplitOptions("topics"))


def test_data_of_one_prompt_is_divided_by_annotator_or_response() -> None:
    who = [pair(annotator=f"judge {n % 20}") for n in range(100)]
    options = SplitOptions("annotator")
    rest, held_out = split_by_prompt(who, 0.5, options=options)
    assert len(rest) + len(held_out) == 100
    assert not {*options.keys(rest)} & {*options.keys(held_out)}
    said = [pair(annotations=[{"annotator": "ann", "preference": 1}])]
    assert options.keys(said) == ["ann"]
    several = [{"annotator": "ann", "preference": 1}, {"annotator": "bob", "preference": 0}]
    with pytest.raises(DataError, match=r"judgements of this example differ in it \(ann, bob\)"):
        options.keys([pair(annotations=several)])
    by_response = SplitOptions("response")
    one, swapped, other = (
        pair(chosen=" x", rejected=" y"),
        pair(chosen=" y", rejected=" x"),
        pair(chosen=" x", rejected=" z"),
    )
    assert by_response.keys([one])[0] == by_response.keys([swapped])[0]
    assert by_response.keys([one])[0] != by_response.keys([other])[0]
    rated = read_row({"prompt": "p", "response": "x", "rating": 1})
    assert by_response.keys([rated]) == ["x"]
