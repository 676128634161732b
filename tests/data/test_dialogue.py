from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hidden_context.data.dialogue import (
    assistant_text,
    canonical_prompt,
    common_prefix_length,
    join,
    last_turns,
    shared_prompt,
)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


@pytest.mark.parametrize(
    ("prompt", "response", "text"),
    [
        ("Human: hi\n\nAssistant: ", "yo", "Human: hi\n\nAssistant: yo"),
        ("Human: hi\n\nAssistant:", " yo", "Human: hi\n\nAssistant: yo"),
        ("Human: hi\n\nAssistant:", "yo", "Human: hi\n\nAssistant: yo"),
        ("Human: hi", "yo", "Human: hi\n\nAssistant: yo"),
        ("Human: hi\r\n\r\nAssistant:", "yo", "Human: hi\r\n\r\nAssistant: yo"),
        ("Human: hi\nAssistant:", "yo", "Human: hi\nAssistant: yo"),
        ("Human: hi", " yo", "Human: hi\n\nAssistant: yo"),
        ("\n\nHuman: hi", "\n\nAssistant: yo", "\n\nHuman: hi\n\nAssistant: yo"),
        ("Human: hi\n\nAssistant: Sure, ", "yo", "Human: hi\n\nAssistant: Sure, yo"),
        ("The sky is", " blue", "The sky is blue"),
        ("The Human: being is", " blue", "The Human: being is blue"),
    ],
)
def test_join_spells_dialogues_as_the_training_texts(prompt: str, response: str, text: str) -> None:
    assert join(prompt, response) == text


def test_join_of_messages() -> None:
    assert join([user("hi")], "yo") == [user("hi"), assistant("yo")]
    assert join("hi", [assistant("yo")]) == [user("hi"), assistant("yo")]
    assert join([user("hi")], [assistant("yo")]) == [user("hi"), assistant("yo")]


def test_assistant_text_begins_at_the_first_human_turn() -> None:
    prompt = "Be kind.\n\nHuman: hi\n\nAssistant: a\n\nHuman: b\n\nAssistant: "
    assert assistant_text(prompt, "c") == ("Human: hi\n\nAssistant: a\n\nHuman: b\n\nAssistant: c")
    assert assistant_text("no marks ", "c") == "no marks c"


CALL: dict[str, Any] = {
    "role": "assistant",
    "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}],
}
CALL_TEXT = '{"arguments": {"x": 1}, "name": "f"}'

