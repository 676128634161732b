"""From rows to the labels that a likelihood reads."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from hidden_context.data.example import Comparison, Example, Judgement, Rating
from hidden_context.data.importers import read_row
from hidden_context.data.labels import annotator_names, labels_of
from hidden_context.errors import DataError

SIDES = {"prompt": "Tea?", "chosen": " Yes.", "rejected": " No."}


def examples_of(*rows: dict[str, Any]) -> list[Example]:
    return [read_row(SIDES | row, line=number) for number, row in enumerate(rows, start=1)]


def index_of(*names: str):
    return lambda name: names.index(str(name)) if str(name) in names else -1


def listed(values: torch.Tensor) -> list[Any]:
    """Values of a tensor, None for NaN."""
    return [None if math.isnan(value) else pytest.approx(value) for value in values.tolist()]


def test_rows_made_by_hand():
    labels = labels_of(
        examples_of(
            {},
            {"preference": 0.3, "margin": -2, "weight": 1.5},
            {"strength": 2, "rating_chosen": 4, "rating_rejected": 1.5},
            {"strength": 0, "preference": None},
            {"strength": 1, "preference": 0.9, "rating_rejected": -3, "weight": 2},
        )
    )
    compared, rated = labels.comparisons, labels.ratings
    assert (len(labels), labels.num_responses) == (5, 10)
    assert labels.offsets.tolist() == [0, 2, 4, 6, 8, 10]
    assert compared.first.tolist() == [0, 2, 4, 6, 8]
    assert compared.second.tolist() == [1, 3, 5, 7, 9]
    assert listed(compared.preference) == [1.0, 0.3, 1.0, 0.5, 0.9]
    assert compared.example.tolist() == [0, 1, 2, 3, 4]
    assert listed(compared.strength) == [None, None, 2, 0, 1]
    assert compared.margin.tolist() == [0, -2, 0, 0, 0]
    assert compared.annotator.tolist() == [-1] * 5
    assert compared.weight.tolist() == [1, 1.5, 1, 1, 2]
    assert compared.votes.tolist() == [1] * 5
    assert rated.response.tolist() == [4, 5, 9]
    assert rated.value.tolist() == [4, 1.5, -3]
    assert rated.weight.tolist() == [1, 1, 2]
    assert (rated.votes.tolist(), rated.example.tolist()) == ([1, 1, 1], [2, 2, 4])
    for name in ("preference", "strength", "margin", "weight", "votes"):
        assert getattr(compared, name).dtype == torch.float32
    assert rated.value.dtype == torch.float32
    indices = (compared.first, compared.annotator, compared.example, rated.response, labels.offsets)
    assert all(tensor.dtype == torch.long for tensor in indices)
    nothing = labels_of([])
    assert (len(nothing), nothing.num_judgements, nothing.comparisons.first.dtype) == (
        0,
        0,
        torch.long,
    )


SEVERAL = {
    "annotations": [
        {"annotator": "bob", "preference": 1},
        {"annotator": "ann", "strength": -1, "margin": -0.5},
        {"strength": 2},
        {"annotator": "cat"},
    ],
    "annotator": 7,
    "weight": 3,
    "objective": "helpful",
}


def test_several_judgements_of_a_pair():
    examples = examples_of({"annotator": "ann"}, SEVERAL, {"preference": 0.5})
    names = annotator_names(examples)
    assert names == ["7", "ann", "bob"]  # cat abstained
    labels = labels_of(examples, index_of(*names))
    compared = labels.comparisons
    assert compared.example.tolist() == [0, 1, 1, 1, 2]
    assert compared.preference.tolist() == [1, 1, 0, 1, 0.5]
    assert listed(compared.strength) == [None, None, -1, 2, None]
    assert compared.margin.tolist() == [0, 0, -0.5, 0, 0]
    # an entry that names nobody is the row's annotator's; a row without one is nobody's
    assert compared.annotator.tolist() == [1, 2, 1, 0, -1]
    assert compared.weight.tolist() == [1, 3, 3, 3, 1]
    assert listed(labels.vote_share) == [1.0, 2 / 3, 0.5]
    one = labels.select(torch.tensor([1]))
    assert one.comparisons.example.tolist() == [0, 0, 0]
    assert one.comparisons.annotator.tolist() == [2, 1, 0]


def test_annotators_who_are_not_known():
    examples = examples_of({"annotator": "zoe"}, {"annotator": "ann"}, SEVERAL, {"annotator": ""})
    known = index_of("ann", "7")
    assert labels_of(examples, known).comparisons.annotator.tolist() == [-1, 0, -1, 0, 1, -1]
    assert labels_of(examples).comparisons.annotator.tolist() == [-1] * 6


def test_another_column_may_name_them():
    examples = examples_of(SEVERAL, {"objective": 3}, {"annotator": "ann"})
    assert annotator_names(examples, "objective") == ["3", "helpful"]
    assert annotator_names(examples, "judge") == []
    index = index_of("3", "helpful")
    labels = labels_of(examples, index, "objective")
    assert labels.comparisons.annotator.tolist() == [1, 1, 1, 0, -1]
    with pytest.raises(DataError, match="text or an integer") as caught:
        annotator_names(examples_of({}, {"judge": 0.5}), "judge")
    assert (caught.value.line, caught.value.field) == (2, "judge")
    wrong = [{"judge": "a", "strength": 1}, {"judge": [1], "strength": 1}]
    with pytest.raises(DataError) as caught:
        labels_of(examples_of({"annotations": wrong}), index, "judge", file="a.jsonl")
    error = caught.value
    assert (error.file, error.line, error.field) == ("a.jsonl", 1, "annotations[1].judge")
    copied = Judgement(Comparison(0, 1), columns=examples_of(SEVERAL)[0].judgements[0].columns)
    assert annotator_names([Example("", ("a", "b"), (copied,))], "objective") == ["helpful"]


def test_a_ranking_s_comparisons():
    row = {"prompt": "Tea?", "responses": [" No.", " Yes.", " Yes!"], "ranks": [3, 1, 1]}
    row |= {"ratings": [2, 4.5, None], "annotator": "ann", "weight": 3}
    before = examples_of({})
    labels = labels_of([*before, read_row(row)], index_of("ann"))
    compared = labels.comparisons
    assert labels.offsets.tolist() == [0, 2, 5]
    assert compared.first.tolist() == [0, 3, 4, 3]
    assert compared.second.tolist() == [1, 2, 2, 4]
    assert compared.preference.tolist() == [1, 1, 1, 0.5]
    assert listed(compared.votes) == [1] + [2 / 3] * 3
    assert listed(compared.weight) == [1] + [2] * 3
    assert compared.annotator.tolist() == [-1, 0, 0, 0]
    assert compared.example.tolist() == [0, 1, 1, 1]
    assert (labels.ratings.response.tolist(), labels.ratings.value.tolist()) == ([2, 3], [2, 4.5])
    assert labels.ratings.annotator.tolist() == [-1, -1]
    assert listed(labels.without_ratings().votes_by_example) == [1, 2]


def test_a_ranking_of_some_responses_counts_those():
    entry = {"ranks": [2, None, 1, 3]}
    row = {"prompt": "p", "responses": ["a", "b", "c", "d"], "judgements": [entry]}
    compared = labels_of([read_row(row)]).comparisons
    pairs = list(zip(compared.first.tolist(), compared.second.tolist(), strict=True))
    assert pairs == [(2, 0), (0, 3), (2, 3)]
    assert listed(compared.votes) == [2 / 3] * 3


def test_rated_texts_and_abstentions():
    entries = [{"annotator": "ann", "rating": 4, "weight": 2}, {"annotator": "bob"}]
    rated = [read_row({"text": "a", "ratings": entries}), read_row({"text": "b", "rating": -1})]
    silent = read_row(SIDES | {"annotations": [{"annotator": "ann"}]})
    labels = labels_of([rated[0], silent, rated[1]], index_of("ann", "bob"))
    assert labels.offsets.tolist() == [0, 1, 3, 4]
    assert len(labels.comparisons) == 0
    assert labels.ratings.response.tolist() == [0, 3]
    assert labels.ratings.annotator.tolist() == [0, -1]
    assert labels.ratings.weight.tolist() == [2, 1]
    assert labels.ratings.example.tolist() == [0, 2]


def test_swapped_examples_name_the_same_texts():
    (example,) = examples_of({"preference": 0.3, "rating_chosen": 2})
    swapped = labels_of([example.swap()])
    assert (swapped.comparisons.first.tolist(), swapped.comparisons.second.tolist()) == ([1], [0])
    assert listed(swapped.comparisons.preference) == [0.3]
    assert swapped.ratings.response.tolist() == [1]


@pytest.mark.parametrize("strength", [-3, 3])
def test_strengths_beyond_the_levels(strength):
    rows = ({"strength": 2}, {"annotations": [{"strength": 1}, {"strength": strength}]})
    examples = examples_of(*rows)
    for levels in (2, 3, 7):
        labels = labels_of(examples, levels=levels)
        assert labels.comparisons.strength.tolist() == [2, 1, strength]
    with pytest.raises(DataError, match=rf"strength {strength} is beyond 5 levels") as caught:
        labels_of(examples, levels=5, file="pairs.jsonl")
    assert (caught.value.file, caught.value.line, caught.value.field) == (
        "pairs.jsonl",
        2,
        "strength",
    )
    assert "seven_levels" in str(caught.value)
    by_hand = [read_row(SIDES | {"strength": s}) for s in (1, 2, strength)]
    with pytest.raises(DataError) as caught:  # without lines they are counted from 1
        labels_of(by_hand, levels=5)
    assert (caught.value.file, caught.value.line) == (None, 3)


def test_examples_made_by_hand():
    said = (Judgement(Comparison(1, 0), "ann"), Judgement(Rating(1, 2.0), "ann"))
    labels = labels_of([Example("p", ("a", "b"), said)], index_of("ann"))
    assert labels.comparisons.first.tolist() == [1]
    assert labels.annotator.tolist() == [0, 0]
