"""Prompts and responses of pairs, rankings and rated texts, however a row spells them."""

import pytest

from hidden_context.data.example import Comparison, Example, Judgement
from hidden_context.data.importers import IMPORTERS, pairs, read_row
from hidden_context.data.report import blank_responses
from support.rows import assistant, pair, ranking, user

TURN = "\n\nHuman: a\n\nAssistant:"
A, B, C = user("a"), assistant("b"), assistant("c")


def test_optional_columns():
    row = pair(
        margin=2, preference=0.5, annotator=7, objective="helpful", data_subset="s", weight=2
    )
    assert row.judgements == (Judgement(Comparison(0, 1, 0.5, None, 2.0), 7, 2.0),)
    assert type(row.judgements[0].weight) is float
    assert (row.objective, row.data_subset) == ("helpful", "s")
    empty = pair(objective="", data_subset="")
    assert (empty.objective, empty.data_subset) == (None, None)


def test_columns_are_the_row_and_the_line_makes_no_difference():
    row = {"chosen": f"{TURN} b", "rejected": f"{TURN} c", "label": 1, "extra": [1]}
    first, second = read_row(row, line=7), read_row(row)
    assert first.columns is row
    assert first == second


@pytest.mark.parametrize(
    ("row", "blank"),
    [
        *(({"chosen": "a", "rejected": side}, [1]) for side in (" \n", "")),
        *(({"chosen": [B], "rejected": side}, [1]) for side in ([], [assistant(" ")])),
        ({"chosen": "a", "rejected": "a"}, []),
        ({"prompt": "a", "chosen": "a", "rejected": "a b"}, []),  # the prompt alone is no blank
    ],
)
def test_blank_sides(row, blank):
    assert blank_responses(read_row(row)) == blank
    assert blank_responses(Example("a", ("", " b"))) == [0]


def test_which_rows_are_rankings():
    def kind(row):
        return type(read_row(row).judgements[0].answer).__name__

    assert kind(ranking()) == "Ranking"
    assert kind(ranking(chosen=None, rejected=None)) == "Ranking"
    assert kind({"chosen": "a", "rejected": "b", "ranks": None}) == "Comparison"
    # The paper's relabelled rows have responses beside the pair made of them.
    assert kind(ranking(chosen="a", rejected="b")) == "Comparison"
    assert kind({"text": "a", "rating": 1, "ranks": None, "chosen": None}) == "Rating"
    assert IMPORTERS[0] is pairs


def sides(chosen, rejected, prompt=None):
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def ranked(prompt, *responses):
    return {"prompt": prompt, "responses": [*responses], "ranks": [*range(1, len(responses) + 1)]}


def scored(**columns):
    return {**columns, "rating": 3}


SAID = "\n\nAssistant:"
START = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"


