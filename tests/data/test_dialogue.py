import pytest
from hypothesis import given
from hypothesis import strategies as st

from hidden_context.data.dialogue import (
    canonical_prompt,
    common_prefix_length,
    last_turns,
    shared_prompt,
)
from support.rows import assistant, user

CALL = {
    "role": "assistant",
    "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}],
}
CALL_TEXT = '{"arguments": {"x": 1}, "name": "f"}'

SPELLINGS = {
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
def test_the_response_is_found_however_turns_are_divided(spelling, earlier):
    chosen, rejected = (
        SPELLINGS[spelling](f"{earlier}\n\nHuman: Tea\nor rain?\n\nAssistant: {word}.")
        for word in ("Tea", "Rain")
    )
    turns = ("Tea\nor rain?", "Tea.")
    assert last_turns(chosen) == turns
    prompt = shared_prompt(chosen, rejected)
    assert prompt == chosen[: chosen.index("Tea.") - 1]
    assert last_turns(chosen, prompt) == turns


TURN = "\n\nHuman: a\n\nAssistant:"
CHAT = [user("a"), assistant("b"), user("c"), assistant("d"), user("e")]
TWO = "b\n\nHuman: c\n\nAssistant: d"


@pytest.mark.parametrize(
    ("conversation", "turns", "prompt"),
    [
        # all that follows a known prompt is the response
        (f"{TURN} {TWO}\n\nHuman: e\n\nAssistant:", ("a", TWO), TURN),
        (CHAT, ("a", TWO), CHAT[:1]),
        (f"{TURN} ", ("a", ""), TURN),
        ("other", ("", "other"), TURN),
        ("Q: why?\nBecause.", ("Q: why?", "Because."), "Q: why?\n"),
        # an answer may quote a dialogue
        (f"{TURN} As:\nHuman: b\nAssistant: c", ("a", "As:\nHuman: b\nAssistant: c"), None),
        ("Human: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:", ("c", ""), None),
        ("Human: a", ("a", ""), None),
        ("plain", ("", "plain"), None),
        ("", ("", ""), None),
        ([user("a"), assistant("b"), user("c"), assistant("d")], ("c", "d"), None),
        ([user("a"), assistant("b"), user("c")], ("a", "b"), None),
        ([user("a"), assistant("b"), user("c"), assistant("")], ("c", ""), None),
        ([{"role": "system", "content": "s"}, user("a")], ("a", ""), None),
        (
            [user("a"), CALL, {"role": "tool", "content": "7"}, assistant("b")],
            ("a", CALL_TEXT + "\n\ntool: 7\n\nAssistant: b"),
            None,
        ),
    ],
)
def test_last_turns(conversation, turns, prompt):
    assert last_turns(conversation, prompt) == turns


@given(st.text("ab", max_size=12), st.text("ab", max_size=12))
def test_common_prefix_length_is_that_of_the_definition(first, second):
    pairs = enumerate(zip(first, second, strict=False))
    shortest = min(len(first), len(second))
    expected = next((i for i, (a, b) in pairs if a != b), shortest)
    assert common_prefix_length(first, second) == expected


@pytest.mark.parametrize(
    "prompt",
    [
        "\n\nHuman: hi you\n\nAssistant: ok\n\nHuman: go  on\n\nAssistant:",
        "Human: hi you\n\nAssistant: ok\n\nHuman: go on\n\nAssistant: ",
        "Human: hi you\n\nAssistant: ok\n\nHuman: go on",
        [user("hi you"), assistant("ok"), user("go on\n")],
    ],
)
def test_canonical_prompt_is_the_same_in_every_format(prompt):
    assert canonical_prompt(prompt) == "hi you Assistant: ok Human: go on"
