"""Malformed values and rows of every kind: each error names file, line and field, and a remedy."""

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
from support.rows import pair, ranking, refused, user

MISSING = [
    ({"prompt": "p", "chosen": "a"}, "rejected", r"column is missing \('prompt', 'chosen'\)"),
    ({"prompt": "p", "responses": ["a"]}, "chosen", "is missing.* 'prompt', 'responses' and 'rank"),
    ({"chosen": None, "rejected": None, "text": "a"}, "chosen", "the value is null"),
]
PAIRS = [
    ({"chosen": 3}, "chosen", r"not a number \(3\)"),
    ({"chosen": None}, "chosen", "null"),
    ({"rejected": {"role": "user"}}, "rejected", "not a dict"),
    ({"rejected": [user("x")]}, "rejected", "all text or all chat"),
    ({"margin": "big"}, "margin", "a finite number is needed, not text"),
    ({"preference": 1.5}, "preference", "from 0 to 1"),
    ({"data_subset": 3}, "data_subset", "text is needed"),
    ({"annotator": [1]}, "annotator", "text or an integer"),
    ({"rating_chosen": "good"}, "rating_chosen", "a finite number is needed, not text"),
    ({"weight": 0}, "weight", "a positive finite number is needed, not a number"),
    ({"prompt": 3}, "prompt", "not a number"),
    ({"chosen": "half \ud83d"}, "chosen", "half a character"),
    ({"chosen": [3]}, "chosen[0]", "a chat message is needed"),
    ({"chosen": [{"content": "a"}]}, "chosen[0]", "'role' has to be text, not null"),
    ({"chosen": [user("a"), {"role": "x", "content": 1}]}, "chosen[1]", "'content'"),
    ({"strength": -11}, "strength", "an integer from -10 to 10 is needed, not -11"),
    ({"strength": 99}, "strength", "0 a tie, negative where the rejected side is better"),
    ({"strength": 0.5}, "strength", r"an integer is needed, not a number \(0\.5\)"),
    ({"annotations": []}, "annotations", "at least one annotation is needed, not an empty list"),
    ({"annotations": []}, "annotations", r'Write the column as \[\{"annotator": "a"'),
    ({"annotations": {"a": 1}}, "annotations", r"not a dict \({'a': 1}\)"),
    ({"annotations": "ann"}, "annotations", "not text"),
    ({"annotations": [{}], "preference": -1}, "preference", "from 0 to 1"),
]
ENTRIES_OF_PAIRS = [
    (1, "", r"an annotation is needed, not a number \(1\)"),
    (None, "", "an annotation is needed, not null"),
    ({"preference": 2}, ".preference", "from 0 to 1"),
    ({"strength": 1.5}, ".strength", "an integer is needed"),
    ({"abstains": True, "strength": 1}, ".strength", "an abstention cannot have this key"),
    ({"abstains": "yes"}, ".abstains", "true or false"),
    ({"weight": 0}, ".weight", "positive finite number"),
    ({"confidence": "a"}, ".confidence", "not text"),
    ({"annotator": ["a"]}, ".annotator", "text or an integer is needed, not a"),
    ({"label": 0, "rater": "x", "preference": None}, "", "only unknown keys: 'label', 'rater'"),
    ({"annotator": "x", "label": 0}, "", "annotator, weight, confidence, preference, strength, m"),
]
CALLS = [
    *(
        (message, "'content' has to be text, not null")
        for message in ({"content": None}, {}, {"tool_calls": []})
    ),
    ({"tool_calls": "weather"}, "'tool_calls' have to be a list of objects"),
    ({"function_call": "weather()"}, "'function_call' has to be an object, not text"),
    ({"tool_calls": [{"function": {"name": "f\ud800"}}]}, "half a character"),
]
PARTS = [
    ({"type": "image"}, "a part of type 'image'"),
    ({"type": "image_url", "image_url": {"url": "x"}}, "a part of type 'image_url'"),
    ({"type": "input_audio", "text": "a"}, "a part of type 'input_audio'"),
    ({"type": "text", "text": None}, r"a dict \(\{'type': 'text'\}\)"),
    ({"image": "x.png"}, "a dict"),
    ("a", "text"),
    (None, "null"),
]
TOOLS = [("hammer", ""), ({"name": "f"}, ""), (["hammer"], ""), ([3], "[0]"), (7, "")]
RANKINGS = [
    ({"prompt": None}, "prompt", "a ranking needs the prompt"),
    ({"prompt": " "}, "prompt", "a ranking needs the prompt"),
    ({"prompt": 3}, "prompt", "not a number"),
    ({"responses": None}, "responses", "missing or null"),
    ({"responses": "ab"}, "responses", "a list of responses is needed, not text"),
    ({"responses": []}, "responses", "at least one response is needed"),
    ({"responses": [" a"]}, "responses", "at least 2 responses, not 1"),
    ({"responses": [" a", 3, " c"]}, "responses[1]", "not a number"),
    ({"responses": [" a", [user("b")], " c"]}, "responses[1]", "all text or all chat"),
    (
        {"prompt": "Human: a", "responses": ["Human: a b", "\n\nHuman: a c", "Human: a d"]},
        "responses",
        "contain the prompt, but their beginnings differ",
    ),
    ({"ranks": [1, 2]}, "ranks", "one rank for each response is needed: 3, not 2"),
    ({"ranks": 1}, "ranks", "a list of ranks is needed, not a number"),
    ({"ranks": [1, 2, None]}, "ranks[2]", "an integer is needed, not null"),
    ({"ranks": [0, 1, 2]}, "ranks[0]", "an integer of at least 1 is needed, not 0"),
    ({"ratings": [1, 2, 3, 4]}, "ratings", "one rating for each response is needed: 3, not 4"),
    ({"ratings": [1, "good", 3]}, "ratings[1]", "a finite number is needed, not text"),
    ({"margin": 2}, "margin", "describes one pair, but this row is a ranking"),
    ({"annotations": [{}]}, "annotations", "describes one pair"),
    ({"rankings": [{"ranks": [1, 2, 3]}]}, "ranks", "'rankings' too"),
    ({"ratings": [4.5, 3, None]}, "ranks, ratings", "1 is better than 0, by 'ratings' it is"),
]
LISTS_OF_RANKINGS = [
    ([], "rankings", "at least one ranking"),
    ([[2, 1, 3]], "rankings[0]", "a ranking is needed, not a list"),
    ([{"ranks": [2, 1]}], "rankings[0].ranks", "one rank for each response is needed: 3, not 2"),
    ([{"ranks": [1, None, None]}], "rankings[0].ranks", "at least two responses"),
]
RATINGS = [
    ({"rating": "good"}, "rating", "not text"),
    ({"text": 3, "rating": 1}, "text", "not a number"),
    ({"text": None, "response": "a", "rating": 1}, "prompt", "needs the prompt"),
    ({"rating": 1, "ratings": [{"rating": 2}]}, "rating", "'ratings' too"),
    ({"ratings": []}, "ratings", "at least one rating"),
    ({"ratings": [3]}, "ratings[0]", "a rating is needed, not a number"),
    ({"ratings": [{"rating": "x"}]}, "ratings[0].rating", "not text"),
    ({"rating": 1, "objective": 0.5}, "objective", "text or an integer"),
]
JUDGEMENTS = [
    ([], "", "at least one judgement"),
    ({}, "", "a list of judgements is needed, not a dict"),
    ([3], "[0]", r"a judgement is needed, not a number \(3\)"),
    ([{}], "[0]", "is needed, not none of them"),
    ([{"comparison": [0, 1], "ranks": [1, 2, 3]}], "[0].ranks", "not 'comparison' and 'ranks'"),
    ([{"abstains": True}, {"comparison": 3}], "[1].comparison", "two places is needed, not a num"),
    ([{"comparison": [0, 3]}], "[0].comparison[1]", "from 0 to 2 is needed, not 3"),
    ([{"comparison": [0, None]}], "[0].comparison[1]", "not null"),
    ([{"comparison": [1, 1]}], "[0].comparison", "not 1 twice"),
    ([{"comparison": [0, 1], "preference": 2}], "[0].preference", "from 0 to 1"),
    ([{"comparison": [0, 1], "rating": 2}], "[0].rating", "cannot have this key"),
    ([{"ranks": [1, 2]}], "[0].ranks", "one rank for each response is needed: 3, not 2"),
    ([{"ranks": [1, None, None]}], "[0].ranks", "at least two responses"),
    ([{"ranks": [1, 2, 3], "margin": 1}], "[0].margin", "cannot have this key"),
    ([{"response": 0}], "[0].rating", "a number is needed, not null"),
    ([{"response": -1, "rating": 2}], "[0].response", "from 0 to 2"),
    ([{"abstains": True, "rating": 1}], "[0].rating", "cannot have this key"),
]
BEST_OF = {"prompt": "p", "chosen": [" a"], "rejected": [" b", " c"], "subset": "Focus"}
BENCHMARKS = [
    ({"rejected": []}, "rejected", "at least one"),
    ({"rejected": None}, "rejected", "missing or null"),
    ({"rejected": "A car."}, "rejected", "a list of"),
    ({"chosen": ["a", 3]}, "chosen[1]", "not a number"),
    ({"rejected": ["a", []]}, "rejected[1]", "all text or all chat"),
    ({"margin": 1}, "margin", "describes a plain pair"),
]
JUDGE_BENCH = {"question": "Q?", "response_A": " 5", "response_B": " 4", "label": "B>A"}
LABELS = [
    ({"label": "A"}, "label", "one of A>B, B>A is needed, not text"),
    ({"label": 1}, "label", "not a number"),
    ({"preference": 1}, "preference", "describes a plain pair"),
]
BESIDE = ("ranks", "ratings", "rating", "preference", "annotations")
LISTED = ranking(ranks=None)


