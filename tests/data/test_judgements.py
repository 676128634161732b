"""What rows say of pairs, rankings, rated texts and benchmarks: one judgement, or a list."""

import pytest

from hidden_context.data.example import Abstention, Comparison, Judgement, Ranking, Rating
from hidden_context.data.importers import read_row
from hidden_context.data.importers.answers import unread_keys
from hidden_context.data.labels import annotator_of
from hidden_context.data.sources import load_examples
from hidden_context.errors import DataError
from support.rows import judged, pair, ranking


@pytest.mark.parametrize(
    ("said", "preference"),
    [
        ({"strength": 3}, 1.0),
        ({"strength": 0}, 0.5),
        ({"strength": -1}, 0.0),
        ({"strength": 2.0, "margin": 0.5}, 1.0),
        ({"margin": 0.25}, 1.0),
        ({"margin": 0}, 0.5),
        ({"margin": -40}, 0.0),
        ({"margin": -40, "rating_chosen": 1, "rating_rejected": 5}, 0.0),
        ({"rating_chosen": 1, "rating_rejected": 5}, 0.0),
        ({"rating_chosen": 3, "rating_rejected": 3.0}, 0.5),
        ({"rating_chosen": 5, "rating_rejected": -1}, 1.0),
        # a tie contradicts neither side, and what comes first decides
        ({"strength": 0, "margin": 2}, 0.5),
        ({"margin": -2, "rating_chosen": 3, "rating_rejected": 3}, 0.0),
        ({"preference": 0.75, "strength": 2}, 0.75),
        ({"preference": 0.75, "strength": 0}, 0.75),
        ({"preference": 0.5, "margin": -2}, 0.5),
    ],
)
def test_without_a_preference_the_first_sign_decides(said, preference):
    nulls = dict.fromkeys(("preference", "strength", "margin", "rating_chosen", "rating_rejected"))
    for columns in (said, {**nulls, **said}):
        own, *ratings = pair(**columns, annotator="ann", weight=2).judgements
        entry, *rated = pair(annotations=[{"annotator": "ann", "weight": 2, **columns}]).judgements
        assert own == entry
        strength, margin = said.get("strength"), said.get("margin")
        assert own == Judgement(Comparison(0, 1, preference, strength, margin), "ann", 2.0)
        assert type(own.answer.strength) is (int if "strength" in said else type(None))
        names = enumerate(("rating_chosen", "rating_rejected"))
        answers = [Rating(place, said[name]) for place, name in names if name in said]
        # the row does not say who rated, the entry does
        assert ratings == [Judgement(answer, None, 2.0) for answer in answers]
        assert rated == [Judgement(answer, "ann", 2.0) for answer in answers]


@pytest.mark.parametrize("rated", [{}, {"chosen": 0}, {"rejected": 1}])
def test_a_row_that_does_not_compare_is_a_vote_for_chosen(rated):
    row = pair(**{f"rating_{side}": 5 for side in rated}, margin=None)
    ratings = (Judgement(Rating(place, 5.0)) for place in rated.values())
    assert row.judgements == (Judgement(Comparison(0, 1)), *ratings)


@pytest.mark.parametrize(
    "entry",
    [
        {"annotator": "ann"},
        {"annotator": "ann", "preference": None},
        {"annotator": "ann", "label": None, "rating_chosen": None},
        {"annotator": "ann", "weight": 2, "confidence": 0.5},
        {"annotator": "ann", "abstains": True, "margin": None},
        {"annotator": "ann", "abstains": False},
        {"annotator": "ann", "preference": None, "comment": "both bad"},
        {"annotator": "ann", "abstains": True, "comment": "both bad"},
        {},
    ],
)
def test_an_entry_without_a_judgement_is_an_abstention(entry):
    row = pair(annotations=[entry, {"preference": 0}])
    assert [judgement.abstains for judgement in row.judgements] == [True, False]
    assert row.abstentions == 1


