"""Merging examples of one prompt."""

from __future__ import annotations

from typing import Any

from hidden_context.data.example import Comparison, Example, Judgement, Ranking, Rating
from hidden_context.data.importers import read_row
from hidden_context.data.merge import merge_prompts

CHAT = [{"role": "user", "content": "a"}]
TURN = "\n\nHuman: a\n\nAssistant:"


def pair(chosen: str, rejected: str, prompt: str = "p", line: int = 1, **columns: Any) -> Example:
    row = {"prompt": prompt, "chosen": chosen, "rejected": rejected, **columns}
    return read_row(row, line=line)


def test_equal_responses_stand_once_in_the_place_of_the_first() -> None:
    examples = [
        pair(" a", " b", line=1, weight=2, source="web", number=1),
        pair(" x", " y", "q", line=2),
        pair(" b", " c", line=3, annotator="ann", source="web", number=2),
        read_row(
            {"prompt": "p", "responses": [" d", " c"], "ranks": [1, 2], "source": "web"}, line=4
        ),
        read_row({"prompt": "p", "response": " a", "rating": 3, "source": "web"}, line=5),
    ]
    merged, other = merge_prompts(examples)
    assert other is examples[1]
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


def test_rankings_have_a_rank_for_every_merged_response() -> None:
    row = {"prompt": "p", "responses": [" a", " b"], "ranks": [1, 2]}
    (merged,) = merge_prompts([read_row(row), pair(" c", " a")])
    assert merged.judgements[0].answer == Ranking((1, 2, None))


def test_which_prompts_are_known_to_be_prompts() -> None:
    def count(*examples: Example) -> int:
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
    assert [response[0]["content"] for response in chat.responses] == ["0", "no", "1"]  # type: ignore[index]
    # by hand
    assert count(Example("p", ("a",)), Example("p", ("b",)), Example("", ("a",))) == 2


def test_at_most_16_responses_come_together() -> None:
    examples = [pair(f" {2 * i}", f" {2 * i + 1}", line=i) for i in range(9)]
    again = pair(" 16", " 0", line=9)  # response 0 stands in the first, which is full
    first, second = merge_prompts([*examples, again])
    assert (len(first.responses), first.source_lines) == (16, tuple(range(8)))
    assert second.responses == (" 16", " 17", " 0")
    assert second.source_lines == (8, 9)
    large = read_row({"prompt": "p", "responses": [f" {i}" for i in range(20)], "ranks": [1] * 20})
    assert merge_prompts([large]) == [large]


def test_a_response_that_an_example_has_twice_stays_twice() -> None:
    same = read_row({"prompt": "p", "responses": [" a", " a", " b"], "ranks": [1, 3, 2]})
    (merged,) = merge_prompts([same, pair(" a", " a"), pair(" b", " a")])
    assert merged.responses == (" a", " a", " b")
    assert [judgement.answer for judgement in merged.judgements] == [
        Ranking((1, 3, 2)),
        Comparison(0, 1),
        Comparison(2, 0),
    ]


def test_nothing_is_changed_in_place() -> None:
    examples = [pair(" a", " b", x=1), pair(" c", " b", x=2)]
    rows = [dict(example.columns) for example in examples]
    (merged,) = merge_prompts(examples)
    assert merged.columns == {"prompt": "p", "rejected": " b"}
    assert [example.columns for example in examples] == rows
    assert [example.responses for example in examples] == [(" a", " b"), (" c", " b")]
