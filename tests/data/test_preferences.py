from __future__ import annotations

from typing import Any

import pytest

from hidden_context.data.preferences import has_blank_side, parse_preference
from hidden_context.errors import DataError


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def test_implicit_prompt_leaves_texts_and_columns_as_they_are() -> None:
    row = {
        "chosen": "\n\nHuman: a\n\nAssistant: b",
        "rejected": "\n\nHuman: a\n\nAssistant: c",
        "label": 1,
        "extra": [1],
    }
    preference = parse_preference(row)
    assert (preference.chosen, preference.rejected) == (row["chosen"], row["rejected"])
    assert preference.prompt == "\n\nHuman: a\n\nAssistant:"
    assert preference.columns is row
    assert (preference.prompt_key, preference.preference, preference.margin) == ("a", 1.0, None)


def test_explicit_prompt_is_put_before_both_sides() -> None:
    preference = parse_preference({"prompt": "The sky is", "chosen": " blue", "rejected": " red"})
    assert (preference.chosen, preference.rejected) == ("The sky is blue", "The sky is red")
    assert preference.prompt == "The sky is"


@pytest.mark.parametrize("lead", ["", "\n\n"])
def test_prompt_that_is_inside_is_not_added_again(lead: str) -> None:
    row = {
        "prompt": "Human: a",
        "chosen": f"{lead}Human: a\n\nAssistant: b",
        "rejected": f"{lead}Human: a\n\nAssistant: c",
    }
    preference = parse_preference(row)
    assert (preference.chosen, preference.rejected) == (row["chosen"], row["rejected"])
    assert preference.prompt_key == "a"
    assert preference.chosen.startswith(preference.prompt)


def test_prompt_inside_one_side_only_is_added_to_both() -> None:
    preference = parse_preference({"prompt": "a", "chosen": "a cat", "rejected": "the dog"})
    assert (preference.chosen, preference.rejected) == ("aa cat", "athe dog")


@pytest.mark.parametrize(
    "row",
    [
        {"chosen": [user("a"), assistant("b")], "rejected": [user("a"), assistant("c")]},
        {"prompt": [user("a")], "chosen": [assistant("b")], "rejected": [assistant("c")]},
        {"prompt": [user("a")], "chosen": "b", "rejected": "c"},
        {"prompt": "a", "chosen": [assistant("b")], "rejected": [assistant("c")]},
        {
            "prompt": "a",
            "chosen": [user("a"), assistant("b")],
            "rejected": [user("a"), assistant("c")],
        },
        {
            "prompt": [user("a")],
            "chosen": [user("a"), assistant("b")],
            "rejected": [user("a"), assistant("c")],
        },
    ],
)
def test_every_spelling_of_a_chat_gives_the_same_preference(row: dict[str, Any]) -> None:
    preference = parse_preference(row)
    assert preference.prompt == [user("a")]
    assert preference.chosen == [user("a"), assistant("b")]
    assert preference.rejected == [user("a"), assistant("c")]
    assert preference.prompt_key == "a"


def test_prompt_key_of_pairs_without_a_shared_beginning() -> None:
    one = parse_preference({"chosen": "x", "rejected": "y"})
    swapped = parse_preference({"chosen": "y", "rejected": "x"})
    other = parse_preference({"chosen": "x", "rejected": "z"})
    assert one.prompt_key == swapped.prompt_key != other.prompt_key


def test_optional_columns() -> None:
    row = {"chosen": "a", "rejected": "b", "margin": 2, "preference": 0.5, "annotator": 7}
    preference = parse_preference({**row, "objective": "helpful", "data_subset": "s"})
    assert (preference.margin, preference.preference, preference.annotator) == (2.0, 0.5, 7)
    assert (preference.objective, preference.data_subset) == ("helpful", "s")
    nulls = dict.fromkeys(("margin", "preference", "annotator", "data_subset", "prompt"))
    assert parse_preference({"chosen": "a", "rejected": "b", **nulls}).preference == 1.0


