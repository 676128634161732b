"""Rows of an evaluation: they read as the examples that they were made of."""

from __future__ import annotations

import pytest

from hidden_context.data.importers import read_row
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
    (again,), raw = read(tmp_path, [made])
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
    assert [row.kind for row in rows] == ["pair", "pair", "text"]
    assert [row.texts for row in rows[1:]] == [("Tea?No.", "Tea?Perhaps."), ("Tea?Yes.",)]
    assert all(row.columns["more"] == 1 for row in rows)
    examples, raw = read(tmp_path, rows)
    votes = [judgement for example in examples for judgement in example.judgements]
    assert [vote.annotator for vote in votes] == ["ann", "bob", "ann"]
    assert raw.shape == (5, 2)


def test_a_response_that_alone_held_text_is_read_back_alone(tmp_path):
    row = {**RATED, "responses": ["Yes.", " ", " "]}
    example = keep_responses(read_row(row), [0])
    (made,) = rows_of([example], "both")
    assert made.texts == ("Tea?Yes.",)
    (again,), raw = read(tmp_path, [made])
    assert again.judgements == example.judgements
    assert raw.shape == (1, 2)


def test_rows_without_a_reward_are_left_out(tmp_path):
    columns = {"chosen": "a", "rejected": "b", "reward_output_chosen": [1.0]}
    rows = [{**columns, "reward_output_rejected": value} for value in (None, [0.0])]
    examples, raw = read_scored(tmp_path.joinpath(write_rows(tmp_path / "r.jsonl", rows)))
    assert [example.source_lines for example in examples] == [(2,)]
    assert raw.tolist() == [[1.0], [0.0]]
