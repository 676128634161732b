from functools import partial

import pytest

from hidden_context.data.checks import (
    Place,
    read_annotator,
    read_conversation,
    read_integer,
    read_number,
    read_weight,
)
from hidden_context.errors import DataError


def test_numbers_integers_annotators_and_weights():
    assert [read_number(value, "a", low=0.0) for value in (2, None)] == [2.0, None]
    assert [read_weight(value) for value in (None, 3, 0.25)] == [1.0, 3.0, 0.25]
    assert [read_integer(value, "a", low=-3) for value in (2.0, -3, None)] == [2, -3, None]
    names = [read_annotator(value, "a") for value in (7.0, "7", 7, "", None)]
    assert names == [7, "7", 7, None, None]
    whole = (read_integer(2.0, "a"), read_annotator(7.0, "a"))  # as a table with nulls holds them
    assert [type(value) for value in whole] == [int, int]


NUMBERS = partial(read_number, low=0.0, high=1.0)
INTEGERS = partial(read_integer, low=1, high=10, remedy="Do")


def weights(value, field, place):
    return read_weight(value, place, field)


@pytest.mark.parametrize(
    ("read", "value", "text"),
    [
        (NUMBERS, float("inf"), r"finite number is needed, not a number \(inf\)"),
        (NUMBERS, 10**400, "finite"),
        (NUMBERS, False, "not a truth value"),
        (NUMBERS, "1", r"not text \('1'\).* Leave 'a' out or null where it is not known"),
        (NUMBERS, "x" * 60, r"not text \('x{36}\.\.\.\)"),
        (NUMBERS, [1], r"not a list \(\[1\]\)"),
        (NUMBERS, -0.5, "from 0 to 1 is needed, not -0.5"),
        (INTEGERS, 2.5, r"an integer is needed, not a number \(2\.5\)\. Do\."),
        *((INTEGERS, value, "not a number") for value in (float("nan"), float("inf"))),
        (INTEGERS, True, "not a truth value"),
        (INTEGERS, "2", "not text"),
        (INTEGERS, 11, "an integer from 1 to 10 is needed, not 11"),
        (partial(read_integer, low=1), 0, "an integer of at least 1 is needed, not 0"),
        *((read_annotator, v, "text or an integer is needed") for v in (7.5, float("nan"), True)),
        *(
            (weights, v, "a positive finite")
            for v in (0, -1, float("inf"), float("nan"), "1", True)
        ),
    ],
)
def test_other_values_are_refused_with_their_place(read, value, text):
    with pytest.raises(DataError, match=f"^f, line 2, field 'a': .*{text}"):
        read(value, "a", Place("f", 2))


def test_text_parts_are_joined():
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
def test_other_parts_are_refused_by_name(part, text):
    messages = [{"role": "user", "content": [{"type": "text", "text": "a"}, part]}]
    with pytest.raises(DataError, match=f"the models read text alone, {text}") as caught:
        read_conversation(messages, "chosen", Place("f.jsonl", 3))
    error = caught.value
    assert (error.file, error.line, error.field) == ("f.jsonl", 3, "chosen[0].content[1]")


def test_half_characters_in_tool_calls():
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "f\ud800"}}]}
    with pytest.raises(DataError, match="half a character"):
        read_conversation([call], "chosen")
