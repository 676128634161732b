"""Pairs: prompts, whole texts, judgements and errors."""

from __future__ import annotations

from typing import Any

import pytest

from hidden_context.data.example import Comparison, Example, Judgement, Rating
from hidden_context.data.importers import read_row
from hidden_context.data.usable import blank_responses
from hidden_context.errors import DataError


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def pair(**columns: Any) -> Example:
    return read_row({"chosen": "a", "rejected": "b", **columns}, file="f.jsonl", line=3)


def test_no_messages_behind_a_prompt_in_text_are_a_blank_side() -> None:
    example = pair(prompt="Q?", chosen=[], rejected=[assistant("b")])
    assert example.prompt == [{"role": "user", "content": "Q?"}]
    assert example.responses == ([], [assistant("b")])


def test_implicit_prompt_leaves_texts_and_columns_as_they_are() -> None:
    row = {
        "chosen": "\n\nHuman: a\n\nAssistant: b",
        "rejected": "\n\nHuman: a\n\nAssistant: c",
        "label": 1,
        "extra": [1],
    }
    example = read_row(row)
    assert example.texts == (row["chosen"], row["rejected"])
    assert example.prompt == "\n\nHuman: a\n\nAssistant:"
    assert example.columns is row
    assert example.responses == (" b", " c")
    assert example.prompt_key == "a"
    assert example.judgements == (Judgement(Comparison(0, 1, 1.0, None, None)),)


def test_explicit_prompt_is_put_before_both_sides() -> None:
    example = read_row({"prompt": "The sky is", "chosen": " blue", "rejected": " red"})
    assert example.texts == ("The sky is blue", "The sky is red")
    assert example.prompt == "The sky is"


@pytest.mark.parametrize("lead", ["", "\n\n"])
def test_prompt_that_is_inside_is_not_added_again(lead: str) -> None:
    row = {
        "prompt": "Human: a",
        "chosen": f"{lead}Human: a\n\nAssistant: b",
        "rejected": f"{lead}Human: a\n\nAssistant: c",
    }
    example = read_row(row)
    assert example.texts == (row["chosen"], row["rejected"])
    assert example.prompt_key == "a"
    assert example.texts[0].startswith(example.prompt)


def test_prompt_inside_one_side_only_is_added_to_both() -> None:
    example = read_row({"prompt": "a", "chosen": "a cat", "rejected": "the dog"})
    assert example.texts == ("aa cat", "athe dog")


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
def test_every_spelling_of_a_chat_gives_the_same_example(row: dict[str, Any]) -> None:
    example = read_row(row)
    assert example.prompt == [user("a")]
    assert example.texts[0] == [user("a"), assistant("b")]
    assert example.texts[1] == [user("a"), assistant("c")]
    assert example.prompt_key == "a"


def test_prompt_key_of_pairs_without_a_shared_beginning() -> None:
    one = read_row({"chosen": "x", "rejected": "y"})
    swapped = read_row({"chosen": "y", "rejected": "x"})
    other = read_row({"chosen": "x", "rejected": "z"})
    assert one.prompt_key == swapped.prompt_key != other.prompt_key


def test_optional_columns() -> None:
    example = pair(
        margin=2, preference=0.5, annotator=7, objective="helpful", data_subset="s", weight=2
    )
    assert example.judgements == (Judgement(Comparison(0, 1, 0.5, None, 2.0), 7, 2.0),)
    assert type(example.judgements[0].weight) is float
    assert (example.objective, example.data_subset) == ("helpful", "s")
    nulls = dict.fromkeys(("margin", "preference", "annotator", "data_subset", "prompt", "weight"))
    assert pair(**nulls).judgements == (Judgement(Comparison(0, 1)),)
    assert pair(annotator="").judgements[0].annotator is None
    assert pair(objective="", data_subset="").objective is None


