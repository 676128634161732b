"""Rows of an evaluation: they read as the examples that they were made of."""

from __future__ import annotations

import pytest
import torch

from hidden_context.data.importers import read_row
from hidden_context.data.labels import labels_of
from hidden_context.data.usable import keep_responses
from hidden_context.scoring.rows import read_scored, rows_of
from support.builders import preference_rows
from support.paper_layout import write_rows

RATED = {
    "prompt": "Tea?",
    "responses": ["Yes.", " ", "No."],
    "judgements": [{"response": 0, "rating": 2, "annotator": "ann"}],
}


def read(tmp_path, rows):
    """Write rows with made-up rewards and read them back."""
    written = []
    for number, row in enumerate(rows):
        names = ["_chosen", "_rejected"] if row.kind == "pair" else [""]
        raw = {f"reward_output{name}": [float(number), float(n)] for n, name in enumerate(names)}
        written.append({**row.columns, **raw})
    return read_scored(tmp_path.joinpath(write_rows(tmp_path / "r.jsonl", written)))


@pytest.mark.parametrize(
    "row",
    [
        preference_rows(1)[0],
        {**preference_rows(1)[0], "annotations": [{"annotator": "a", "strength": -1}, {}]},
        {"text": "tea", "rating": 3, "annotator": 7, "weight": 0.5},
        {"prompt": "Tea?", "response": "Yes.", "ratings": [{"rating": 1}, {"annotator": "b"}]},
        {"prompt": "Tea?", "responses": ["Yes."], "judgements": [{"response": 0, "rating": 2}]},
    ],
)
def test_a_pair_or_a_rated_text_stays_the_row_it_was(tmp_path, row):
    example = read_row(row)
    (made,) = rows_of([example], "both")
    assert made.columns == {"data_subset": "both"} | row
    assert made.texts == example.texts
    (again,), raw, _ = read(tmp_path, [made])
    assert again.judgements == example.judgements
    assert raw.shape == (len(example.responses), 2)


def test_what_is_in_no_pair_stands_alone(tmp_path):
    judged = {
        **RATED,
        "responses": ["Yes.", "Perhaps.", "No."],
        "judgements": [
            {"comparison": [2, 1], "annotator": "ann"},
            {"comparison": [2, 1], "annotator": "bob", "preference": 0},
            *RATED["judgements"],
        ],
        "more": 1,
    }
    rows = rows_of([read_row(judged)], "both")
    assert [row.kind for row in rows] == ["pair", "text"]
    assert [row.texts for row in rows] == [("Tea?Perhaps.", "Tea?No."), ("Tea?Yes.",)]
    assert all(row.columns["more"] == 1 for row in rows)
    examples, raw, _ = read(tmp_path, rows)
    votes = [judgement for example in examples for judgement in example.judgements]
    assert [vote.annotator for vote in votes] == ["ann", "bob", "ann"]
    # both said it of the second response first
    assert [vote.answer.preference for vote in votes[:2]] == [0.0, 1.0]
    assert raw.shape == (3, 2)


VOTES = {
    "prompt": "Tea?",
    "responses": ["Yes.", "No."],
    "judgements": [
        {"comparison": [0, 1], "annotator": "ann", "confidence": 3, "age": "30-39"},
        {"comparison": [1, 0], "annotator": "bob", "strength": 2, "weight": 0.5},
        {"comparison": [1, 0], "annotator": "cat", "preference": 0.5},
        {"comparison": [0, 1], "annotator": 7, "margin": -1.5},
        {"annotator": "dan", "abstains": True},
    ],
    "topic": "drinks",
}


def test_all_votes_on_two_responses_are_one_row(tmp_path):
    example = read_row(VOTES, file="votes.jsonl", line=3)
    (made,) = rows_of([example], "both")
    assert made.columns == {
        "prompt": "Tea?",
        "chosen": "Tea?Yes.",
        "rejected": "Tea?No.",
        "topic": "drinks",
        "data_subset": "both",
        "annotations": [
            {"age": "30-39", "annotator": "ann", "confidence": 3, "weight": 1, "preference": 1},
            {"annotator": "bob", "weight": 0.5, "preference": 0.0, "strength": -2},
            {"annotator": "cat", "weight": 1.0, "preference": 0.5},
            {"annotator": 7, "weight": 1.0, "preference": 0.0, "margin": -1.5},
            {"annotator": "dan", "weight": 1.0, "abstains": True},
        ],
    }
    assert (made.file, made.line, made.texts) == ("votes.jsonl", 3, example.texts)
    assert made.prompt == "Tea?"
    (again,), raw, _ = read(tmp_path, [made])
    assert again.abstentions == 1
    assert raw.shape == (2, 2)
    said, back = (
        labels_of([each], lambda name: ["ann", "bob", "cat", "7"].index(str(name))).comparisons
        for each in (example, again)
    )
    turned = said.first > said.second
    assert back.preference.tolist() == [1.0, 0.0, 0.5, 0.0]
    assert torch.where(turned, 1 - said.preference, said.preference).equal(back.preference)
    assert said.annotator.equal(back.annotator)
    assert said.weight.equal(back.weight)


def test_one_vote_and_an_abstention_are_one_row(tmp_path):
    (made,) = rows_of([read_row({**VOTES, "judgements": VOTES["judgements"][-2:]})], "both")
    assert [entry["annotator"] for entry in made.columns["annotations"]] == [7, "dan"]


def test_rankings_of_several_people_make_a_row_for_every_two_responses(tmp_path):
    row = {
        "prompt": "Tea?",
        "responses": ["Yes.", "Perhaps.", "No."],
        "rankings": [
            {"annotator": "ann", "ranks": [1, 2, 3]},
            {"annotator": "bob", "ranks": [3, 2, 1]},
        ],
    }
    rows = rows_of([read_row(row)], "both")
    assert len(rows) == 3
    examples, *_ = read(tmp_path, rows)
    for example in examples:
        assert [vote.annotator for vote in example.judgements] == ["ann", "bob"]
        assert [vote.answer.preference for vote in example.judgements] == [1.0, 0.0]
        assert [vote.weight for vote in example.judgements] == [2 / 3, 2 / 3]


def test_ratings_stand_beside_the_votes(tmp_path):
    rated = [{"response": 1, "rating": 4, "annotator": "eve", "weight": 2}]
    (made,) = rows_of([read_row({**VOTES, "judgements": VOTES["judgements"][1:3] + rated})], "both")
    assert made.columns["annotations"][1] == {
        "annotator": "eve",
        "weight": 2.0,
        "rating_rejected": 4.0,
    }
    (again,), *_ = read(tmp_path, [made])
    assert {vote.annotator for vote in again.judgements} == {"bob", "cat", "eve"}


def test_a_response_that_alone_held_text_is_read_back_alone(tmp_path):
    row = {**RATED, "responses": ["Yes.", " ", " "]}
    example = keep_responses(read_row(row), [0])
    (made,) = rows_of([example], "both")
    assert made.texts == ("Tea?Yes.",)
    (again,), raw, _ = read(tmp_path, [made])
    assert again.judgements == example.judgements
    assert raw.shape == (1, 2)


def test_rows_without_a_reward_are_left_out(tmp_path):
    columns = {"chosen": "a", "rejected": "b", "reward_output_chosen": [1.0]}
    rows = [{**columns, "reward_output_rejected": value} for value in (None, [0.0])]
    examples, raw, _ = read_scored(tmp_path.joinpath(write_rows(tmp_path / "r.jsonl", rows)))
    assert [example.source_lines for example in examples] == [(2,)]
    assert raw.tolist() == [[1.0], [0.0]]
