"""From rows to the labels that a likelihood reads, and the table of annotators beside them."""

import json
import math
from pathlib import Path

import pytest
import torch

from hidden_context.data.annotators import annotators_path, read_annotators, write_annotators
from hidden_context.data.example import Comparison, Example, Judgement, Rating
from hidden_context.data.importers import read_row
from hidden_context.data.labels import annotator_names, labels_of
from hidden_context.errors import DataError, MissingFileError

SIDES = {"prompt": "Tea?", "chosen": " Yes.", "rejected": " No."}
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


def examples_of(*rows):
    return [read_row(SIDES | row, line=number) for number, row in enumerate(rows, start=1)]


def index_of(*names):
    return lambda name: names.index(str(name)) if str(name) in names else -1


def table(part, *names):
    """Rows of some fields of labels; None for NaN."""
    columns = [getattr(part, name).tolist() for name in names]
    return [
        tuple(None if math.isnan(value) else pytest.approx(value) for value in row)
        for row in zip(*columns, strict=True)
    ]


def compared(labels):
    names = ("first", "second", "preference", "strength", "margin", "annotator", "weight")
    return table(labels.comparisons, *names, "votes", "example")


def rated(labels):
    return table(labels.ratings, "response", "value", "annotator", "weight", "votes", "example")


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
    assert (len(labels), labels.num_responses) == (5, 10)
    assert labels.offsets.tolist() == [0, 2, 4, 6, 8, 10]
    assert compared(labels) == [
        (0, 1, 1.0, None, 0, -1, 1, 1, 0),
        (2, 3, 0.3, None, -2, -1, 1.5, 1, 1),
        (4, 5, 1.0, 2, 0, -1, 1, 1, 2),
        (6, 7, 0.5, 0, 0, -1, 1, 1, 3),
        (8, 9, 0.9, 1, 0, -1, 2, 1, 4),
    ]
    assert rated(labels) == [(4, 4, -1, 1, 1, 2), (5, 1.5, -1, 1, 1, 2), (9, -3, -1, 2, 1, 4)]
    nothing = labels_of([])
    assert (len(nothing), nothing.num_judgements) == (0, 0)
    for part in (labels.comparisons, labels.ratings, nothing.comparisons, nothing.ratings):
        for name, tensor in vars(part).items():
            index = name in ("first", "second", "response", "annotator", "example")
            assert tensor.dtype == (torch.long if index else torch.float32)


def test_several_judgements_of_a_pair():
    examples = examples_of({"annotator": "ann"}, SEVERAL, {"preference": 0.5})
    names = annotator_names(examples)
    assert names == ["7", "ann", "bob"]  # cat abstained
    labels = labels_of(examples, index_of(*names))
    # an entry that names nobody is the row's annotator's; a row without one is nobody's
    assert compared(labels) == [
        (0, 1, 1, None, 0, 1, 1, 1, 0),
        (2, 3, 1, None, 0, 2, 3, 1, 1),
        (2, 3, 0, -1, -0.5, 1, 3, 1, 1),
        (2, 3, 1, 2, 0, 0, 3, 1, 1),
        (4, 5, 0.5, None, 0, -1, 1, 1, 2),
    ]
    assert table(labels, "vote_share") == [(1.0,), (2 / 3,), (0.5,)]
    one = labels.select(torch.tensor([1]))
    assert table(one.comparisons, "example", "annotator") == [(0, 2), (0, 1), (0, 0)]


def test_annotators_who_are_not_known():
    examples = examples_of({"annotator": "zoe"}, {"annotator": "ann"}, SEVERAL, {"annotator": ""})
    known = index_of("ann", "7")
    assert labels_of(examples, known).comparisons.annotator.tolist() == [-1, 0, -1, 0, 1, -1]
    assert labels_of(examples).comparisons.annotator.tolist() == [-1] * 6


def test_another_column_may_name_them():
    entries = [{"objective": 5, "margin": 1}, {"objective": "", "margin": 1}]
    examples = examples_of(SEVERAL, SEVERAL | {"annotations": entries}, {"objective": 3}, {})
    assert annotator_names(examples, "objective") == ["3", "5", "helpful"]
    assert annotator_names(examples, "judge") == []
    index = index_of("3", "helpful", "5")
    labels = labels_of(examples, index, "objective")
    assert labels.comparisons.annotator.tolist() == [1, 1, 1, 2, 1, 0, -1]
    wrong = [{"judge": "a", "strength": 1}, {"judge": [1], "strength": 1}]
    with pytest.raises(DataError, match=r"^a\.jsonl, line 1, field 'annotations\[1\]\.judge'"):
        labels_of(examples_of({"annotations": wrong}), index, "judge", file="a.jsonl")


def test_a_ranking_s_comparisons():
    row = {"prompt": "Tea?", "responses": [" No.", " Yes.", " Yes!"], "ranks": [3, 1, 1]}
    row |= {"ratings": [2, 4.5, None], "annotator": "ann", "weight": 3}
    labels = labels_of([*examples_of({}), read_row(row)], index_of("ann"))
    assert labels.offsets.tolist() == [0, 2, 5]
    assert compared(labels) == [
        (0, 1, 1, None, 0, -1, 1, 1, 0),
        (3, 2, 1, None, 0, 0, 2, 2 / 3, 1),
        (4, 2, 1, None, 0, 0, 2, 2 / 3, 1),
        (3, 4, 0.5, None, 0, 0, 2, 2 / 3, 1),
    ]
    assert table(labels.ratings, "response", "value", "annotator") == [(2, 2, -1), (3, 4.5, -1)]
    assert table(labels.without_ratings(), "votes_by_example") == [(1,), (2,)]
    # of some responses: what is ranked counts; rated texts and abstentions take their places
    entries = [{"annotator": "ann", "rating": 4, "weight": 2}, {"annotator": "cat"}]
    row = {
        "prompt": "p",
        "responses": ["a", "b", "c", "d"],
        "judgements": [{"ranks": [2, None, 1, 3]}],
    }
    silent = {**SIDES, "annotations": [{"annotator": "ann"}]}
    part = labels_of(
        [read_row({"text": "a", "ratings": entries}), read_row(silent), read_row(row)],
        index_of("ann"),
    )
    assert part.offsets.tolist() == [0, 1, 3, 7]
    assert rated(part) == [(0, 4, 0, 2, 1, 0)]
    ranked = [(5, 3, 2 / 3), (3, 6, 2 / 3), (5, 6, 2 / 3)]
    assert table(part.comparisons, "first", "second", "votes") == ranked


