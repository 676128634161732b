"""Rankings, rated texts and rows of judgements."""

from __future__ import annotations

from typing import Any

import pytest

from hidden_context.data.example import (
    Abstention,
    Comparison,
    Example,
    Judgement,
    Ranking,
    Rating,
)
from hidden_context.data.importers import IMPORTERS, pairs, read_row
from hidden_context.data.importers.answers import unread_keys
from hidden_context.data.labels import annotator_of
from hidden_context.errors import DataError


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def ranking(number: int = 0, **columns: Any) -> dict[str, Any]:
    return {
        "prompt": f"p{number}",
        "responses": [" a", " b", " c"],
        "ranks": [2, 1, 2],
        **columns,
    }


def judged(*entries: Any, **columns: Any) -> Example:
    row = {"prompt": "p", "responses": [" a", " b", " c"], "judgements": list(entries), **columns}
    return read_row(row, file="f.jsonl", line=3)


def test_a_ranking_is_one_example() -> None:
    row = ranking(annotator="ann", ratings=[3, 4.5, None], source="web", weight=2)
    example = read_row(row, line=7)
    assert (example.prompt, example.responses) == ("p0", (" a", " b", " c"))
    assert example.judgements == (
        Judgement(Ranking((2, 1, 2)), "ann", 2.0),
        Judgement(Rating(0, 3.0), None, 2.0),
        Judgement(Rating(1, 4.5), None, 2.0),
    )
    assert example.columns is row
    assert example.source_lines == (7,)
    assert row == ranking(annotator="ann", ratings=[3, 4.5, None], source="web", weight=2)


@pytest.mark.parametrize("ranks", [[9, 4, 4.0], [1.0, 2.0, 3.0]])
def test_ranks_need_not_be_consecutive(ranks: list[Any]) -> None:
    answer = read_row(ranking(ranks=ranks)).judgements[0].answer
    assert answer == Ranking(tuple(map(int, ranks)))


def test_which_rows_are_rankings() -> None:
    def kind(row: dict[str, Any]) -> str:
        return type(read_row(row).judgements[0].answer).__name__

    assert kind(ranking()) == "Ranking"
    assert kind(ranking(chosen=None, rejected=None)) == "Ranking"
    assert kind({"chosen": "a", "rejected": "b", "ranks": None}) == "Comparison"
    # The paper's relabelled rows have responses beside the pair made of them.
    assert kind(ranking(chosen="a", rejected="b")) == "Comparison"
    assert kind({"text": "a", "rating": 1, "ranks": None, "chosen": None}) == "Rating"
    with pytest.raises(DataError, match=r"column is missing.*'prompt', 'responses' and 'ranks'"):
        read_row({"prompt": "p", "responses": ["a", "b"]})
    with pytest.raises(DataError, match="field 'chosen': the value is null"):
        read_row({"chosen": None, "rejected": None, "text": "a"})
    assert IMPORTERS[0] is pairs


@pytest.mark.parametrize(
    ("prompt", "responses"),
    [
        ("a", ["b", "c", "d"]),
        ([user("a")], ["b", "c", "d"]),
        ("a", [[assistant("b")], [assistant("c")], [assistant("d")]]),
        ([user("a")], [[user("a"), assistant("b")], [user("a"), assistant("c")],
                       [user("a"), assistant("d")]]),
        ("a", [[user("a"), assistant("b")], [user("a"), assistant("c")],
               [user("a"), assistant("d")]]),
        ("a", [[user("a"), assistant("b")], [assistant("c")], [assistant("d")]]),
    ],
)  # fmt: skip
def test_responses_as_text_and_as_messages(prompt: Any, responses: list[Any]) -> None:
    example = read_row({"prompt": prompt, "responses": responses, "ranks": [1, 2, 3]})
    if prompt == "a" and isinstance(responses[0], str):
        assert example.texts == ("ab", "ac", "ad")
    else:
        assert example.prompt == [user("a")]
        assert example.text(2) == [user("a"), assistant("d")]
    assert example.prompt_key == "a"