SPELLINGS: dict[str, Callable[[str], str]] = {
    "blank lines": lambda text: text,
    "Windows": lambda text: text.replace("\n", "\r\n"),
    "old Macs": lambda text: text.replace("\n", "\r"),
    "blank lines with spaces": lambda text: text.replace("\n\n", "\n \t\n"),
    "single lines": lambda text: text.strip().replace("\n\n", "\n"),
    "single lines of Windows": lambda text: text.strip().replace("\n\n", "\r\n"),
    "system text": lambda text: "Be kind." + text,
    "trailing human turn": lambda text: text + "\n\nHuman: Thanks.",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("earlier", ["", "\n\nHuman: Hi\n\nAssistant: Yes?"])
def test_the_response_is_found_however_turns_are_divided(spelling: str, earlier: str) -> None:
    chosen, rejected = (
        SPELLINGS[spelling](f"{earlier}\n\nHuman: Tea\nor rain?\n\nAssistant: {word}.")
        for word in ("Tea", "Rain")
    )
    turns = ("Tea\nor rain?", "Tea.")
    assert last_turns(chosen) == turns
    prompt = shared_prompt(chosen, rejected)
    assert prompt == chosen[: chosen.index("Tea.") - 1]
    assert last_turns(chosen, prompt) == turns


def test_all_that_follows_a_known_prompt_is_the_response() -> None:
    start = "\n\nHuman: a\n\nAssistant:"
    text = f"{start} b\n\nHuman: c\n\nAssistant: d\n\nHuman: e\n\nAssistant:"
    assert last_turns(text, start) == ("a", "b\n\nHuman: c\n\nAssistant: d")
    chat = [user("a"), assistant("b"), user("c"), assistant("d"), user("e")]
    assert last_turns(chat, chat[:1]) == ("a", "b\n\nHuman: c\n\nAssistant: d")
    assert last_turns(f"{start} ", start) == ("a", "")
    assert last_turns("other", start) == ("", "other")


def test_an_answer_may_quote_a_dialogue() -> None:
    text = "\n\nHuman: a\n\nAssistant: Such as:\nHuman: b\nAssistant: c"
    assert last_turns(text) == ("a", "Such as:\nHuman: b\nAssistant: c")


@pytest.mark.parametrize(
    ("conversation", "turns"),
    [
        ("\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: d e ", ("c", "d e")),
        ("Human: a\n\nAssistant: b\n\nHuman: c", ("a", "b")),
        ("Human: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:", ("c", "")),
        ("Human: a", ("a", "")),
        ("plain", ("", "plain")),
        ("", ("", "")),
        ([user("a"), assistant("b"), user("c"), assistant("d")], ("c", "d")),
        ([user("a"), assistant("b"), user("c")], ("a", "b")),
        ([user("a"), assistant("b"), user("c"), assistant("")], ("c", "")),
        ([{"role": "system", "content": "s"}, user("a")], ("a", "")),
        (
            [user("a"), CALL, {"role": "tool", "content": "7"}, assistant("b")],
            ("a", CALL_TEXT + "\n\ntool: 7\n\nAssistant: b"),
        ),
    ],
)
def test_last_turns(conversation: Any, turns: tuple[str, str]) -> None:
    assert last_turns(conversation) == turns


def test_last_turns_of_plain_text_with_a_known_prompt() -> None:
    assert last_turns("Q: why?\nBecause.", "Q: why?\n") == ("Q: why?", "Because.")


@given(st.text("ab", max_size=12), st.text("ab", max_size=12))
def test_common_prefix_length_is_that_of_the_definition(first: str, second: str) -> None:
    pairs = enumerate(zip(first, second, strict=False))
    shortest = min(len(first), len(second))
    expected = next((i for i, (a, b) in pairs if a != b), shortest)
    assert common_prefix_length(first, second) == expected


@pytest.mark.parametrize(
    ("chosen", "rejected", "prompt"),
    [
        (
            "\n\nHuman: a\n\nAssistant: b c",
            "\n\nHuman: a\n\nAssistant: b d",
            "\n\nHuman: a\n\nAssistant:",
        ),
        (
            "\n\nHuman: a\n\nAssistant: b",
            "\n\nHuman: a\n\nAssistant: b",
            "\n\nHuman: a\n\nAssistant:",
        ),
        ("Q: x?\nA: yes", "Q: x?\nA: no", "Q: x?\nA:"),
        ("yes", "yes sir", ""),
        ("one", "two", ""),
        ([user("a"), assistant("b")], [user("a"), assistant("c")], [user("a")]),
        ([user("a"), assistant("b")], [user("a"), assistant("b")], [user("a")]),
        ([assistant("b")], [assistant("c")], []),
    ],
)
def test_shared_prompt(chosen: Any, rejected: Any, prompt: Any) -> None:
    assert shared_prompt(chosen, rejected) == prompt


@pytest.mark.parametrize(
    "prompt",
    [
        "\n\nHuman: hi you\n\nAssistant: ok\n\nHuman: go  on\n\nAssistant:",
        "Human: hi you\n\nAssistant: ok\n\nHuman: go on\n\nAssistant: ",
        "Human: hi you\n\nAssistant: ok\n\nHuman: go on",
        [user("hi you"), assistant("ok"), user("go on\n")],
    ],
)
def test_canonical_prompt_is_the_same_in_every_format(prompt: Any) -> None:
    assert canonical_prompt(prompt) == "hi you Assistant: ok Human: go on"