@pytest.mark.parametrize(
    ("row", "field", "text"),
    [
        *MISSING,
        *(({"chosen": "a", "rejected": "b"} | change, *rest) for change, *rest in PAIRS),
        *(
            ({"chosen": "a", "rejected": "b", "annotations": [{}, e]}, f"annotations[1]{at}", text)
            for e, at, text in ENTRIES_OF_PAIRS
        ),
        *(
            ({"chosen": [{"role": "assistant"} | said], "rejected": []}, "chosen[0]", text)
            for said, text in CALLS
        ),
        *(
            (
                {"chosen": [user([{"text": "a"}, part])], "rejected": []},
                "chosen[0].content[1]",
                f"the models read only text, not {text}",
            )
            for part, text in PARTS
        ),
        *(
            ({"chosen": [], "rejected": [], "tools": tools}, f"tools{at}", "list of JSON schemas")
            for tools, at in TOOLS
        ),
        *((ranking(**change), *rest) for change, *rest in RANKINGS),
        *((LISTED | {"rankings": entries}, *rest) for entries, *rest in LISTS_OF_RANKINGS),
        *(({"text": "a"} | change, *rest) for change, *rest in RATINGS),
        *((LISTED | {"judgements": e}, f"judgements{at}", text) for e, at, text in JUDGEMENTS),
        *(
            (LISTED | {"judgements": [{"abstains": True}], name: [1]}, name, "an entry of 'judg")
            for name in BESIDE
        ),
        *((BEST_OF | change, *rest) for change, *rest in BENCHMARKS),
        *((JUDGE_BENCH | change, *rest) for change, *rest in LABELS),
    ],
)
def test_malformed_rows_name_file_line_field_and_remedy(row, field, text):
    refused(row, field, text)