def test_ratings_and_weight() -> None:
    row = {"chosen": "a", "rejected": "b", "rating_chosen": 4, "rating_rejected": -0.5}
    preference = parse_preference({**row, "weight": 2})
    assert (preference.rating_chosen, preference.rating_rejected) == (4.0, -0.5)
    assert (preference.weight, type(preference.weight)) == (2.0, float)
    plain = parse_preference({"chosen": "a", "rejected": "b", "weight": None})
    assert (plain.rating_chosen, plain.rating_rejected, plain.weight) == (None, None, 1.0)
    assert plain.strength is None


def test_an_empty_annotator_is_none() -> None:
    preference = parse_preference({"chosen": "a", "rejected": "b", "annotator": ""})
    assert (preference.annotator, preference.annotations[0].annotator) == (None, None)


@pytest.mark.parametrize(
    ("change", "field", "text"),
    [
        ({"chosen": 3}, "chosen", r"not a number \(3\)"),
        ({"chosen": None}, "chosen", "null"),
        ({"rejected": {"role": "user"}}, "rejected", "not a dict"),
        ({"rejected": [user("x")]}, "rejected", "both text or both chat"),
        ({"margin": "big"}, "margin", "a finite number is needed, not text"),
        ({"margin": float("nan")}, "margin", "finite"),
        ({"preference": 1.5}, "preference", "from 0 to 1"),
        ({"preference": True}, "preference", "not a truth value"),
        ({"data_subset": 3}, "data_subset", "text is needed"),
        ({"annotator": [1]}, "annotator", "text or an integer"),
        ({"rating_chosen": "good"}, "rating_chosen", "a finite number is needed, not text"),
        ({"rating_rejected": float("inf")}, "rating_rejected", "finite"),
        ({"weight": 0}, "weight", "a positive finite number is needed, not a number"),
        ({"weight": -1.0}, "weight", "positive"),
        ({"weight": "heavy"}, "weight", "positive finite number is needed, not text"),
        ({"margin": 10**400}, "margin", "finite"),
        ({"prompt": 3}, "prompt", "not a number"),
        ({"chosen": "half \ud83d"}, "chosen", "half a character"),
        ({"chosen": ["a"]}, "chosen[0]", "a chat message is needed"),
        ({"chosen": [{"content": "a"}]}, "chosen[0]", "'role' has to be text, not null"),
        ({"chosen": [user("a"), {"role": "x", "content": 1}]}, "chosen[1]", "'content'"),
    ],
)
def test_malformed_rows_name_file_line_field(change: dict[str, Any], field: str, text: str) -> None:
    with pytest.raises(DataError, match=text) as caught:
        parse_preference({"chosen": "a", "rejected": "b", **change}, file="f.jsonl", line=3)
    error = caught.value
    assert (error.file, error.line, error.field) == ("f.jsonl", 3, field)
    assert error.remedy
    assert str(error).startswith(f"f.jsonl, line 3, field {field!r}: ")


def test_missing_column_lists_those_that_are_there() -> None:
    with pytest.raises(DataError, match=r"column is missing \('prompt', 'chosen'\)"):
        parse_preference({"prompt": "p", "chosen": "a"})


@pytest.mark.parametrize(
    ("side", "blank"),
    [(" \n", True), ("", True), ([], True), ([assistant(" ")], True), ("a", False)],
)
def test_blank_sides(side: Any, blank: bool) -> None:
    other = "a" if isinstance(side, str) else [assistant("a")]
    assert has_blank_side({"chosen": other, "rejected": side}) is blank


def test_the_line_is_kept_but_makes_no_difference() -> None:
    row = {"chosen": "a", "rejected": "b"}
    first, second = parse_preference(row, line=7), parse_preference(row)
    assert (first.source_line, second.source_line) == (7, None)
    assert first == second