def test_ratings_are_judgements_of_their_side_by_nobody_known() -> None:
    example = pair(rating_chosen=4, rating_rejected=-0.5, weight=2, annotator="ann")
    assert example.judgements == (
        Judgement(Comparison(0, 1), "ann", 2.0),
        Judgement(Rating(0, 4.0), None, 2.0),
        Judgement(Rating(1, -0.5), None, 2.0),
    )
    assert pair(rating_chosen=None, rating_rejected=3).judgements[1:] == (
        Judgement(Rating(1, 3.0)),
    )


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
        ({"chosen": [3]}, "chosen[0]", "a chat message is needed"),
        ({"chosen": [{"content": "a"}]}, "chosen[0]", "'role' has to be text, not null"),
        ({"chosen": [user("a"), {"role": "x", "content": 1}]}, "chosen[1]", "'content'"),
    ],
)
def test_malformed_rows_name_file_line_field(change: dict[str, Any], field: str, text: str) -> None:
    with pytest.raises(DataError, match=text) as caught:
        read_row({"chosen": "a", "rejected": "b", **change}, file="f.jsonl", line=3)
    error = caught.value
    assert (error.file, error.line, error.field) == ("f.jsonl", 3, field)
    assert error.remedy
    assert str(error).startswith(f"f.jsonl, line 3, field {field!r}: ")


def test_missing_column_lists_those_that_are_there() -> None:
    with pytest.raises(DataError, match=r"column is missing \('prompt', 'chosen'\)"):
        read_row({"prompt": "p", "chosen": "a"})


@pytest.mark.parametrize(
    ("side", "blank"),
    [(" \n", True), ("", True), ([], True), ([assistant(" ")], True), ("a", False)],
)
def test_blank_sides(side: Any, blank: bool) -> None:
    other = "a" if isinstance(side, str) else [assistant("a")]
    assert blank_responses(read_row({"chosen": other, "rejected": side})) == [1] * blank


def test_a_side_that_is_the_prompt_alone_is_not_blank() -> None:
    example = pair(prompt="a", chosen="a", rejected="a b")
    assert example.responses == ("", " b")
    assert blank_responses(example) == []
    by_hand = Example(example.prompt, example.responses)
    assert blank_responses(by_hand) == [0]


def test_the_line_is_kept_but_makes_no_difference() -> None:
    row = {"chosen": "a", "rejected": "b"}
    first, second = read_row(row, line=7), read_row(row)
    assert (first.source_lines, second.source_lines) == ((7,), ())
    assert first == second


TURN = "\n\nHuman: a\n\nAssistant:"


