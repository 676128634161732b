"""Examples: whole texts, and what is left of judgements where responses go or move."""

from __future__ import annotations

from hidden_context.data.example import (
    Abstention,
    Comparison,
    Example,
    Judgement,
    Ranking,
    Rating,
)

ANSWERS = (
    Comparison(0, 2, 0.25, -1, 2.0),
    Comparison(1, 0),
    Ranking((2, 1, None)),
    Ranking((1, 2, 3)),
    Rating(2, 4.0),
    Abstention(),
)
EXAMPLE = Example(
    "p",
    (" a", " b", " c"),
    tuple(Judgement(answer, "ann", 2.0, 0.5) for answer in ANSWERS),
    {"x": 1},
)


def test_swap_names_the_same_texts_and_is_its_own_inverse() -> None:
    swapped = EXAMPLE.swap()
    assert swapped.texts == ("p c", "p b", "p a")
    assert [judgement.answer for judgement in swapped.judgements] == [
        Comparison(2, 0, 0.25, -1, 2.0),
        Comparison(1, 2),
        Ranking((None, 1, 2)),
        Ranking((3, 2, 1)),
        Rating(0, 4.0),
        Abstention(),
    ]
    assert swapped.swap() == EXAMPLE


def test_select_keeps_what_is_said_of_the_responses_that_stay() -> None:
    left = EXAMPLE.select([2, 0])
    assert left.texts == ("p c", "p a")
    answers = (Comparison(1, 0, 0.25, -1, 2.0), Ranking((3, 1)), Rating(0, 4.0), Abstention())
    assert left.judgements == tuple(Judgement(answer, "ann", 2.0, 0.5) for answer in answers)
    assert [j.answer for j in EXAMPLE.select([1]).judgements] == [Abstention()]
    assert EXAMPLE.select([]).responses == ()
    assert left.columns is EXAMPLE.columns


def test_whole_texts_of_text_and_messages() -> None:
    message = {"role": "assistant", "content": "a"}
    assert Example("", ("a",)).texts == ("a",)
    assert Example([], ([message],)).texts == ([message],)
    assert Example([message], ([message],)).text(0) == [message, message]


def test_identical_responses_and_keys() -> None:
    assert Example("p", ("a", "a")).identical
    assert not Example("p", ("a", "b")).identical
    assert not Example("p", ("a",)).identical
    assert Example("", ("b", "a")).prompt_key == Example("", ("a", "b")).prompt_key == "a\0b"
    assert EXAMPLE.abstentions == 1