def test_responses_have_the_prompt_inside_all_or_none() -> None:
    """Two responses happen to begin with the prompt: it is put before all three, or none."""
    row = {"prompt": "a", "responses": ["a cat", "a dog", "the ant"], "ranks": [1, 2, 3]}
    assert read_row(row).texts == ("aa cat", "aa dog", "athe ant")
    whole = read_row({**row, "responses": ["a cat", "a dog", "an ant"]})
    assert (whole.prompt, whole.texts) == ("a", ("a cat", "a dog", "an ant"))


def test_all_responses_have_one_prompt_though_some_share_more() -> None:
    start, other = "\n\nHuman: a\n\nAssistant: b", "\n\nHuman: a\n\nAssistant: x"
    responses = [
        f"{start}\n\nHuman: c\n\nAssistant: d",
        f"{start}\n\nHuman: c\n\nAssistant: e",
        other,
    ]
    example = read_row({"prompt": "Human: a", "responses": responses, "ranks": [1, 2, 3]})
    assert example.prompt == "\n\nHuman: a\n\nAssistant:"
    assert example.texts == tuple(responses)
    assert example.prompt_key == "a"


def test_blank_responses_decide_nothing_and_stay_blank() -> None:
    inside = read_row({"prompt": "a", "responses": ["a b", " ", "a c"], "ranks": [1, 2, 3]})
    assert inside.responses == (" b", " ", " c")
    before = read_row({"prompt": "Human: say Assistant:", "responses": ["b", " "], "ranks": [1, 2]})
    assert before.responses == ("\n\nAssistant: b", " ")
    chat = read_row({"prompt": [user("a")], "responses": ["b", ""], "ranks": [1, 2]})
    assert chat.responses == ([assistant("b")], [assistant("")])
    nothing = read_row({"prompt": "a", "responses": ["", " "], "ranks": [1, 2]})
    assert nothing.responses == ("", " ")


@pytest.mark.parametrize(
    ("change", "field", "text"),
    [
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
            "have the prompt inside, but do not begin alike",
        ),
        ({"ranks": [1, 2]}, "ranks", "2 ranks are given for 3 responses"),
        ({"ranks": 1}, "ranks", "a list of ranks is needed, not a number"),
        ({"ranks": [1, 2, None]}, "ranks[2]", "an integer is needed, not null"),
        ({"ranks": [1, 2.5, 3]}, "ranks[1]", "an integer is needed, not a number"),
        ({"ranks": [0, 1, 2]}, "ranks[0]", "an integer of at least 1 is needed, not 0"),
        ({"ratings": [1, 2, 3, 4]}, "ratings", "4 ratings are given for 3 responses"),
        ({"ratings": [1, "good", 3]}, "ratings[1]", "a finite number is needed, not text"),
        ({"weight": 0}, "weight", "a positive finite number is needed"),
        ({"margin": 2}, "margin", "says something of one pair, but this row is a ranking"),
        ({"annotations": [{}]}, "annotations", "says something of one pair"),
        ({"annotator": 1.5}, "annotator", "text or an integer is needed"),
        ({"data_subset": 3}, "data_subset", "text is needed"),
    ],
)
def test_malformed_rankings_name_file_line_field(
    change: dict[str, Any], field: str, text: str
) -> None:
    with pytest.raises(DataError, match=text) as caught:
        read_row(ranking(**change), file="f.jsonl", line=3)
    error = caught.value
    assert (error.file, error.line, error.field) == ("f.jsonl", 3, field)
    assert error.remedy


def test_several_annotators_rank_the_same_responses() -> None:
    entries = [
        {"annotator": "ann", "ranks": [2, 1, 3], "weight": 3, "confidence": 0.5, "time": 7},
        {"annotator": "bob", "ranks": [1, None, 2.0]},
        {"ranks": [1, 1, 2], "annotator": None},
        {"annotator": "cat", "ranks": None},
        {"annotator": "ann", "abstains": True},
    ]
    row = ranking(ranks=None, rankings=entries, ratings=[1, 2, 3], weight=2, annotator="team")
    example = read_row(row)
    assert (example.prompt, example.responses) == ("p0", (" a", " b", " c"))
    assert example.judgements == (
        Judgement(Ranking((2, 1, 3)), "ann", 6.0, 0.5),
        Judgement(Ranking((1, None, 2)), "bob", 2.0),
        Judgement(Ranking((1, 1, 2)), "team", 2.0),
        Judgement(Abstention(), "cat", 2.0),
        Judgement(Abstention(), "ann", 2.0),
        *(Judgement(Rating(place, place + 1.0), None, 2.0) for place in range(3)),
    )
    assert (example.abstentions, example.repeated) == (2, 1)
    assert unread_keys(example) == {"rankings.time"}
    # the same said as rows of judgements
    judged = {**row, "judgements": entries[:3], "rankings": None, "ratings": None}
    assert read_row(judged).judgements == example.judgements[:3]