@pytest.mark.parametrize(
    ("row", "prompt", "responses"),
    [
        # no prompt: what both sides share
        ({"chosen": f"{TURN} b", "rejected": f"{TURN} c"}, TURN, (" b", " c")),
        ({"chosen": "to be it", "rejected": "to be not"}, "to be", (" it", " not")),
        ({"chosen": "x", "rejected": "y"}, "", ("x", "y")),
        # put before both
        ({"prompt": "p", "chosen": " b", "rejected": "c"}, "p", (" b", "c")),
        (
            {"prompt": "Human: a", "chosen": "b", "rejected": " c"},
            "Human: a\n\nAssistant: ",
            ("b", "c"),
        ),
        (
            {"prompt": "Human: a", "chosen": "Assistant: b", "rejected": "c"},
            "Human: a\n\nAssistant: ",
            ("b", "c"),
        ),
        (
            {"prompt": "Human: a", "chosen": "Assistant:b", "rejected": "c"},
            "Human: a\n\nAssistant:",
            ("b", " c"),
        ),
        ({"prompt": TURN, "chosen": "b", "rejected": "c"}, f"{TURN} ", ("b", "c")),
        ({"prompt": TURN, "chosen": " b", "rejected": "c"}, TURN, (" b", " c")),
        ({"prompt": TURN, "chosen": "\nb", "rejected": "c"}, TURN, ("\nb", " c")),
        ({"prompt": f"{TURN} ", "chosen": "b", "rejected": "c"}, f"{TURN} ", ("b", "c")),
        # a prompt whose key the words between would change keeps them out
        (
            {"prompt": "Human: say Assistant:", "chosen": "b", "rejected": "c"},
            "Human: say Assistant:",
            ("\n\nAssistant: b", "\n\nAssistant: c"),
        ),
        # inside already, literally or but for white space
        ({"prompt": "a", "chosen": "a b", "rejected": "a c"}, "a", (" b", " c")),
        (
            {"prompt": "Human: a", "chosen": f"{TURN} b", "rejected": f"{TURN} c"},
            TURN,
            (" b", " c"),
        ),
        (
            {"prompt": "Human: a", "chosen": "Human: a b", "rejected": "\n\nHuman: a c"},
            "",
            ("Human: a b", "\n\nHuman: a c"),
        ),
        # inside one side only: before both
        ({"prompt": "a", "chosen": "a b", "rejected": "c"}, "a", ("a b", "c")),
        # messages
        (
            {"prompt": [user("a")], "chosen": "b", "rejected": " "},
            [user("a")],
            ([assistant("b")], [assistant(" ")]),
        ),
        (
            {"prompt": "a", "chosen": [assistant("b")], "rejected": [assistant("c")]},
            [user("a")],
            ([assistant("b")], [assistant("c")]),
        ),
        (
            {"prompt": [user("a")], "chosen": [user("a")], "rejected": [user("a"), assistant("c")]},
            [user("a")],
            ([], [assistant("c")]),
        ),
        (
            {"chosen": [user("a"), assistant("b")], "rejected": [user("x"), assistant("b")]},
            [],
            ([user("a"), assistant("b")], [user("x"), assistant("b")]),
        ),
        ({"chosen": [user("a")], "rejected": [user("a")]}, [], ([user("a")], [user("a")])),
    ],
)
def test_prompts_and_responses_of_every_spelling(
    row: dict[str, Any], prompt: Any, responses: tuple[Any, ...]
) -> None:
    example = read_row(row)
    assert (example.prompt, example.responses) == (prompt, responses)


@pytest.mark.parametrize(
    ("prompt", "side", "text"),
    [
        ("The sky is", " blue", "The sky is blue"),
        ("Human: a", "b", "Human: a\n\nAssistant: b"),
        ("Human: a", "  b", "Human: a\n\nAssistant: b"),
        ("Human: a", "\nb", "Human: a\n\nAssistant: \nb"),
        ("Human: a", "\n\nAssistant: b", "Human: a\n\nAssistant: b"),
        ("Human: a", "\n\nHuman: a\n\nAssistant: b", "\n\nHuman: a\n\nAssistant: b"),
        ("\n\nHuman: a", "Human: a\n\nAssistant: b", "Human: a\n\nAssistant: b"),
        (TURN, "b", f"{TURN} b"),
        (TURN, " b", f"{TURN} b"),
        (TURN, "\nb", f"{TURN}\nb"),
        (f"{TURN} ", "b", f"{TURN} b"),
        (f"{TURN} b\n\nHuman: c", "d", f"{TURN} b\n\nHuman: c\n\nAssistant: d"),
        ([user("a")], "b", [user("a"), assistant("b")]),
        ([user("a")], [assistant("b")], [user("a"), assistant("b")]),
        ([user("a")], [user("a"), assistant("b")], [user("a"), assistant("b")]),
        ("a", [assistant("b")], [user("a"), assistant("b")]),
        ("a", [user("a "), assistant("b")], [user("a "), assistant("b")]),
        ("a", [user("x"), assistant("b")], [user("a"), user("x"), assistant("b")]),
    ],
)
def test_whole_texts_byte_for_byte(prompt: Any, side: Any, text: Any) -> None:
    """The same whole texts, whether a side stands in a pair, a ranking or by itself."""
    other = side + "!" if isinstance(side, str) else [*side[:-1], assistant("!")]
    for first, second in ((side, other), (side, side), (other, side)):
        place = int(first is other)
        row = {"prompt": prompt, "chosen": first, "rejected": second}
        assert read_row(row).text(place) == text
        ranking = {"prompt": prompt, "responses": [first, second, other], "ranks": [1, 2, 3]}
        assert read_row(ranking).text(place) == text
    assert read_row({"prompt": prompt, "response": side, "rating": 1}).text(0) == text