@pytest.mark.parametrize(
    ("said", "fields"),
    [
        ({"preference": 1, "strength": -2}, ["preference", "strength"]),
        ({"preference": 0.25, "margin": 0.5}, ["preference", "margin"]),
        (
            {"preference": 0, "rating_chosen": 5, "rating_rejected": 1},
            ["preference", "rating_chosen"],
        ),
        ({"strength": 1, "margin": -40}, ["strength", "margin"]),
        ({"strength": -1, "rating_chosen": 5, "rating_rejected": 1}, ["strength", "rating_chosen"]),
        (
            {"preference": 0.5, "margin": 2, "rating_chosen": 1, "rating_rejected": 5},
            ["margin", "rating_chosen"],
        ),
    ],
)
def test_signs_that_disagree(said, fields):
    text = r"'\w+' says .* is better, '\w+' the opposite"
    row = {"chosen": "a", "rejected": "b"}
    refused(row | said, ", ".join(fields), text)
    named = ", ".join(f"annotations[1].{field}" for field in fields)
    refused(row | {"annotations": [{}, said]}, named, text)
    # what the list says stands for itself, whatever a summary beside it says
    assert len(pair(annotations=[{"preference": 1}], strength=-2).judgements) == 1
    if "rating_chosen" not in said:
        named = ", ".join(f"judgements[0].{field}" for field in fields)
        refused(LISTED | {"judgements": [{"comparison": [0, 1], **said}]}, named, text)


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
    assert read_conversation([user(parts) | {"name": None}], "chosen") == [user("a bc")]
    assert read_conversation([user([])], "chosen") == [user("")]
