"""Examples: whole texts, and what is left of judgements where responses go or move."""

import copy

import pytest

from hidden_context.data.example import (
    Abstention,
    Comparison,
    Example,
    Judgement,
    Ranking,
    Rating,
)
from hidden_context.data.importers import read_row
from hidden_context.data.merge import merge_prompts

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


@pytest.mark.parametrize(
    ("places", "texts", "answers"),
    [
        (
            [2, 1, 0],
            ("p c", "p b", "p a"),
            [
                *(Comparison(2, 0, 0.25, -1, 2.0), Comparison(1, 2)),
                *(Ranking((None, 1, 2)), Ranking((3, 2, 1)), Rating(0, 4.0), Abstention()),
            ],
        ),
        (
            [2, 0],
            ("p c", "p a"),
            [Comparison(1, 0, 0.25, -1, 2.0), Ranking((3, 1)), Rating(0, 4.0), Abstention()],
        ),
        ([1], ("p b",), [Abstention()]),
        ([], (), [Abstention()]),
    ],
)
def test_what_is_said_of_responses_in_another_order_and_of_some(places, texts, answers):
    chosen = EXAMPLE.select(places)
    assert chosen.texts == texts
    assert chosen.judgements == tuple(Judgement(answer, "ann", 2.0, 0.5) for answer in answers)
    assert chosen.columns is EXAMPLE.columns
    assert len(places) < 3 or chosen.select(places) == EXAMPLE


def test_identical_responses_and_keys():
    sides = (("a", "a"), ("a", "b"), ("a",))
    assert [Example("p", responses).identical for responses in sides] == [True, False, False]
    assert Example("", ("b", "a")).prompt_key == Example("", ("a", "b")).prompt_key == "a\0b"
    assert EXAMPLE.abstentions == 1


CHAT = [{"role": "user", "content": "a"}]
RANKED = {"prompt": "p", "responses": [" a", " b"], "ranks": [1, 2]}
TURN = "\n\nHuman: a\n\nAssistant:"


def pair(chosen, rejected, prompt="p", line=1, **columns):
    return read_row(
        {"prompt": prompt, "chosen": chosen, "rejected": rejected, **columns}, line=line
    )


def test_equal_responses_stand_once_in_the_place_of_the_first():
    examples = [
        pair(" a", " b", line=1, weight=2, source="web", number=1),
        pair(" x", " y", "q", line=2),
        pair(" b", " c", line=3, annotator="ann", source="web", number=2),
        read_row({**RANKED, "responses": [" d", " c"], "source": "web"}, line=4),
        read_row({"prompt": "p", "response": " a", "rating": 3, "source": "web"}, line=5),
    ]
    before = copy.deepcopy(examples)
    merged, other = merge_prompts(examples)
    assert other is examples[1]
    assert examples == before  # nothing is changed in place
    assert (merged.prompt, merged.responses) == ("p", (" a", " b", " c", " d"))
    assert merged.judgements == (
        Judgement(Comparison(0, 1), None, 2.0),
        Judgement(Comparison(1, 2), "ann"),
        Judgement(Ranking((None, None, 2, 1))),
        Judgement(Rating(0, 3.0)),
    )
    assert merged.columns == {"prompt": "p", "source": "web"}
    assert merged.source_lines == (1, 3, 4, 5)
    assert merged.judgements[1].columns["number"] == 2
    assert merged.select([2, 0]).judgements == (Judgement(Rating(1, 3.0)),)
    # rankings have a rank for every merged response
    (merged,) = merge_prompts([read_row(RANKED), pair(" c", " a")])
    assert merged.judgements[0].answer == Ranking((1, 2, None))


def test_which_prompts_are_known_to_be_prompts():
    def count(*examples):
        return len(merge_prompts(examples))

    assert count(pair(" a", " b"), pair(" c", " d")) == 1
    assert count(pair(" a", " b"), pair(" c", " d", "q")) == 2
    # guessed from two plain texts, or none at all
    guessed = [read_row({"chosen": f"It is {i}", "rejected": "It is not"}) for i in range(2)]
    assert guessed[0].prompt == guessed[1].prompt == "It is"
    assert count(*guessed) == 2
    assert count(*(read_row({"text": "t", "rating": i}) for i in range(2))) == 2
    assert count(*(read_row({"chosen": "x", "rejected": f"y{i}"}) for i in range(2))) == 2
    # a dialogue's turn
    turns = [read_row({"chosen": f"{TURN} {i}", "rejected": f"{TURN} no"}) for i in range(2)]
    (merged,) = merge_prompts(turns)
    assert merged.texts == (f"{TURN} 0", f"{TURN} no", f"{TURN} 1")
    # messages
    chats = [read_row({"prompt": CHAT, "chosen": f"{i}", "rejected": "no"}) for i in range(2)]
    (chat,) = merge_prompts(chats)
    assert [response[0]["content"] for response in chat.responses] == ["0", "no", "1"]
    # by hand
    assert count(Example("p", ("a",)), Example("p", ("b",)), Example("", ("a",))) == 2


def test_at_most_16_responses_come_together():
    examples = [pair(f" {2 * i}", f" {2 * i + 1}", line=i) for i in range(9)]
    again = pair(" 16", " 0", line=9)  # response 0 stands in the first, which is full
    first, second = merge_prompts([*examples, again])
    assert (len(first.responses), first.source_lines) == (16, tuple(range(8)))
    assert second.responses == (" 16", " 17", " 0")
    assert second.source_lines == (8, 9)
    large = read_row({"prompt": "p", "responses": [f" {i}" for i in range(20)], "ranks": [1] * 20})
    assert merge_prompts([large]) == [large]


def test_a_response_that_an_example_has_twice_stays_twice():
    same = read_row({"prompt": "p", "responses": [" a", " a", " b"], "ranks": [1, 3, 2]})
    (merged,) = merge_prompts([same, pair(" a", " a"), pair(" b", " a")])
    assert merged.responses == (" a", " a", " b")
    answers = [Ranking((1, 3, 2)), Comparison(0, 1), Comparison(2, 0)]
    assert [judgement.answer for judgement in merged.judgements] == answers
