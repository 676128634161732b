"""Pairs: what one annotator, or several, said of the two sides."""

from __future__ import annotations

from typing import Any

import pytest

from hidden_context.data.example import Abstention, Comparison, Example, Judgement
from hidden_context.data.importers import read_row
from hidden_context.data.labels import annotator_of
from hidden_context.errors import DataError


def pair(**columns: Any) -> Example:
    return read_row({"chosen": "a", "rejected": "b", **columns}, file="f.jsonl", line=3)


def test_a_row_without_a_list_makes_one_judgement() -> None:
    assert pair().judgements == (Judgement(Comparison(0, 1, 1.0, None, None)),)
    row = pair(annotator=7, preference=0.25, strength=-2, margin=3)
    assert row.judgements == (Judgement(Comparison(0, 1, 0.25, -2, 3.0), 7),)


@pytest.mark.parametrize(
    ("strength", "preference"), [(3, 1.0), (0, 0.5), (-1, 0.0), (2.0, 1.0), (None, 1.0)]
)
def test_a_strength_says_the_preference_by_its_sign(strength: Any, preference: float) -> None:
    (own,) = pair(strength=strength).judgements
    (entry,) = pair(annotations=[{"strength": strength, "margin": 0.5}]).judgements
    for judgement in (own, entry):
        assert isinstance(judgement.answer, Comparison)
        assert judgement.answer.preference == preference
        assert type(judgement.answer.strength) is (int if strength is not None else type(None))


def test_a_given_preference_goes_before_the_strength() -> None:
    assert pair(strength=-2, preference=0.75).judgements[0].answer == Comparison(0, 1, 0.75, -2)
    (judgement,) = pair(annotations=[{"strength": 2, "preference": 0.5}]).judgements
    assert judgement == Judgement(Comparison(0, 1, 0.5, 2))


def test_a_list_has_one_judgement_per_annotator() -> None:
    row = pair(
        annotations=[
            {"annotator": "ann", "preference": 1, "comment": "clear"},
            {"annotator": 2, "strength": -1, "margin": 0.5, "weight": 3, "confidence": 0.75},
            {"annotator": "cat", "preference": None, "strength": None, "margin": None},
            {"annotator": "", "strength": 0},
        ],
        preference=0.9,
        weight=2,
    )
    assert row.judgements == (
        Judgement(Comparison(0, 1, 1.0), "ann", 2.0),
        Judgement(Comparison(0, 1, 0.0, -1, 0.5), 2, 6.0, 0.75),
        Judgement(Abstention(), "cat", 2.0),
        Judgement(Comparison(0, 1, 0.5, 0), None, 2.0),
    )
    assert row.abstentions == 1
    assert pair(annotations=None, strength=-3).judgements == (Judgement(Comparison(0, 1, 0.0, -3)),)


def test_an_entry_without_an_annotator_has_the_rows() -> None:
    row = pair(annotator="team", annotations=[{"annotator": 1}, {"annotator": None}, {}])
    assert [judgement.annotator for judgement in row.judgements] == [1, "team", "team"]


def test_annotators_from_another_column() -> None:
    (own,) = pair(annotator="ann", objective="helpful", strength=2).judgements
    assert [annotator_of(own, c) for c in ("annotator", "objective", "none_such")] == [
        "ann",
        "helpful",
        None,
    ]
    several = pair(
        objective="helpful",
        annotations=[{"annotator": 1, "objective": 5}, {"annotator": 2, "objective": ""}, {}],
    )
    assert [annotator_of(j, "objective") for j in several.judgements] == [5, "helpful", "helpful"]
    by_hand = Judgement(Comparison(0, 1), "ann")
    assert (annotator_of(by_hand), annotator_of(by_hand, "objective")) == ("ann", None)


@pytest.mark.parametrize("value", [1.5, True, ["a"], {"name": "a"}])
def test_annotators_are_text_or_integers(value: Any) -> None:
    with pytest.raises(DataError, match="text or an integer is needed, not a") as caught:
        annotator_of(pair(worker=value).judgements[0], "worker")
    assert caught.value.field == "worker"
    assert "rename the column" in str(caught.value)
    with pytest.raises(DataError) as caught:
        annotator_of(pair(annotations=[{}, {"worker": value}]).judgements[1], "worker")
    assert caught.value.field == "annotations[1].worker"
    with pytest.raises(DataError) as caught:
        pair(annotations=[{"annotator": value}])
    assert caught.value.field == "annotations[0].annotator"


@pytest.mark.parametrize(
    ("change", "field", "text"),
    [
        (
            {"annotations": []},
            "annotations",
            "at least one annotation is needed, not an empty list",
        ),
        ({"annotations": {"a": 1}}, "annotations", r"not a dict \({'a': 1}\)"),
        ({"annotations": "ann"}, "annotations", "not text"),
        ({"annotations": [1]}, "annotations[0]", r"an annotation is needed, not a number \(1\)"),
        ({"annotations": [None]}, "annotations[0]", "an annotation is needed, not null"),
        ({"annotations": [{}, {"preference": 2}]}, "annotations[1].preference", "from 0 to 1"),
        ({"annotations": [{"preference": "1"}]}, "annotations[0].preference", "not text"),
        ({"annotations": [{"strength": 1.5}]}, "annotations[0].strength", "an integer is needed"),
        ({"annotations": [{"strength": 11}]}, "annotations[0].strength", "from -10 to 10"),
        ({"annotations": [{"margin": float("inf")}]}, "annotations[0].margin", "finite"),
        ({"annotations": [{"weight": 0}]}, "annotations[0].weight", "positive finite number"),
        ({"annotations": [{"confidence": "a"}]}, "annotations[0].confidence", "not text"),
        ({"annotator": True}, "annotator", "not a truth value"),
        ({"strength": -11}, "strength", "an integer from -10 to 10 is needed, not -11"),
        ({"strength": 0.5}, "strength", r"an integer is needed, not a number \(0\.5\)"),
        ({"strength": "strong"}, "strength", "an integer is needed, not text"),
        ({"annotations": [{}], "preference": -1}, "preference", "from 0 to 1"),
    ],
)
def test_malformed_judgements_name_file_line_field(
    change: dict[str, Any], field: str, text: str
) -> None:
    with pytest.raises(DataError, match=text) as caught:
        pair(**change)
    error = caught.value
    assert (error.file, error.line, error.field) == ("f.jsonl", 3, field)
    assert error.remedy


def test_remedies_say_what_the_columns_mean() -> None:
    with pytest.raises(DataError, match="0 a tie, negative where the rejected side is better"):
        pair(strength=99)
    with pytest.raises(DataError, match=r'Write the column as \[\{"annotator": "a"'):
        pair(annotations=[])
