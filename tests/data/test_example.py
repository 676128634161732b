"""Examples: what is left where responses go or move, as pairs, by prompt, and as labels."""

import copy
import json
from collections import Counter
from itertools import combinations

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
from hidden_context.data.labels import annotator_of, labels_of
from hidden_context.data.reshape import expand_pairs, merge_prompts
from support.rows import assistant, ranking, user
from support.rows import pair as pair_row

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


CHAT = [user("a"), assistant("b")]
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
    chats = [read_row({"prompt": CHAT[:1], "chosen": f"{i}", "rejected": "no"}) for i in range(2)]
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
VOTE = {"annotator": "ann", "comparison": [0, 1], "strength": 2, "weight": 3}
# Ratings that the columns of a pair cannot hold: against the vote, or two of one response.
AGAINST = [{"annotator": who, "response": n, "rating": 4 * n} for n, who in enumerate("bc")]
TWICE = [
    {"annotator": "bob", "response": 0, "rating": 4},
    {"response": 0, "rating": 3, "weight": 2},
]
ROWS = [
    *(
        read_row({"prompt": "p", "responses": [" a", " b"], "judgements": [VOTE, *rated]})
        for rated in (AGAINST, TWICE)
    ),
    read_row(ranking(ratings=[3, 4.5, None])),
    pair_row(chosen="x y", rejected="x z", rating_rejected=2, weight=0.5),
    pair_row(chosen="x y", rejected="x z", annotations=[{"strength": 1}, {}, {"margin": 1}]),
    read_row({"prompt": "p", "chosen": " a", "rejected": " b", "preference": 0.3}),
    JUDGED,
    read_row({"prompt": "p", "chosen": [" a", " b"], "rejected": [" c"], "subset": "Ties"}),
    read_row({"question": "q", "response_A": " a", "response_B": " b", "label": "B>A"}),
    read_row({"prompt": "a", "responses": [CHAT, CHAT[1:]], "ranks": [1, 2], "tools": "[{}]"}),
    read_row({"text": "alone", "rating": 3}),
]


def test_a_ranking_becomes_all_its_pairs():
    row = ranking(annotator="ann", ratings=[3, 4.5, None], source="web")
    pairs = expand_pairs(read_row(row, line=7))
    # each rating with the first pair that names its response, so that it counts once
    ratings = [[Rating(1, 3.0), Rating(0, 4.5)], [], []]
    rated = [{"rating_chosen": 4.5, "rating_rejected": 3.0}, {}, {}]
    sides = [(" b", " a", 1.0), (" a", " c", 0.5), (" b", " c", 1.0)]
    for pair, (one, other, share), own, columns in zip(pairs, sides, ratings, rated, strict=True):
        assert pair.judgements[0] == Judgement(Comparison(0, 1, share), "ann", 2 / 3)
        assert [judgement.answer for judgement in pair.judgements[1:]] == own
        assert (pair.prompt, pair.responses, pair.source_lines) == ("p0", (one, other), (7,))
        said = {"annotator": "ann", "source": "web", "preference": share, "weight": 2 / 3}
        texts = {"prompt": "p0", "chosen": f"p0{one}", "rejected": f"p0{other}"}
        assert pair.columns == texts | said | columns
    assert row == ranking(annotator="ann", ratings=[3, 4.5, None], source="web")
    for count in (2, 4, 9):  # counts like n - 1 comparisons
        sides = [f" {place}" for place in range(count)]
        example = Example("p", tuple(sides), (Judgement(Ranking((*range(count),)), weight=3),))
        pairs = [(*pair.responses, pair.columns["weight"]) for pair in expand_pairs(example)]
        assert pairs == [(*two, pytest.approx(6 / count)) for two in combinations(sides, 2)]


def test_judgements_of_every_kind_become_pairs():
    pairs = expand_pairs(JUDGED)
    said = [("".join(pair.responses), pair.judgements[0].weight) for pair in pairs]
    assert said == [(" b a", 2.0), (" a d", 2.0), (" b d", 2.0), (" d a", 6.0), (" d c", 3.0)]
    assert [pair.columns["annotator"] for pair in pairs] == ["ann"] * 3 + ["bob"] * 2
    assert pairs[3].columns == {
        "prompt": "p", "chosen": "p d", "rejected": "p a", "annotator": "bob", "source": "web",
        "judge": "j0", "preference": 0.0, "weight": 6.0, "strength": -2,
    }  # fmt: skip
    assert pairs[4].columns["margin"] == -0.5
    assert [pair.columns["judge"] for pair in pairs[2:4]] == ["j1", "j0"]
    ratings = [pair.columns.get(f"rating_{s}") for pair in pairs for s in ("chosen", "rejected")]
    assert ratings == [None, 2.0, None, 4.0] + [None] * 6


def test_a_pair_that_is_a_row_is_itself():
    row = {"prompt": "p", "chosen": " a", "rejected": " b", "rating_chosen": 3, "ranks": [1, 2]}
    example = read_row(row)
    (same,) = expand_pairs(example)
    assert same is example
    (swapped,) = expand_pairs(example.select([1, 0]))
    assert swapped.texts == ("p a", "p b")
    assert swapped.columns["rating_chosen"] == 3.0
    (one,) = expand_pairs(read_row({**row, "annotations": [{"annotator": "ann", "strength": 2}]}))
    assert "annotations" not in one.columns
    assert (one.columns["annotator"], one.columns["strength"]) == ("ann", 2)
    (by_hand,) = expand_pairs(Example("p", ("a", "b"), (Judgement(Comparison(0, 1)),)))
    assert by_hand.columns["chosen"] == "pa"
    assert expand_pairs(ROWS[-1]) == []


def multiset(examples):
    """What labels name: texts, what is said of them, and how much it counts."""
    labels = labels_of(examples)
    texts = [str(text) for example in examples for text in example.texts]

    def rows(part, places, names):
        columns = [[texts[place] for place in getattr(part, name).tolist()] for name in places]
        columns += [[repr(round(v, 6)) for v in getattr(part, name).tolist()] for name in names]
        return Counter(zip(*columns, strict=True))

    numbers = ("preference", "strength", "margin", "weight")
    compared = rows(labels.comparisons, ("first", "second"), numbers)
    return compared + rows(labels.ratings, ("response",), ("value", "weight"))


def test_pairs_merged_examples_and_labels_say_the_same():
    pairs = [pair for example in ROWS for pair in expand_pairs(example)]
    assert multiset(pairs) + Counter({("alone", "3.0", "1.0"): 1}) == multiset(ROWS)
    merged = merge_prompts(ROWS)
    assert len(merged) < len(ROWS)
    assert multiset(merged) == multiset(ROWS)


@pytest.mark.parametrize("example", ROWS)
def test_columns_of_pairs_read_as_the_same_pairs(example):
    for pair in expand_pairs(example):
        again = read_row(json.loads(json.dumps(pair.columns)))
        assert again.texts == pair.texts
        assert (again.prompt_key, again.tools) == (pair.prompt_key, example.tools)
        assert again.judgements[0] == pair.judgements[0]
        if "annotations" in pair.columns:
            assert again.judgements == pair.judgements == example.judgements
        for column in ("judge", "annotator"):
            who = annotator_of(pair.judgements[0], column)
            assert annotator_of(again.judgements[0], column) == who