def test_a_list_has_one_judgement_per_annotator_and_other_keys_pass_through():
    entries = [
        {"annotator": "ann", "preference": 1, "comment": "clear", "label": None},
        {"annotator": 2, "strength": -1, "margin": -0.5, "weight": 3, "confidence": 0.75},
        {"annotator": "cat", "preference": None, "strength": None, "rating": 4},
        {"annotator": "", "strength": 0},
        {"rating_rejected": 4, "weight": 2},  # one rating is no vote
    ]
    row = pair(annotations=entries, annotator="team", preference=0.9, weight=2, comment="x")
    assert (row.columns["annotations"], row.judgements[0].columns["comment"]) == (entries, "clear")
    assert unread_keys(row) == {"annotations.comment", "annotations.rating"}
    assert row.judgements == (
        Judgement(Comparison(0, 1, 1.0), "ann", 2.0),
        Judgement(Comparison(0, 1, 0.0, -1, -0.5), 2, 6.0, 0.75),
        Judgement(Abstention(), "cat", 2.0),
        Judgement(Comparison(0, 1, 0.5, 0), "team", 2.0),
        Judgement(Rating(1, 4.0), "team", 4.0),
    )
    assert pair(annotations=None, strength=-3).judgements == (Judgement(Comparison(0, 1, 0.0, -3)),)


@pytest.mark.parametrize(
    ("entries", "count"),
    [
        ([{"annotator": "a", "preference": 1}, {"annotator": "b", "preference": 1}], 0),
        ([{"preference": 1}, {"preference": 1}], 0),
        ([{"annotator": 7, "preference": 1}, {"annotator": "7", "margin": -1}], 1),
        ([{"annotator": "a", "preference": 1}, {"annotator": "a", "preference": None}], 1),
        ([{"annotator": "a"}] * 3, 2),
        ([{"annotator": "a", "rating_chosen": 1, "rating_rejected": 2}], 0),
    ],
)
def test_the_same_annotator_twice_is_counted(entries, count):
    assert pair(annotations=entries).repeated == count
    # the same annotator may judge different responses
    compared = [{"annotator": "ann", "comparison": places} for places in ([0, 1], [1, 2], [1, 0])]
    bob = [{"annotator": "bob", "ranks": [1, 2, 3]}, {"annotator": "bob", "abstains": True}]
    rated = {"annotator": "ann", "response": 0, "rating": 1}
    assert judged(*compared, rated, *bob).repeated == 2


@pytest.mark.parametrize("value", [1.5, True, ["a"], {"name": "a"}])
def test_annotators_are_text_or_integers(value):
    (own,) = pair(worker=value).judgements
    _, entry = pair(annotations=[{}, {"worker": value, "preference": 1}]).judgements
    for judgement, field in ((own, "worker"), (entry, "annotations[1].worker")):
        with pytest.raises(DataError, match=r"text or an integer .* rename the column") as caught:
            annotator_of(judgement, "worker")
        assert caught.value.field == field


def test_a_ranking_is_one_example():
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
    for ranks in ([9, 4, 4.0], [1.0, 2.0, 3.0]):  # need not be consecutive
        assert read_row(ranking(ranks=ranks)).judgements[0].answer == Ranking(tuple(ranks))
    # ties contradict no ratings, and what several people said is theirs
    assert len(read_row(ranking(ratings=[3, 3, 1])).judgements) == 4
    several = [{"annotator": "ann", "ranks": [1, 2, 3]}]
    assert len(read_row(ranking(ranks=None, rankings=several, ratings=[1, 2, 3])).judgements) == 4


def test_several_annotators_rank_the_same_responses():
    entries = [
        {"annotator": "ann", "ranks": [2, 1, 3], "weight": 3, "confidence": 0.5, "time": 7},
        {"annotator": "bob", "ranks": [1, None, 2.0]},
        {"ranks": [1, 1, 2], "annotator": None},
        {"annotator": "cat", "ranks": None},
        {"annotator": "ann", "abstains": True},
    ]
    row = ranking(ranks=None, rankings=entries, ratings=[1, 2, 3], weight=2, annotator="team")
    example = read_row(row)
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


def test_ratings_of_a_text():
    (one,) = read_row({"text": "a", "rating": 3, "annotator": "ann", "weight": 2}).judgements
    assert one == Judgement(Rating(0, 3.0), "ann", 2.0)
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