@pytest.mark.parametrize(
    ("entries", "field", "text"),
    [
        ([], "rankings", "at least one ranking"),
        ([[2, 1, 3]], "rankings[0]", "a ranking is needed, not a list"),
        ([{"rank": [2, 1, 3]}], "rankings[0]", "unknown keys alone: 'rank'"),
        ([{"ranks": [2, 1]}], "rankings[0].ranks", "2 ranks are given for 3 responses"),
        ([{"ranks": [2, 0, 1]}], "rankings[0].ranks[1]", "at least 1"),
        ([{"ranks": [1, None, None]}], "rankings[0].ranks", "at least two responses"),
        ([{"abstains": True, "ranks": [1, 2, 3]}], "rankings[0].ranks", "goes without it"),
        ([{"annotator": [1]}], "rankings[0].annotator", "text or an integer"),
    ],
)
def test_malformed_lists_of_rankings(entries: list[Any], field: str, text: str) -> None:
    with pytest.raises(DataError, match=text) as caught:
        read_row(ranking(ranks=None, rankings=entries), file="f.jsonl", line=3)
    assert (caught.value.line, caught.value.field) == (3, field)
    assert caught.value.remedy


def test_ranks_stand_in_one_column_alone() -> None:
    with pytest.raises(DataError, match="'rankings' too") as caught:
        read_row(ranking(rankings=[{"ranks": [1, 2, 3]}]))
    assert caught.value.field == "ranks"


def test_ratings_do_not_contradict_the_ranks_beside_them() -> None:
    with pytest.raises(
        DataError, match="response 1 is better than 0, by 'ratings' it is"
    ) as caught:
        read_row(ranking(ratings=[4.5, 3, None]), line=3)
    assert (caught.value.line, caught.value.field) == (3, "ranks, ratings")
    # ties contradict nothing, and what several people said is theirs
    assert len(read_row(ranking(ratings=[3, 3, 1])).judgements) == 4
    several = [{"annotator": "ann", "ranks": [1, 2, 3]}]
    assert len(read_row(ranking(ranks=None, rankings=several, ratings=[1, 2, 3])).judgements) == 4


def test_comparisons_go_by_the_sign_too() -> None:
    said = judged(
        {"comparison": [2, 0], "margin": -40},
        {"comparison": [0, 1]},
        {"comparison": [0, 1], "preference": None, "margin": 0},
    )
    assert [judgement.answer for judgement in said.judgements] == [
        Comparison(2, 0, 0.0, None, -40.0),
        Comparison(0, 1),
        Comparison(0, 1, 0.5, None, 0.0),
    ]
    with pytest.raises(
        DataError, match=r"'strength' says .* better, 'margin' the opposite"
    ) as caught:
        judged({"comparison": [0, 1], "strength": 1, "margin": -2})
    assert caught.value.field == "judgements[0].strength, judgements[0].margin"


def test_the_same_annotator_may_judge_different_responses() -> None:
    said = judged(
        {"annotator": "ann", "comparison": [0, 1]},
        {"annotator": "ann", "comparison": [1, 2]},
        {"annotator": "ann", "response": 0, "rating": 1},
        {"annotator": "ann", "comparison": [1, 0]},
        {"annotator": "bob", "ranks": [1, 2, 3]},
        {"annotator": "bob", "abstains": True},
    )
    assert said.repeated == 2


TURN = "\n\nHuman: a\n\nAssistant:"


