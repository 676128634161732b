"""Rows of an evaluation: they read as the examples that they were made of."""

from collections import Counter

import pytest

from hidden_context.data.example import Rating
from hidden_context.data.expand import comparisons_of
from hidden_context.data.importers import read_row
from hidden_context.data.usable import keep_responses
from hidden_context.scoring.rows import read_scored, rows_of
from support.builders import preference_rows
from support.paper_layout import write_rows

PAIR = preference_rows(1)[0]
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
RATING = {"response": 1, "rating": 4, "annotator": "eve", "weight": 2}
THREE = {"prompt": "Tea?", "responses": ["Yes.", "Perhaps.", "No."], "more": 1}
RANKINGS = [{"annotator": "ann", "ranks": [1, 2, 3]}, {"annotator": "bob", "ranks": [3, 2, 1]}]


def read(tmp_path, rows):
    """Write rows with made-up rewards and read them back."""
    written = []
    for number, row in enumerate(rows):
        names = ["_chosen", "_rejected"] if row.kind == "pair" else [""]
        raw = {f"reward_output{name}": [float(number), float(n)] for n, name in enumerate(names)}
        written.append({**row.columns, **raw})
    return read_scored(tmp_path.joinpath(write_rows(tmp_path / "r.jsonl", written)))


def said(example, texts):
    """What was said by whom about which texts, whichever stood first."""
    for judgement in example.judgements:
        who = (judgement.annotator, judgement.confidence)
        if isinstance(judgement.answer, Rating):
            yield *who, texts[judgement.answer.response], judgement.answer.value
        for comparison, share in comparisons_of(judgement.answer):
            sign = 1 if texts[comparison.first] < texts[comparison.second] else -1
            strengths = (comparison.preference - 0.5, comparison.strength, comparison.margin)
            both = frozenset((texts[comparison.first], texts[comparison.second]))
            signed = tuple(None if each is None else sign * each for each in strengths)
            yield *who, both, signed, round(judgement.weight * share, 9)


@pytest.mark.parametrize(
    ("row", "kinds"),
    [
        (PAIR, ["pair"]),
        ({**PAIR, "annotations": [{"annotator": "a", "strength": -1}, {}]}, ["pair"]),
        ({"text": "tea", "rating": 3, "annotator": 7, "weight": 0.5}, ["text"]),
        ({"prompt": "Tea?", "response": "Yes.", "ratings": [{"rating": 1}]}, ["text"]),
        ({**VOTES, "responses": ["Yes."], "judgements": [{"response": 0, "rating": 2}]}, ["text"]),
        (VOTES, ["pair"]),  # all votes on two responses are one row
        ({**VOTES, "judgements": VOTES["judgements"][-2:]}, ["pair"]),
        ({**VOTES, "judgements": [*VOTES["judgements"][1:3], RATING]}, ["pair"]),
        ({**THREE, "rankings": RANKINGS}, ["pair"] * 3),
        ({**THREE, "judgements": [*VOTES["judgements"], RATING]}, ["pair"]),
        ({**THREE, "judgements": [*VOTES["judgements"], {**RATING, "response": 2}]},
         ["pair", "text"]),  # what is in no pair stands alone
    ],
)  # fmt: skip
def test_what_was_said_is_read_back(tmp_path, row, kinds):
    example = read_row(row)
    rows = rows_of([example], "both")
    assert [made.kind for made in rows] == kinds
    assert {text for made in rows for text in made.texts} <= set(example.texts)
    assert all(made.columns.get("more") == row.get("more") for made in rows)
    if "judgements" not in row and "rankings" not in row:
        assert [made.columns for made in rows] == [{"data_subset": "both"} | row]
    examples, raw, _ = read(tmp_path, rows)
    found = Counter(
        each for again, made in zip(examples, rows, strict=True) for each in said(again, made.texts)
    )
    assert found == Counter(said(example, example.texts))
    assert raw.shape == (sum(len(made.texts) for made in rows), 2)


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
    assert (made.file, made.line, made.prompt) == ("votes.jsonl", 3, "Tea?")
    (again,), *_ = read(tmp_path, [made])
    assert again.abstentions == 1


def test_a_response_that_alone_held_text_is_read_back_alone(tmp_path):
    row = {**THREE, "responses": ["Yes.", " ", " "], "judgements": [{**RATING, "response": 0}]}
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
