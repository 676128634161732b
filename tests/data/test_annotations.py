from __future__ import annotations

from typing import Any

import pytest

from hidden_context.data.annotations import Annotation, annotations_of, read_annotations
from hidden_context.data.preferences import Preference, parse_preference
from hidden_context.errors import DataError


def pair(**columns: Any) -> Preference:
    return parse_preference({"chosen": "a", "rejected": "b", **columns}, file="f.jsonl", line=3)


def test_a_row_without_a_list_makes_one_annotation() -> None:
    assert pair().annotations == (Annotation(None, 1.0, None, None),)
    row = pair(annotator=7, preference=0.25, strength=-2, margin=3)
    assert row.annotations == (Annotation(7, 0.25, -2, 3.0),)
    assert row.preference == 0.25


@pytest.mark.parametrize(
    ("strength", "preference"), [(3, 1.0), (0, 0.5), (-1, 0.0), (2.0, 1.0), (None, 1.0)]
)
def test_a_strength_says_the_preference_by_its_sign(strength: Any, preference: float) -> None:
    row = pair(strength=strength)
    assert (row.preference, row.annotations[0].preference) == (preference, preference)
    (annotation,) = pair(annotations=[{"strength": strength}]).annotations
    assert annotation.preference == preference
    assert (
        type(annotation.strength)
        is type(row.strength)
        is (int if strength is not None else type(None))
    )


def test_a_given_preference_goes_before_the_strength() -> None:
    assert pair(strength=-2, preference=0.75).preference == 0.75
    (annotation,) = pair(annotations=[{"strength": 2, "preference": 0.5}]).annotations
    assert annotation == Annotation(None, 0.5, 2)


def test_a_list_has_one_annotation_per_annotator() -> None:
    row = pair(
        annotations=[
            {"annotator": "ann", "preference": 1, "comment": "clear"},
            {"annotator": 2, "strength": -1, "margin": 0.5},
            {"annotator": None, "preference": None, "strength": None, "margin": None},
            {"annotator": "", "strength": 0},
        ]
    )
    assert row.annotations == (
        Annotation("ann", 1.0),
        Annotation(2, 0.0, -1, 0.5),
        Annotation(),
        Annotation(None, 0.5, 0),
    )
    assert row.preference == (1 + 0 + 1 + 0.5) / 4
    assert (row.strength, row.annotator) == (None, None)


def test_the_vote_share_is_the_preference_where_there_are_votes() -> None:
    votes = [{"preference": 1}, {"preference": 1}, {"preference": 0}]
    assert pair(annotations=votes).preference == pytest.approx(2 / 3, abs=1e-15)
    assert pair(annotations=votes, strength=-3).preference == pytest.approx(2 / 3, abs=1e-15)
    assert pair(annotations=votes, preference=0.9).preference == pytest.approx(2 / 3, abs=1e-15)
    assert pair(annotations=None, preference=0.9).preference == 0.9
    assert pair(annotations=None, strength=-3).preference == 0.0


def test_an_entry_without_an_annotator_has_the_rows() -> None:
    row = pair(annotator="team", annotations=[{"annotator": 1}, {"annotator": None}, {}])
    assert [a.annotator for a in row.annotations] == [1, "team", "team"]


def test_annotators_from_another_column() -> None:
    row = pair(annotator="ann", objective="helpful", strength=2)
    assert annotations_of(row) == row.annotations == (Annotation("ann", 1.0, 2),)
    assert annotations_of(row, "objective") == (Annotation("helpful", 1.0, 2),)
    assert annotations_of(row, "none_such") == (Annotation(None, 1.0, 2),)
    several = pair(
        objective="helpful", annotations=[{"annotator": 1, "objective": 5}, {"annotator": 2}]
    )
    assert [a.annotator for a in annotations_of(several, "objective")] == [5, "helpful"]


@pytest.mark.parametrize("value", [1.5, True, ["a"], {"name": "a"}])
def test_annotators_are_text_or_integers(value: Any) -> None:
    with pytest.raises(DataError, match="text or an integer is needed, not a") as caught:
        annotations_of(pair(worker=value), "worker")
    assert (caught.value.field, caught.value.line) == ("worker", 3)
    assert "rename the column" in str(caught.value)
    with pytest.raises(DataError) as caught:
        annotations_of(pair(annotations=[{}, {"worker": value}]), "worker")
    assert (caught.value.field, caught.value.line) == ("annotations[1].worker", 3)
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
        ({"annotator": True}, "annotator", "not a truth value"),
        ({"strength": -11}, "strength", "an integer from -10 to 10 is needed, not -11"),
        ({"strength": 0.5}, "strength", r"an integer is needed, not a number \(0\.5\)"),
        ({"strength": "strong"}, "strength", "an integer is needed, not text"),
        ({"annotations": [{}], "preference": -1}, "preference", "from 0 to 1"),
    ],
)
def test_malformed_labels_name_file_line_field(
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


def test_reading_from_a_bare_row() -> None:
    row = {"strength": -10, "annotations": None}
    assert read_annotations(row) == (Annotation(None, 0.0, -10),)