def test_examples_may_be_made_by_hand():
    said = (Judgement(Comparison(1, 0), "ann"), Judgement(Rating(1, 2.0), "ann"))
    labels = labels_of([Example("p", ("a", "b"), said)], index_of("ann"))
    assert table(labels.comparisons, "first", "second") == [(1, 0)]
    assert labels.ratings.response.tolist() == [1]
    assert labels.annotator.tolist() == [0, 0]


@pytest.mark.parametrize("strength", [-3, 3])
def test_strengths_beyond_the_levels(strength):
    rows = ({"strength": 2}, {"annotations": [{"strength": 1}, {"strength": strength}]})
    examples = examples_of(*rows)
    for levels in (2, 3, 7):
        labels = labels_of(examples, levels=levels)
        assert labels.comparisons.strength.tolist() == [2, 1, strength]
    words = rf"line 2, field 'strength': strength {strength} is beyond 5 levels .* seven_levels"
    with pytest.raises(DataError, match=rf"^pairs\.jsonl, {words}"):
        labels_of(examples, levels=5, file="pairs.jsonl")
    by_hand = [read_row(SIDES | {"strength": s}) for s in (1, 2, strength)]
    with pytest.raises(DataError, match=r"^line 3, "):  # without lines they are counted from 1
        labels_of(by_hand, levels=5)


ROWS = [
    {"annotator": "r12", "age": "30-39", "score": 0.5, "religion": None},
    {"annotator": 7, "age": "", "score": 2, "religion": "none"},
    {"annotator": "lone"},
]
KNOWN = {
    "r12": {"age": "30-39", "score": 0.5},
    "7": {"score": 2.0, "religion": "none"},
    "lone": {},
}


@pytest.mark.parametrize("name", ["people.jsonl", "people.jsonl.gz", "people.parquet"])
def test_text_is_a_group_and_a_number_a_quantity(write_rows, name):
    rows = [{**row, "annotator": str(row["annotator"])} for row in ROWS]
    for given in (rows, ROWS)[: 1 + ("json" in name)]:  # names in tables are of one type
        assert read_annotators(write_rows(name, given)) == KNOWN


def test_what_is_written_reads_back(tmp_path):
    path = tmp_path / "new" / "people.jsonl"
    assert write_annotators(path, KNOWN) == 3
    assert read_annotators(path) == KNOWN
    write_annotators(path, {"r12": {"age": "60+", "score": 1}, "7": {"age": 34}})
    assert read_annotators(path) == {"r12": {"age": "60+", "score": 1.0}, "7": {"age": "34"}}


def test_csv_has_numbers_where_all_cells_of_a_column_are_numbers(tmp_path):
    path = tmp_path / "people.csv"
    path.write_text("annotator,age,score,wave\n12,30,0.5,1\n013,60+,,\n14,,-1e2,2\n")
    assert read_annotators(path) == {
        "12": {"age": "30", "score": 0.5, "wave": 1.0},
        "013": {"age": "60+"},
        "14": {"score": -100.0, "wave": 2.0},
    }
    path.write_text("annotator,score\n12,nan\n")
    with pytest.raises(DataError, match="line 1, field 'score': a finite number is needed"):
        read_annotators(path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{broken", "not valid JSON"),
        ({"age": "30-39"}, "field 'annotator': the row names no annotator"),
        ({"annotator": ""}, "field 'annotator': the row names no annotator"),
        ({"annotator": ["a"]}, "field 'annotator': text or an integer is needed"),
        ({"annotator": "r12"}, "field 'annotator': annotator 'r12' is already on line 1"),
        ({"annotator": "b", "traits": {"a": 1}}, "field 'traits': text or a number is needed"),
        ({"annotator": "b", "adult": True}, "field 'adult': text or a number is needed"),
        ({"annotator": "b", "score": 1e999}, "field 'score': a finite number is needed"),
        (
            {"annotator": "b", "score": "x"},
            r"field 'score': this row has text .*, but line 1 has a number \(0.5\)",
        ),
    ],
)
def test_odd_rows(row, message, tmp_path):
    path = tmp_path / "people.jsonl"
    line = row if isinstance(row, str) else json.dumps(row)
    path.write_text(f"{json.dumps(ROWS[0])}\n{line}\n")
    with pytest.raises(DataError, match="people.jsonl, line 2[,:] " + message):
        read_annotators(path)


def test_odd_files(tmp_path):
    with pytest.raises(MissingFileError):
        read_annotators(tmp_path / "people.jsonl")
    for name in ("people.jsonl", "people.csv"):
        (tmp_path / name).write_text("\n")
        with pytest.raises(DataError, match="the file holds no rows"):
            read_annotators(tmp_path / name)


def test_where_the_table_lies():
    assert annotators_path("a/votes.jsonl") == Path("a/votes.annotators.jsonl")
    assert annotators_path("votes.v2.csv.gz") == Path("votes.v2.annotators.jsonl")
    assert annotators_path("folder") == Path("folder.annotators.jsonl")