def test_judgements_of_every_kind():
    example = judged(
        {"annotator": "ann", "comparison": [2, 0], "margin": 1.5, "rating": None},
        {"annotator": "bob", "comparison": [0, 1], "strength": -2, "weight": 3},
        {"comparison": [2, 0], "margin": -40},
        {"comparison": [0, 1]},
        {"comparison": [0, 1], "preference": None, "margin": 0},
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
        Judgement(Comparison(2, 0, 0.0, None, -40.0), "team", 2.0),
        Judgement(Comparison(0, 1), "team", 2.0),
        Judgement(Comparison(0, 1, 0.5, None, 0.0), "team", 2.0),
        Judgement(Ranking((2, None, 1)), "team", 2.0, 0.25),
        Judgement(Ranking((1, 1, 2)), "ann", 2.0),
        Judgement(Rating(0, 4.0), "team", 2.0),
        Judgement(Abstention(), 5, 2.0),
    )


REWARD_BENCH = {
    "prompt": "What is tea?",
    "chosen": [" A drink."],
    "rejected": [" A car.", " A cat.", " A hat."],
    "subset": "Factuality",
    "additional_metadata": {"category": None, "valid": 1.0},
}
TIES = REWARD_BENCH | {
    "prompt": "Name a prime.",
    "chosen": [" Two.", " Three.", " Five."],
    "rejected": [" Four.", " Six."],
    "subset": "Ties",
}
RM_BENCH = {
    "prompt": "Tea?",
    "chosen": [" Yes.", " Yes, indeed.", " **Yes**"],
    "rejected": [" No.", " No, indeed.", " **No**"],
}
JUDGE_BENCH = {"question": "2 + 2?", "response_A": " 5", "response_B": " 4", "label": "B>A"}


def said(row):
    """The comparisons of a row, and how much each counts."""
    judgements = read_row(row).judgements
    assert all(isinstance(judgement.answer, Comparison) for judgement in judgements)
    return [(j.answer, j.weight) for j in judgements]


def test_every_right_answer_is_better_than_every_wrong_one():
    example = read_row(REWARD_BENCH, line=3)
    assert (example.prompt, example.responses[:2]) == ("What is tea?", (" A drink.", " A car."))
    assert (example.columns, example.source_lines) == (REWARD_BENCH, (3,))
    assert said(REWARD_BENCH) == [(Comparison(0, wrong), 1.0) for wrong in (1, 2, 3)]
    styles = said(RM_BENCH)
    assert [one for one, _ in styles] == [
        Comparison(right, wrong) for right in range(3) for wrong in range(3, 6)
    ]
    # six answers count like five comparisons
    assert sum(weight for _, weight in styles) == pytest.approx(5)
    assert said(RM_BENCH | {"weight": 3})[0][1] == pytest.approx(3 * 5 / 9)


def test_right_answers_of_the_ties_subset_are_equally_good():
    found = said(TIES | {"annotator": "ann"})
    assert [one for one, _ in found] == [
        *(Comparison(right, wrong) for right in range(3) for wrong in (3, 4)),
        *(Comparison(*two, preference=0.5) for two in ((0, 1), (0, 2), (1, 2))),
    ]
    assert {weight for _, weight in found} == {4 / 9}
    assert len(said(TIES | {"subset": "Math"})) == 6
    assert read_row(TIES | {"annotator": "ann"}).repeated == 0


def test_rows_of_every_benchmark_may_stand_in_one_file(write_rows):
    pair = {"prompt": "p", "chosen": " x", "rejected": " y"}
    nulls = dict.fromkeys([*REWARD_BENCH, *JUDGE_BENCH])
    rows = [REWARD_BENCH, TIES, RM_BENCH, JUDGE_BENCH, pair]
    data = load_examples(write_rows("mixed.jsonl", [nulls | row for row in rows]))
    assert [one.judgements for one in data] == [read_row(row).judgements for row in rows]
    assert data.examples[3].judgements == (Judgement(Comparison(0, 1)),)
    assert data.examples[3].columns == nulls | JUDGE_BENCH
    data = load_examples(write_rows("a.parquet", rows[:2] + rows[3:4]))
    assert [len(one.responses) for one in data] == [4, 5, 2]
