from __future__ import annotations

from typing import Any

import pytest

from hidden_context.data.checks import (
    Place,
    describe,
    read_annotator,
    read_conversation,
    read_integer,
    read_number,
    read_weight,
)
from hidden_context.errors import DataError


def test_values_are_named_by_their_kind_and_cut() -> None:
    assert describe(None) == "null"
    assert describe(True) == "a truth value (True)"
    assert describe([1]) == "a list ([1])"
    assert describe("x" * 60) == "text ('" + "x" * 36 + "...)"


def test_numbers_and_nulls() -> None:
    assert read_number(2, "a") == 2.0
    assert read_number(None, "a") is None
    assert read_number(1, "a", low=0.0, high=1.0) == 1.0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (float("inf"), r"finite number is needed, not a number \(inf\)"),
        (10**400, "finite"),
        (False, "not a truth value"),
        ("1", r"not text \('1'\)"),
        (-0.5, "from 0 to 1 is needed, not -0.5"),
    ],
)
def test_what_is_no_number(value: Any, text: str) -> None:
    with pytest.raises(DataError, match=text) as caught:
        read_number(value, "a", Place("f", 2), low=0.0, high=1.0)
    error = caught.value
    assert (error.file, error.line, error.field) == ("f", 2, "a")
    assert error.remedy == "Leave 'a' out or null where it is not known"


def test_integers_may_be_written_as_floats() -> None:
    value = read_integer(2.0, "a")
    assert (value, type(value)) == (2, int)
    assert read_integer(-3, "a", low=-3) == -3
    assert read_integer(None, "a") is None
    who = read_annotator(7.0, "a")  # as a table with nulls holds it
    assert (who, type(who)) == (7, int)
    for value in (7.5, float("nan"), True):
        with pytest.raises(DataError, match="text or an integer is needed"):
            read_annotator(value, "a")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.5, r"an integer is needed, not a number \(2\.5\)"),
        (float("nan"), "not a number"),
        (float("inf"), "not a number"),
        (True, "not a truth value"),
        ("2", "not text"),
        (11, "an integer from 1 to 10 is needed, not 11"),
    ],
)
def test_what_is_no_integer(value: Any, text: str) -> None:
    with pytest.raises(DataError, match=text) as caught:
        read_integer(value, "a", low=1, high=10, remedy="Do")
    assert (caught.value.field, caught.value.remedy) == ("a", "Do")


def test_an_integer_with_a_least_value_only() -> None:
    with pytest.raises(DataError, match="an integer of at least 1 is needed, not 0"):
        read_integer(0, "a", low=1)


def test_weights_are_positive() -> None:
    assert (read_weight(None), read_weight(3), read_weight(0.25)) == (1.0, 3.0, 0.25)
    for value in (0, -1, float("inf"), float("nan"), "1", True):
        with pytest.raises(DataError, match="a positive finite number is needed") as caught:
            read_weight(value, Place("f", 4))
        assert (caught.value.field, caught.value.line) == ("weight", 4)


def test_text_parts_are_joined() -> None:
    parts = [
        {"type": "text", "text": "a "},
        {"type": "text", "text": "b", "image_url": None},
        {"text": "c"},
    ]
    messages = [{"role": "user", "content": parts, "name": None}]
    assert read_conversation(messages, "chosen") == [{"role": "user", "content": "a bc"}]
    assert read_conversation([{"role": "user", "content": []}], "chosen")[0]["content"] == ""


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ({"type": "image"}, "not a part of type 'image'"),
        ({"type": "image_url", "image_url": {"url": "x"}}, "not a part of type 'image_url'"),
        ({"type": "input_audio", "text": "a"}, "not a part of type 'input_audio'"),
        ({"type": "text", "text": None}, r"not a dict \(\{'type': 'text'\}\)"),
        ({"image": "x.png"}, "not a dict"),
        ("a", "not text"),
        (None, "not null"),
    ],
)
def test_other_parts_are_refused_by_name(part: Any, text: str) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "a"}, part]}]
    with pytest.raises(DataError, match=f"the models read text alone, {text}") as caught:
        read_conversation(messages, "chosen", Place("f.jsonl", 3))
    error = caught.value
    assert (error.file, error.line, error.field) == ("f.jsonl", 3, "chosen[0].content[1]")


def test_half_characters_in_tool_calls() -> None:
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "f\ud800"}}]}
    with pytest.raises(DataError, match="half a character"):
        read_conversation([call], "chosen")
