"""Examples as pairs, and as labels: both say the same."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from hidden_context.data.example import Comparison, Example, Judgement, Ranking, Rating
from hidden_context.data.expand import comparisons_of, expand_pairs
from hidden_context.data.importers import read_row
from hidden_context.data.labels import annotator_of, labels_of
from hidden_context.data.merge import merge_prompts


def ranking(**columns: Any) -> dict[str, Any]:
    return {"prompt": "p", "responses": [" a", " b", " c"], "ranks": [2, 1, 2], **columns}


JUDGED = read_row(
    {
        "prompt": "p",
        "responses": [" a", " b", " c", " d"],
        "judgements": [
            {"annotator": "ann", "ranks": [2, 1, None, 3], "judge": "j1"},
            {"annotator": "bob", "comparison": [3, 0], "strength": -2, "weight": 2},
            {"annotator": "bob", "comparison": [3, 2], "preference": 0.25, "margin": -0.5},
            {"response": 3, "rating": 4},
            {"annotator": "cat", "abstains": True},
            {"response": 0, "rating": 2},
        ],
        "annotator": "team",
        "weight": 3,
        "source": "web",
        "judge": "j0",
    },
    line=9,
)
ROWS = [
    read_row(ranking(ratings=[3, 4.5, None])),
    read_row({"chosen": "x y", "rejected": "x z", "rating_rejected": 2, "weight": 0.5}),
    read_row(
        {"chosen": "x y", "rejected": "x z", "annotations": [{"strength": 1}, {}, {"margin": 1}]}
    ),
    read_row({"prompt": "p", "chosen": " a", "rejected": " b", "preference": 0.3}),
    JUDGED,
    read_row({"text": "alone", "rating": 3}),
]


def test_a_ranking_becomes_all_its_pairs() -> None:
    row = ranking(annotator="ann", ratings=[3, 4.5, None], source="web")
    pairs = expand_pairs(read_row(row, line=7))
    assert [(*pair.texts, pair.judgements[0]) for pair in pairs] == [
        ("p b", "p a", Judgement(Comparison(0, 1, 1.0), "ann", 2 / 3)),
        ("p a", "p c", Judgement(Comparison(0, 1, 0.5), "ann", 2 / 3)),
        ("p b", "p c", Judgement(Comparison(0, 1, 1.0), "ann", 2 / 3)),
    ]
    # each rating with the first pair that names its response, so that it counts once
    assert [[j.answer for j in pair.judgements[1:]] for pair in pairs] == [
        [Rating(1, 3.0), Rating(0, 4.5)],
        [],
        [],
    ]
    assert {(pair.source_lines, pair.prompt) for pair in pairs} == {((7,), "p")}
    assert pairs[0].columns == {
        "prompt": "p", "chosen": "p b", "rejected": "p a", "annotator": "ann", "source": "web",
        "preference": 1.0, "weight": 2 / 3, "rating_chosen": 4.5, "rating_rejected": 3.0,
    }  # fmt: skip
    assert pairs[1].columns == {
        "prompt": "p", "chosen": "p a", "rejected": "p c", "annotator": "ann", "source": "web",
        "preference": 0.5, "weight": 2 / 3,
    }  # fmt: skip
    assert row == ranking(annotator="ann", ratings=[3, 4.5, None], source="web")


@pytest.mark.parametrize("count", [2, 3, 4, 9])
def test_a_ranking_of_n_counts_like_n_minus_1_comparisons(count: int) -> None:
    row = {
        "prompt": "p",
        "responses": [f" {i}" for i in range(count)],
        "ranks": [float(count - i) for i in range(count)],
    }
    pairs = expand_pairs(read_row(row))
    assert len(pairs) == count * (count - 1) // 2
    weights = [pair.judgements[0].weight for pair in pairs]
    assert sum(weights) == pytest.approx(count - 1, rel=1e-12)
    assert all(int(str(pair.responses[0])) > int(str(pair.responses[1])) for pair in pairs)
    assert "rating_chosen" not in pairs[0].columns
    assert expand_pairs(read_row({**row, "weight": 3}))[0].columns["weight"] == 6 / count


def test_only_ranked_responses_are_compared() -> None:
    found = list(comparisons_of(Ranking((3, None, 1))))
    assert found == [(Comparison(2, 0, 1.0), 1.0)]
    assert list(comparisons_of(Rating(0, 1.0))) == []


def test_judgements_of_every_kind_become_pairs() -> None:
    pairs = expand_pairs(JUDGED)
    assert [(*pair.responses, pair.judgements[0].weight) for pair in pairs] == [
        (" b", " a", 2.0),
        (" a", " d", 2.0),
        (" b", " d", 2.0),
        (" d", " a", 6.0),
        (" d", " c", 3.0),
    ]
    assert [pair.columns["annotator"] for pair in pairs] == ["ann"] * 3 + ["bob"] * 2
    assert pairs[3].columns == {
        "prompt": "p", "chosen": "p d", "rejected": "p a", "annotator": "bob", "source": "web",
        "judge": "j0", "preference": 0.0, "weight": 6.0, "strength": -2,
    }  # fmt: skip
    assert pairs[4].columns["margin"] == -0.5
    assert [pair.columns["judge"] for pair in pairs[2:4]] == ["j1", "j0"]
    ratings = [pair.columns.get(f"rating_{s}") for pair in pairs for s in ("chosen", "rejected")]
    assert ratings == [None, 2.0, None, 4.0] + [None] * 6


def test_a_pair_that_is_a_row_is_itself() -> None:
    row = {"prompt": "p", "chosen": " a", "rejected": " b", "rating_chosen": 3, "ranks": [1, 2]}
    example = read_row(row)
    assert expand_pairs(example) == [example]
    assert expand_pairs(example)[0] is example
    (swapped,) = expand_pairs(example.swap())
    assert swapped.texts == ("p a", "p b")
    assert swapped.columns["rating_chosen"] == 3.0
    (one,) = expand_pairs(read_row({**row, "annotations": [{"annotator": "ann", "strength": 2}]}))
    assert "annotations" not in one.columns
    assert (one.columns["annotator"], one.columns["strength"]) == ("ann", 2)
    (by_hand,) = expand_pairs(Example("p", ("a", "b"), (Judgement(Comparison(0, 1)),)))
    assert by_hand.columns["chosen"] == "pa"
    assert expand_pairs(ROWS[-1]) == []


@pytest.mark.parametrize(
    "ratings",
    [
        # a vote for one side and higher ratings of the other in one row would be an error
        [("bob", "rating_chosen", 1.0, 1.0), ("cat", "rating_rejected", 5.0, 1.0)],
        # two ratings of one response
        [("bob", "rating_chosen", 4.0, 1.0), (None, "rating_chosen", 3.0, 0.5)],
    ],
)
def test_ratings_that_columns_cannot_hold_are_entries(ratings: list[Any]) -> None:
    entries = [
        {"annotator": who, "response": int("rejected" in name), "rating": value, "weight": weight}
        for who, name, value, weight in ratings
    ]
    vote = {"annotator": "ann", "comparison": [0, 1], "strength": 2, "weight": 3}
    row = {"prompt": "p", "responses": [" a", " b"], "judgements": [vote, *entries]}
    example = read_row(row)
    (pair,) = expand_pairs(example)
    assert pair.columns == {
        "prompt": "p",
        "chosen": "p a",
        "rejected": "p b",
        "annotations": [
            {"preference": 1.0, "weight": 3.0, "strength": 2, "annotator": "ann"},
            *({name: value, "annotator": who, "weight": w} for who, name, value, w in ratings),
        ],
    }
    again = read_row(json.loads(json.dumps(pair.columns)))
    assert again.judgements == pair.judgements == example.judgements


def multiset(examples: list[Example]) -> Counter[Any]:
    """What labels name: texts, what is said of them, and how much it counts."""
    labels = labels_of(examples)
    texts = [text for example in examples for text in example.texts]
    compared, rated = labels.comparisons, labels.ratings
    columns = (compared.preference, compared.strength, compared.margin, compared.weight)
    numbers = [[repr(round(v, 6)) for v in column.tolist()] for column in columns]
    found = Counter(
        (texts[first], texts[second], *rest)
        for first, second, *rest in zip(
            compared.first.tolist(), compared.second.tolist(), *numbers, strict=True
        )
    )
    return found + Counter(
        (texts[response], value, weight)
        for response, value, weight in zip(
            rated.response.tolist(), rated.value.tolist(), rated.weight.tolist(), strict=True
        )
    )


def test_pairs_and_labels_say_the_same() -> None:
    pairs = [pair for example in ROWS for pair in expand_pairs(example)]
    unpaired = Counter({("alone", 3.0, 1.0): 1})
    assert multiset(pairs) + unpaired == multiset(ROWS)


def test_merged_examples_and_labels_say_the_same() -> None:
    merged = merge_prompts(ROWS)
    assert len(merged) < len(ROWS)
    assert multiset(merged) == multiset(ROWS)


@pytest.mark.parametrize("example", ROWS)
def test_columns_of_pairs_read_as_the_same_pairs(example: Example) -> None:
    for pair in expand_pairs(example):
        again = read_row(json.loads(json.dumps(pair.columns)))
        assert again.texts == pair.texts
        assert again.prompt_key == pair.prompt_key
        assert again.judgements[0] == pair.judgements[0]
        for column in ("judge", "annotator"):
            who = annotator_of(pair.judgements[0], column)
            assert annotator_of(again.judgements[0], column) == who


def test_pairs_of_messages_hold_the_whole_chat() -> None:
    chat = [{"role": "user", "content": "a"}]
    first, second = ([{"role": "assistant", "content": text}] for text in "bc")
    row = {"prompt": "a", "responses": [[*chat, *first], second], "ranks": [1, 2]}
    pairs = expand_pairs(read_row(row))
    assert pairs[0].columns["prompt"] == chat
    assert pairs[0].columns["rejected"] == [*chat, *second]
    assert read_row(pairs[0].columns).texts == pairs[0].texts