@pytest.mark.parametrize(
    ("row", "prompt", "responses"),
    [
        # no prompt: what both sides share
        (sides("to be it", "to be not"), "to be", (" it", " not")),
        (sides("x", "y"), "", ("x", "y")),
        (sides("yes", "yes sir"), "", ("yes", "yes sir")),
        (sides("Q: x?\nA: yes", "Q: x?\nA: no"), "Q: x?\nA:", (" yes", " no")),
        (sides(f"{TURN} b c", f"{TURN} b d"), TURN, (" b c", " b d")),
        (sides(f"{TURN} b", f"{TURN} b"), TURN, (" b", " b")),
        # put before both
        (sides(" b", "c", "p"), "p", (" b", "c")),
        (sides("b", " c", "Human: a"), "Human: a\n\nAssistant: ", ("b", "c")),
        (sides("Assistant: b", "c", "Human: a"), "Human: a\n\nAssistant: ", ("b", "c")),
        (sides("Assistant:b", "c", "Human: a"), "Human: a\n\nAssistant:", ("b", " c")),
        (sides(" b", "c", TURN), TURN, (" b", " c")),
        (sides("\nb", "c", TURN), TURN, ("\nb", " c")),
        # a prompt whose key the words between would change keeps them out
        (
            sides("b", "c", "Human: say Assistant:"),
            "Human: say Assistant:",
            ("\n\nAssistant: b", "\n\nAssistant: c"),
        ),
        # inside already, literally or but for white space
        (sides("a b", "a c", "a"), "a", (" b", " c")),
        (sides(f"{TURN} b", f"{TURN} c", "Human: a"), TURN, (" b", " c")),
        (sides(TURN.strip() + " b", TURN.strip() + " c", TURN), TURN.strip(), (" b", " c")),
        (
            sides("Human: a b", "\n\nHuman: a c", "Human: a"),
            "",
            ("Human: a b", "\n\nHuman: a c"),
        ),
        # inside one side only: before both
        (sides("a b", "c", "a"), "a", ("a b", "c")),
        # messages
        (sides([A, B], [A, C]), [A], ([B], [C])),
        (sides("b", " ", [A]), [A], ([B], [assistant(" ")])),
        (sides([], [B], "a"), [A], ([], [B])),
        (sides([A], [A, C], [A]), [A], ([], [C])),
        (sides([A, B], [user("x"), B]), [], ([A, B], [user("x"), B])),
        (sides([A], [A]), [], ([A], [A])),
        (sides([A, B], [A, B]), [A], ([B], [B])),
        # lists of right and wrong answers, and two answers with a label
        ({"prompt": [A], "chosen": [[B]], "rejected": [[C], [B, A]]}, [A], ([B], [C], [B, A])),
        ({"chosen": [[A, B]], "rejected": [[A, C], [A]]}, [], ([A, B], [A, C], [A])),
        ({"chosen": [[A, B]], "rejected": [[A, C], [A, B]]}, [A], ([B], [C], [B])),
        ({"prompt": "a", "chosen": ["a b"], "rejected": ["a c", "a d"]}, "a", (" b", " c", " d")),
        *(
            ({"question": "Q?", "response_A": "a", "response_B": "b", "label": label}, "Q?", better)
            for label, better in (("A>B", ("a", "b")), ("B>A", ("b", "a")))
        ),
        # rankings: the prompt is inside all responses or none, and one for all
        (ranked("a", "a cat", "a dog", "the ant"), "a", ("a cat", "a dog", "the ant")),
        (ranked("a", "a cat", "a dog", "an ant"), "a", (" cat", " dog", "n ant")),
        (
            ranked("Human: a", f"{START} d", f"{START} e", f"{TURN} x"),
            TURN,
            tuple(text.removeprefix(TURN) for text in (f"{START} d", f"{START} e", f"{TURN} x")),
        ),
        (ranked("a", [A, B], [C]), [A], ([A, B], [C])),
        # blank responses decide nothing, and stay blank
        (ranked("a", "a b", " ", "a c"), "a", (" b", " ", " c")),
        (ranked("Human: a b Assistant:", "b", " "), "Human: a b Assistant:", (f"{SAID} b", " ")),
        (ranked([A], "b", ""), [A], ([B], [assistant("")])),
        (ranked("a", "", " "), "a", ("", " ")),
        # rated texts
        (scored(text="plain"), "", ("plain",)),
        (scored(text=f"{TURN} b"), TURN, (" b",)),
        (scored(text=f"{TURN} b\n\nHuman: c"), "", (f"{TURN} b\n\nHuman: c",)),
        (scored(text="Assistant: b"), "", ("Assistant: b",)),
        (scored(messages=[A, B]), [A], ([B],)),
        (scored(messages=[A]), [], ([A],)),
        (scored(messages=[B]), [], ([B],)),
        (scored(messages=[]), [], ([],)),
        (scored(prompt="p", text=" b"), "p", (" b",)),
        (scored(prompt="p", text="p b"), "p", (" b",)),
        (scored(prompt="Human: a", text=f"{TURN} b"), "\n\nHuman: a", ("\n\nAssistant: b",)),
        (scored(prompt="a", messages=[user(" a"), B]), [user(" a")], ([B],)),
        (scored(prompt="a", messages=[B]), [A], ([B],)),
        # judgements need no prompt
        *(
            ({"prompt": none, "responses": ["a"], "judgements": [{"abstains": True}]}, "", ("a",))
            for none in ("", None, [])
        ),
        ({"responses": [[A]], "judgements": [{"abstains": True}]}, [], ([A],)),
    ],
)
def test_prompts_and_responses_of_every_spelling(row, prompt, responses):
    example = read_row({key: value for key, value in row.items() if value is not None})
    assert (example.prompt, example.responses) == (prompt, responses)


@pytest.mark.parametrize(
    ("prompt", "side", "expected"),
    [
        ("The sky is", " blue", ("The sky is", " blue")),
        ("The Human: being is", " blue", ("The Human: being is", " blue")),
        ("Human: a\r\n\r\nAssistant:", "b", ("Human: a\r\n\r\nAssistant: ", "b")),
        ("Human: a\nAssistant:", "b", ("Human: a\nAssistant: ", "b")),
        ("Human: a\n\nAssistant: Sure, ", "b", ("Human: a\n\nAssistant: Sure, ", "b")),
        ("Human: a", "b", (f"Human: a{SAID} ", "b")),
        ("Human: a", "  b", (f"Human: a{SAID} ", "b")),
        ("Human: a", "\nb", (f"Human: a{SAID} ", "\nb")),
        ("Human: a", f"{SAID} b", (f"Human: a{SAID} ", "b")),
        (TURN, "b", (f"{TURN} ", "b")),
        (TURN, " b", (TURN, " b")),
        (TURN, "\nb", (TURN, "\nb")),
        (f"{TURN} ", "b", (f"{TURN} ", "b")),
        (f"{TURN} b\n\nHuman: c", "d", (f"{TURN} b\n\nHuman: c{SAID} ", "d")),
        ([A], "b", ([A], [B])),
        ([A], [B], ([A], [B])),
        ([A], [A, B], ([A], [B])),
        ("a", [B], ([A], [B])),
        ("a", [user("a "), B], ([user("a ")], [B])),
        ("a", [user("x"), B], ([A], [user("x"), B])),
    ],
)
def test_a_response_is_the_same_in_a_pair_in_a_ranking_and_by_itself(prompt, side, expected):
    other = side + "!" if isinstance(side, str) else [*side[:-1], assistant("!")]
    for first, second in ((side, other), (side, side), (other, side)):
        for row in (sides(first, second, prompt), ranked(prompt, first, second, other)):
            example = read_row(row)
            assert (example.prompt, example.responses[int(first is other)]) == expected
    example = read_row(scored(prompt=prompt, response=side))
    assert (example.prompt, *example.responses) == expected
