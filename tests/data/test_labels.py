"""From rows to the labels that an objective reads."""

from __future__ import annotations

import math

import pytest
import torch

from hidden_context import heads
from hidden_context.data.labels import annotator_names, labels_for, labels_of
from hidden_context.data.preferences import parse_preference
from hidden_context.data.rankings import parse_preferences
from hidden_context.errors import DataError
from hidden_context.objectives import AnnotatorEmbeddings, Objective, Outcomes

SIDES = {"prompt": "Tea?", "chosen": " Yes.", "rejected": " No."}


def pairs_of(*rows):
    return [
        pair
        for number, row in enumerate(rows, start=1)
        for pair in parse_preferences(SIDES | row, line=number)
    ]


def listed(values: torch.Tensor) -> list[float | None]:
    """Values of a tensor, None for NaN."""
    return [None if math.isnan(value) else pytest.approx(value) for value in values.tolist()]


def test_rows_made_by_hand():
    labels = labels_of(
        pairs_of(
            {},
            {"preference": 0.3, "margin": 2, "weight": 1.5},
            {"strength": -2, "rating_chosen": 4, "rating_rejected": 1.5},
            {"strength": 0, "preference": None},
            {"strength": 1, "preference": 0.9, "rating_rejected": -3},
        )
    )
    assert len(labels) == 5
    assert listed(labels.preference) == [1.0, 0.3, 0.0, 0.5, 0.9]
    assert labels.pair.tolist() == [0, 1, 2, 3, 4]
    assert listed(labels.strength) == [None, None, -2, 0, 1]
    assert labels.margin.tolist() == [0, 2, 0, 0, 0]
    assert labels.annotator.tolist() == [-1] * 5
    assert labels.weight.tolist() == [1, 1.5, 1, 1, 1]
    assert listed(labels.rating_chosen) == [None, None, 4, None, None]
    assert listed(labels.rating_rejected) == [None, None, 1.5, None, -3]
    for name in ("preference", "strength", "margin", "weight", "rating_chosen"):
        assert getattr(labels, name).dtype == torch.float32
    assert labels.pair.dtype == labels.annotator.dtype == torch.long
    assert len(labels_of([])) == 0
    assert labels_of([]).pair.tolist() == []


SEVERAL = {
    "annotations": [
        {"annotator": "bob", "preference": 1},
        {"annotator": "ann", "strength": -1, "margin": 0.5},
        {"strength": 2},
    ],
    "annotator": 7,
    "weight": 3,
    "objective": "helpful",
}


def test_several_annotations_of_a_pair():
    pairs = pairs_of({"annotator": "ann"}, SEVERAL, {"preference": 0.5})
    names = annotator_names(pairs)
    assert names == ["7", "ann", "bob"]
    labels = labels_of(pairs, AnnotatorEmbeddings(names, 1).index)
    assert labels.pair.tolist() == [0, 1, 1, 1, 2]
    assert labels.preference.tolist() == [1, 1, 0, 1, 0.5]
    assert listed(labels.strength) == [None, None, -1, 2, None]
    assert labels.margin.tolist() == [0, 0, 0.5, 0, 0]
    # an entry that names nobody is the row's annotator's; a row without one is nobody's
    assert labels.annotator.tolist() == [1, 2, 1, 0, -1]
    assert labels.weight.tolist() == [1, 3, 1]
    assert listed(labels.vote_share) == [1.0, 2 / 3, 0.5]
    assert pairs[1].preference == pytest.approx(2 / 3)
    one = labels.select(torch.tensor([1]))
    assert one.pair.tolist() == [0, 0, 0]
    assert one.annotator.tolist() == [2, 1, 0]


def test_annotators_who_are_not_known():
    pairs = pairs_of({"annotator": "zoe"}, {"annotator": "ann"}, SEVERAL, {"annotator": ""})
    known = AnnotatorEmbeddings(["ann", "7"], 1)
    assert labels_of(pairs, known.index).annotator.tolist() == [-1, 0, -1, 0, 1, -1]
    assert labels_of(pairs).annotator.tolist() == [-1] * 6


def test_another_column_may_name_them():
    pairs = pairs_of(SEVERAL, {"objective": 3}, {"annotator": "ann"})
    assert annotator_names(pairs, "objective") == ["3", "helpful"]
    assert annotator_names(pairs, "judge") == []
    index = AnnotatorEmbeddings(["3", "helpful"], 1).index
    assert labels_of(pairs, index, "objective").annotator.tolist() == [1, 1, 1, 0, -1]
    with pytest.raises(DataError, match="text or an integer") as caught:
        annotator_names(pairs_of({}, {"judge": 0.5}), "judge")
    assert (caught.value.line, caught.value.field) == (2, "judge")
    wrong = [{"judge": "a"}, {"judge": [1]}]
    with pytest.raises(DataError) as caught:
        labels_of(pairs_of({"annotations": wrong}), index, "judge")
    assert (caught.value.line, caught.value.field) == (1, "annotations[1].judge")


def test_a_ranking_s_pairs():
    row = {"prompt": "Tea?", "responses": [" No.", " Yes.", " Yes!"], "ranks": [3, 1, 1]}
    row |= {"ratings": [2, 4.5, None], "annotator": "ann"}
    pairs = parse_preferences(row)
    labels = labels_of(pairs, AnnotatorEmbeddings(["ann"], 1).index)
    assert labels.preference.tolist() == [1, 1, 0.5]
    assert listed(labels.weight) == [2 / 3] * 3
    assert listed(labels.rating_chosen) == [4.5, None, 4.5]
    assert listed(labels.rating_rejected) == [2, 2, None]
    assert labels.annotator.tolist() == [0, 0, 0]


def test_an_objective_reads_by_its_own_annotators_and_column():
    pairs = pairs_of(SEVERAL, {"objective": "harmless", "annotator": "ann"})
    head = heads.make("factor")
    known = AnnotatorEmbeddings(["harmless", "helpful"], 1, column="objective")
    labels = labels_for(Objective(head, annotators=known), pairs)
    assert labels.annotator.tolist() == [1, 1, 1, 0]
    assert labels_for(Objective(head), pairs).annotator.tolist() == [-1] * 4


@pytest.mark.parametrize("strength", [-3, 3])
def test_strengths_beyond_the_levels(strength):
    rows = ({"strength": 2}, {"annotations": [{"strength": 1}, {"strength": strength}]})
    pairs = pairs_of(*rows)
    head = heads.make("base")
    for levels in (2, 3, 7):
        labels = labels_for(Objective(head, Outcomes(levels)), pairs)
        assert labels.strength.tolist() == [2, 1, strength]
    five = Objective(head, Outcomes(5))
    with pytest.raises(DataError, match=rf"strength {strength} is beyond 5 levels") as caught:
        labels_for(five, pairs, "pairs.jsonl")
    assert (caught.value.file, caught.value.line, caught.value.field) == (
        "pairs.jsonl",
        2,
        "strength",
    )
    assert "seven_levels" in str(caught.value)
    by_hand = [parse_preference(SIDES | {"strength": s}) for s in (1, 2, strength)]
    with pytest.raises(DataError) as caught:  # without lines they are counted from 1
        labels_for(five, by_hand)
    assert (caught.value.file, caught.value.line) == (None, 3)
