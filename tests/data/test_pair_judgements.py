"""Pairs: what one annotator, or several, said of the two sides."""

from __future__ import annotations

from typing import Any

import pytest

from hidden_context.data.example import Abstention, Comparison, Example, Judgement, Rating
from hidden_context.data.importers import read_row
from hidden_context.data.importers.answers import unread_keys
from hidden_context.data.labels import annotator_of
from hidden_context.errors import DataError


def pair(**columns: Any) -> Example:
    return read_row({"chosen": "a", "rejected": "b", **columns}, file="f.jsonl", line=3)


def test_a_row_without_a_list_makes_one_judgement() -> None:
    assert pair().judgements == (Judgement(Comparison(0, 1, 1.0, None, None)),)
    row = pair(annotator=7, preference=0.25, strength=-2, margin=-3)
    assert row.judgements == (Judgement(Comparison(0, 1, 0.25, -2, -3.0), 7),)


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
        ({"preference": 0.75, "strength": 0}, 0.75),
        ({"preference": 0.5, "margin": -2}, 0.5),
    ],
)
def test_without_a_preference_the_first_sign_decides(
    said: dict[str, Any], preference: float
) -> None:
    nulls = dict.fromkeys(("preference", "strength", "margin", "rating_chosen", "rating_rejected"))
    for columns in (said, {**nulls, **said}):
        own, *ratings = pair(**columns, annotator="ann").judgements
        entry, *rated = pair(annotations=[{"annotator": "ann", **columns}]).judgements
        assert own == entry
        assert isinstance(own.answer, Comparison)
        assert own.answer.preference == preference
        assert own.answer.strength == said.get("strength")
        assert type(own.answer.strength) is (int if "strength" in said else type(None))
        answers = [
            Rating(place, said[name])
            for place, name in enumerate(("rating_chosen", "rating_rejected"))
            if name in said
        ]
        # the row does not say who rated, the entry does
        assert ratings == [Judgement(answer) for answer in answers]
        assert rated == [Judgement(answer, "ann") for answer in answers]


@pytest.mark.parametrize(
    ("said", "fields"),
    [
        ({"preference": 1, "strength": -2}, ["preference", "strength"]),
        ({"preference": 0.25, "margin": 0.5}, ["preference", "margin"]),
        ({"preference": 0, "rating_chosen": 5, "rating_rejected": 1}, [
            "preference", "rating_chosen"]),
        ({"strength": 1, "margin": -40}, ["strength", "margin"]),
        ({"strength": -1, "rating_chosen": 5, "rating_rejected": 1}, [
            "strength", "rating_chosen"]),
        ({"preference": 0.5, "strength": 0, "margin": 2, "rating_chosen": 1, "rating_rejected": 5},
         ["margin", "rating_chosen"]),
    ],
)  # fmt: skip
def test_signs_that_disagree_are_an_error(said: dict[str, Any], fields: list[str]) -> None:
    for columns, prefix in ((said, ""), ({"annotations": [{}, said]}, "annotations[1].")):
        with pytest.raises(DataError, match=r"is better, '\w+' the opposite") as caught:
            pair(**columns)
        assert caught.value.field == ", ".join(prefix + field for field in fields)
        assert caught.value.line == 3
        assert all(repr(field) in str(caught.value) for field in fields)
    # what the list says stands for itself, whatever a summary beside it says
    assert len(pair(annotations=[{"preference": 1}], strength=-2).judgements) == 1


@pytest.mark.parametrize("columns", [{}, {"rating_chosen": 5}, {"rating_rejected": 5}])
def test_a_row_that_does_not_compare_is_a_vote_for_chosen(columns: dict[str, Any]) -> None:
    assert pair(**columns, margin=None).judgements[0].answer == Comparison(0, 1)


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
def test_an_entry_without_a_judgement_is_an_abstention(entry: dict[str, Any]) -> None:
    row = pair(annotations=[entry, {"preference": 0}])
    assert [judgement.abstains for judgement in row.judgements] == [True, False]
    assert row.abstentions == 1


def test_one_rating_in_an_entry_is_a_rating_and_no_vote() -> None:
    row = pair(annotations=[{"annotator": "ann", "rating_rejected": 4, "weight": 2}])
    assert row.judgements == (Judgement(Rating(1, 4.0), "ann", 2.0),)


@pytest.mark.parametrize(
    ("entry", "shown"),
    [
        ({"label": 1}, "'label'"),
        ({"label": 0, "rater": "x", "preference": None, "annotator": None}, "'label', 'rater'"),
        ({"rating": 5}, "'rating'"),
        ({"annotator": "x", "label": 0}, "'label'"),
    ],
)
def test_an_entry_of_unknown_keys_alone_is_an_error(entry: dict[str, Any], shown: str) -> None:
    with pytest.raises(DataError, match=f"unknown keys alone: {shown}") as caught:
        pair(annotations=[{"preference": 1}, entry])
    assert (caught.value.line, caught.value.field) == (3, "annotations[1]")
    assert "annotator, weight, confidence, preference, strength, margin" in str(caught.value)


def test_keys_that_are_not_read_pass_through_and_are_named() -> None:
    entries = [
        {"annotator": 1, "preference": 1, "comment": "clear", "label": None},
        {"annotator": 2, "preference": None, "rating": 4},
    ]
    row = pair(annotations=entries, ranks=[1, 2], ratings=[{"more": 1}])
    assert row.columns["annotations"] == entries
    assert row.judgements[0].columns["comment"] == "clear"
    assert unread_keys(row) == {"annotations.comment", "annotations.rating"}
    assert unread_keys(pair(comment="x")) == set()


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
def test_the_same_annotator_twice_is_counted(entries: list[Any], count: int) -> None:
    assert pair(annotations=entries).repeated == count


def test_a_given_preference_goes_before_the_strength() -> None:
    assert pair(strength=2, preference=0.75).judgements[0].answer == Comparison(0, 1, 0.75, 2)
    (judgement,) = pair(annotations=[{"strength": 2, "preference": 0.5}]).judgements
    assert judgement == Judgement(Comparison(0, 1, 0.5, 2))


def test_a_list_has_one_judgement_per_annotator() -> None:
    row = pair(
        annotations=[
            {"annotator": "ann", "preference": 1, "comment": "clear"},
            {"annotator": 2, "strength": -1, "margin": -0.5, "weight": 3, "confidence": 0.75},
            {"annotator": "cat", "preference": None, "strength": None, "margin": None},
            {"annotator": "", "strength": 0},
        ],
        preference=0.9,
        weight=2,
    )
    assert row.judgements == (
        Judgement(Comparison(0, 1, 1.0), "ann", 2.0),
        Judgement(Comparison(0, 1, 0.0, -1, -0.5), 2, 6.0, 0.75),
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
        annotations=[{"objective": 5, "margin": 1}, {"objective": "", "margin": 1}, {}],
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
        annotator_of(
            pair(annotations=[{}, {"worker": value, "preference": 1}]).judgements[1], "worker"
        )
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
        (
            {"annotations": [{"abstains": True, "strength": 1}]},
            "annotations[0].strength",
            "an abstention goes without it",
        ),
        ({"annotations": [{"abstains": "yes"}]}, "annotations[0].abstains", "truth value"),
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