@pytest.mark.parametrize(
    ("row", "prompt", "response"),
    [
        ({"text": "plain"}, "", "plain"),
        ({"text": f"{TURN} b"}, TURN, " b"),
        ({"text": f"{TURN} b\n\nHuman: c"}, "", f"{TURN} b\n\nHuman: c"),
        ({"text": "Assistant: b"}, "", "Assistant: b"),
        ({"messages": [user("a"), assistant("b")]}, [user("a")], [assistant("b")]),
        ({"messages": [user("a")]}, [], [user("a")]),
        ({"messages": [assistant("b")]}, [], [assistant("b")]),
        ({"messages": []}, [], []),
        ({"prompt": "p", "text": " b"}, "p", " b"),
        ({"prompt": "p", "text": "p b"}, "p", " b"),
        ({"prompt": "Human: a", "text": f"{TURN} b"}, "\n\nHuman: a", "\n\nAssistant: b"),
        ({"prompt": "p", "response": " b"}, "p", " b"),
        ({"prompt": "Human: a", "response": "b"}, "Human: a\n\nAssistant: ", "b"),
        ({"prompt": [user("a")], "response": "b"}, [user("a")], [assistant("b")]),
        ({"prompt": "a", "messages": [user(" a"), assistant("b")]}, [user(" a")], [assistant("b")]),
        ({"prompt": "a", "messages": [assistant("b")]}, [user("a")], [assistant("b")]),
    ],
)
def test_rated_texts(row: dict[str, Any], prompt: Any, response: Any) -> None:
    example = read_row({**row, "rating": 3, "annotator": "ann", "weight": 2})
    assert (example.prompt, example.responses) == (prompt, (response,))
    assert example.judgements == (Judgement(Rating(0, 3.0), "ann", 2.0),)
    assert not example.identical


def test_several_ratings_of_a_text() -> None:
    entries = [
        {"annotator": "ann", "rating": 4, "weight": 3, "confidence": 0.5},
        {"annotator": "bob", "rating": None},
        {"rating": -1, "judge": 7},
    ]
    example = read_row({"text": "a", "ratings": entries, "annotator": "team", "weight": 2})
    assert example.judgements == (
        Judgement(Rating(0, 4.0), "ann", 6.0, 0.5),
        Judgement(Abstention(), "bob", 2.0),
        Judgement(Rating(0, -1.0), "team", 2.0),
    )
    assert annotator_of(example.judgements[2], "judge") == 7


@pytest.mark.parametrize(
    ("row", "field", "text"),
    [
        ({"text": "a", "rating": "good"}, "rating", "not text"),
        ({"text": 3, "rating": 1}, "text", "not a number"),
        ({"response": "a", "rating": 1}, "prompt", "needs the prompt"),
        ({"text": "a", "rating": 1, "ratings": [{"rating": 2}]}, "rating", "'ratings' too"),
        ({"text": "a", "ratings": []}, "ratings", "at least one rating"),
        ({"text": "a", "ratings": 3}, "ratings", "a list of ratings is needed, not a number"),
        ({"text": "a", "ratings": [3]}, "ratings[0]", "a rating is needed, not a number"),
        ({"text": "a", "ratings": [{"rating": "x"}]}, "ratings[0].rating", "not text"),
        ({"text": "a", "ratings": [{"score": 5}]}, "ratings[0]", "unknown keys alone: 'score'"),
        ({"text": "a", "ratings": [{"annotator": 0.5}]}, "ratings[0].annotator", "integer"),
        ({"text": "a", "rating": 1, "objective": 0.5}, "objective", "text or an integer"),
    ],
)
def test_malformed_ratings_name_file_line_field(row: dict[str, Any], field: str, text: str) -> None:
    with pytest.raises(DataError, match=text) as caught:
        read_row(row, file="f.jsonl", line=3)
    error = caught.value
    assert (error.file, error.line, error.field) == ("f.jsonl", 3, field)
    assert error.remedy


def test_judgements_of_every_kind() -> None:
    example = judged(
        {"annotator": "ann", "comparison": [2, 0], "margin": 1.5, "rating": None},
        {"annotator": "bob", "comparison": [0, 1], "strength": -2, "weight": 3},
        {"ranks": [2, None, 1.0], "confidence": 0.25, "abstains": False},
        {"annotator": "ann", "ranks": [1, 1, 2]},
        {"response": 0, "rating": 4, "comparison": None},
        {"annotator": 5, "abstains": True},
        annotator="team",
        weight=2,
    )
    assert (example.prompt, example.responses) == ("p", (" a", " b", " c"))
    assert example.judgements == (
        Judgement(Comparison(2, 0, 1.0, None, 1.5), "ann", 2.0),
        Judgement(Comparison(0, 1, 0.0, -2), "bob", 6.0),
        Judgement(Ranking((2, None, 1)), "team", 2.0, 0.25),
        Judgement(Ranking((1, 1, 2)), "ann", 2.0),
        Judgement(Rating(0, 4.0), "team", 2.0),
        Judgement(Abstention(), 5, 2.0),
    )
    assert example.abstentions == 1


@pytest.mark.parametrize("prompt", ["", None, []])
def test_judgements_need_no_prompt(prompt: Any) -> None:
    entry = {"response": 0, "rating": 1}
    row = {"prompt": prompt, "responses": ["a"], "judgements": [entry]}
    assert read_row(row).texts == ("a",)
    chat = read_row({**row, "responses": [[user("a")]]})
    assert (chat.prompt, chat.texts) == ([], ([user("a")],))


@pytest.mark.parametrize(
    ("entry", "field", "text"),
    [
        ([], "judgements", "at least one judgement"),
        ({}, "judgements", "a list of judgements is needed, not a dict"),
        ([3], "judgements[0]", r"a judgement is needed, not a number \(3\)"),
        ([{}], "judgements[0]", "is needed, not none of them"),
        (
            [{"comparison": [0, 1], "ranks": [1, 2, 3]}],
            "judgements[0].ranks",
            "not 'comparison' and 'ranks'",
        ),
        (
            [{"abstains": True}, {"comparison": 3}],
            "judgements[1].comparison",
            "a list of two places is needed, not a number",
        ),
        ([{"comparison": [0]}], "judgements[0].comparison", "a list of two places"),
        ([{"comparison": [0, 3]}], "judgements[0].comparison[1]", "from 0 to 2 is needed, not 3"),
        ([{"comparison": [0, None]}], "judgements[0].comparison[1]", "not null"),
        ([{"comparison": [1, 1]}], "judgements[0].comparison", "not 1 twice"),
        ([{"comparison": [0, 1], "preference": 2}], "judgements[0].preference", "from 0 to 1"),
        ([{"comparison": [0, 1], "rating": 2}], "judgements[0].rating", "goes without it"),
        ([{"ranks": [1, 2]}], "judgements[0].ranks", "2 ranks are given for 3 responses"),
        ([{"ranks": [1, None, None]}], "judgements[0].ranks", "at least two responses"),
        ([{"ranks": [1, 0, 2]}], "judgements[0].ranks[1]", "at least 1"),
        ([{"ranks": [1, 2, 3], "margin": 1}], "judgements[0].margin", "goes without it"),
        ([{"response": 0}], "judgements[0].rating", "a number is needed, not null"),
        ([{"response": -1, "rating": 2}], "judgements[0].response", "from 0 to 2"),
        ([{"winner": 0}], "judgements[0]", "unknown keys alone: 'winner'"),
        ([{"annotator": "ann", "winner": 0}], "judgements[0]", "unknown keys alone: 'winner'"),
        ([{"abstains": 1}], "judgements[0].abstains", "a truth value is needed"),
        ([{"abstains": True, "rating": 1}], "judgements[0].rating", "goes without it"),
        ([{"abstains": True, "weight": -1}], "judgements[0].weight", "positive"),
        ([{"abstains": True, "annotator": []}], "judgements[0].annotator", "text or an integer"),
    ],
)
def test_malformed_judgements_name_file_line_field(entry: Any, field: str, text: str) -> None:
    row = {"prompt": "p", "responses": [" a", " b", " c"], "judgements": entry}
    with pytest.raises(DataError, match=text) as caught:
        read_row(row, file="f.jsonl", line=3)
    error = caught.value
    assert (error.file, error.line, error.field) == ("f.jsonl", 3, field)
    assert error.remedy


@pytest.mark.parametrize("field", ["ranks", "ratings", "rating", "preference", "annotations"])
def test_rows_of_judgements_say_nothing_beside_them(field: str) -> None:
    with pytest.raises(DataError, match="an entry of 'judgements' has to say") as caught:
        judged({"abstains": True}, **{field: [1]})
    assert caught.value.field == field
