from __future__ import annotations

import gzip
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hidden_context import heads
from hidden_context.analysis.score_files import read_score_file
from hidden_context.data.importers import read_row
from hidden_context.errors import DataError, MissingFileError
from hidden_context.scoring.columns import added_columns


def write(path, rows):
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def pair(chosen, rejected, **columns):
    return {"reward_output_chosen": chosen, "reward_output_rejected": rejected, **columns}


@pytest.mark.parametrize("name", ["scores.jsonl", "scores.jsonl.gz"])
def test_pairs_become_arrays_with_labels(tmp_path, name):
    rows = [
        pair([1, 2.5], [0.25, -1.0], data_subset="helpful", objective="harmless"),
        pair([3.0, 4.0], [5.0, 6.0], data_subset=None),
    ]
    scores = read_score_file(write(tmp_path / name, rows))
    assert scores.responses == {}
    pairs = scores.pairs
    assert pairs.chosen.dtype == np.float64
    assert pairs.chosen.tolist() == [[1.0, 2.5], [3.0, 4.0]]
    assert pairs.rejected.tolist() == [[0.25, -1.0], [5.0, 6.0]]
    assert {k: v.tolist() for k, v in pairs.labels.items()} == {
        "data_subset": ["helpful", ""],
        "objective": ["harmless", ""],
    }
    assert (pairs.width, pairs.left_out) == (2, 0)


def test_responses_keep_their_rows_and_a_null_leaves_its_row_out_of_its_column_only(tmp_path):
    rows = [
        {"reward_outputs_a": [[1.0], [2.0]], "reward_outputs_b_categorical": [[0.0, 1.0, 2.0]]},
        {"reward_outputs_a": [[3.0], None], "reward_outputs_b_categorical": [[3.0, 4.0, 5.0]]},
        {"reward_outputs_a": None, "reward_outputs_b_categorical": [[6.0, 7.0, 8.0]] * 2},
        {"reward_outputs_a": [[4.0], [5.0]], "reward_outputs_b_categorical": None},
    ]
    scores = read_score_file(write(tmp_path / "s.jsonl", rows))
    assert scores.pairs is None
    a, b = scores.responses["a"], scores.responses["b_categorical"]
    assert a.outputs.tolist() == [[1.0], [2.0], [4.0], [5.0]]
    assert (a.num_responses.tolist(), a.left_out) == ([2, 2], 2)
    assert a.as_pairs().tolist() == [[[1.0], [2.0]], [[4.0], [5.0]]]
    assert b.num_responses.tolist() == [1, 1, 2]
    assert (b.outputs.shape, b.left_out, b.as_pairs()) == ((4, 3), 1, None)


def test_null_pairs_are_left_out_with_their_labels(tmp_path):
    rows = [
        pair(None, None, data_subset="helpful"),
        pair([1.0], None, data_subset="helpful"),
        pair([1.0], [0.0], data_subset="harmless"),
    ]
    pairs = read_score_file(write(tmp_path / "s.jsonl", rows)).pairs
    assert (pairs.left_out, pairs.labels["data_subset"].tolist()) == (2, ["harmless"])


def test_reasons_beside_null_rewards_are_no_rewards(tmp_path):
    head = heads.make("base")
    pairs = [
        added_columns("pair", "a", {"raw": [[1.0], [0.0]]}, head),
        added_columns("pair", "a", {"raw": [None, [0.0]], "reasons": ["too long", None]}, head),
    ]
    assert "reward_output_chosen_reason" in pairs[1]
    for rows in (pairs, pairs[::-1]):
        scores = read_score_file(write(tmp_path / "pairs.jsonl", rows))
        assert (scores.pairs.chosen.tolist(), scores.pairs.left_out) == ([[1.0]], 1)
        assert scores.named_pairs == {}
    responses = [
        added_columns("responses", "a", {"raw": [[1.0], [0.0]]}, head),
        added_columns("responses", "a", {"raw": [None, [0.0]], "reasons": ["long", None]}, head),
    ]
    assert "reward_outputs_a_reason" in responses[1]
    scores = read_score_file(write(tmp_path / "responses.jsonl", responses))
    assert list(scores.responses) == ["a"]
    assert scores.responses["a"].left_out == 1
    # without its own column beside it, "reason" is a model's name
    row = {"reward_outputs_reason": [[1.0]]}
    assert list(read_score_file(write(tmp_path / "r.jsonl", [row])).responses) == ["reason"]


def test_pairs_scored_by_several_models_are_a_set_each(tmp_path):
    rows = []
    for line in range(3):
        row = {"preference": [1, None, 0.25][line]}
        for name, kind in (("small", "base"), ("large_categorical", "categorical")):
            head = heads.make(kind)
            raw = [[float(line)] * head.num_outputs, [0.0] * head.num_outputs]
            reasons = None
            if name == "small" and line == 1:
                raw, reasons = [raw[0], None], [None, "too long"]
            scored = {"raw": raw, "reasons": reasons}
            row |= added_columns("pair", name, scored, head, several_models=True)
        rows.append(row)
    scores = read_score_file(write(tmp_path / "s.jsonl", rows))
    assert (scores.pairs, scores.responses) == (None, {})
    assert list(scores.named_pairs) == ["large_categorical", "small"]
    small, large = scores.named_pairs["small"], scores.named_pairs["large_categorical"]
    assert (small.chosen.tolist(), small.left_out) == ([[0.0], [2.0]], 1)
    assert small.preference.tolist() == [1.0, 0.25]
    assert (large.chosen.shape, large.left_out) == ((3, 10), 0)
    assert large.preference.tolist() == [1.0, 1.0, 0.25]
    assert large.column == "reward_output_chosen_large_categorical"
    with pytest.raises(DataError, match="reward_output_chosen_a has no reward_output_rejected_a"):
        read_score_file(write(tmp_path / "half.jsonl", [{"reward_output_chosen_a": [1.0]}]))


def test_integer_labels_are_taken_as_their_text(tmp_path):
    rows = [pair([1.0], [0.0], objective=0, data_subset="x"), pair([1.0], [0.0], objective=7)]
    pairs = read_score_file(write(tmp_path / "s.jsonl", rows), require=("objective",)).pairs
    assert pairs.labels["objective"].tolist() == ["0", "7"]


def test_what_several_annotators_said_is_the_share_of_their_votes(tmp_path):
    said = [
        {"annotations": [{"annotator": "a", "preference": 1}, {"annotator": 7, "strength": -1}]},
        {"strength": -3},
        {"strength": 0, "annotator": "b"},
        {"preference": 0.25, "strength": -2, "margin": -1.5},
        {"rating_chosen": 1, "rating_rejected": 5},
        {"preference": None},
    ]
    path = write(tmp_path / "s.jsonl", [pair([1.0], [0.0], **columns) for columns in said])
    assert read_score_file(path).pairs.preference.tolist() == [0.5, 0.0, 0.5, 0.25, 0.0, 1.0]
    texts = {"chosen": "", "rejected": ""}
    kept = read_score_file(path, annotator_column="annotator").pairs.said
    assert kept == [read_row({**texts, **columns}) for columns in [*said[:5], {}]]
    assert [one.source_lines for one in kept[:5]] == [(1,), (2,), (3,), (4,), (5,)]
    nobody = read_score_file(path).pairs.said
    assert [[j.annotator for j in one.judgements] for one in nobody] == [
        *(["a", 7], [None], [None], [None], [None] * 3, [None])
    ]


def test_ratings_beside_a_vote_decide_nothing(tmp_path):
    rated = {"rating_chosen": 1, "rating_rejected": 5}
    said = [rated, rated | {"preference": 1}, rated | {"annotations": [{"strength": 2}]}]
    path = write(tmp_path / "s.jsonl", [pair([1.0], [0.0], **columns) for columns in said])
    assert read_score_file(path).pairs.preference.tolist() == [0.0, 1.0, 1.0]


def test_a_pair_on_which_everybody_abstained_is_left_out(tmp_path):
    said = [{"annotations": [{"annotator": "a"}, {}]}, {"annotations": [{}, {"preference": 0}]}]
    path = write(tmp_path / "s.jsonl", [pair([1.0], [0.0], **columns) for columns in said])
    pairs = read_score_file(path).pairs
    assert (pairs.left_out, pairs.preference.tolist(), pairs.rows.tolist()) == (1, [0.0], [1])
    assert len(pairs.said) == 1


def test_what_annotators_say_of_pairs_is_no_matter_of_responses(tmp_path):
    row = {"reward_outputs_a": [[1.0]], "preference": "the first"}
    assert read_score_file(write(tmp_path / "s.jsonl", [row])).responses["a"].width == 1


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 4), min_size=1, max_size=8
    )
)
def test_every_float64_comes_back_bit_for_bit(tmp_path_factory, quads):
    path = tmp_path_factory.mktemp("floats") / "s.jsonl"
    write(path, [pair([a, b], [c, d]) for a, b, c, d in quads])
    pairs = read_score_file(path).pairs
    assert np.hstack([pairs.chosen, pairs.rejected]).tobytes() == np.array(quads).tobytes()


GOOD = pair([1.0, 2.0], [3.0, 4.0])
BAD = {
    "missing column": ({"prompt": "x"}, "reward_output_chosen", "stands on line 1"),
    "missing side": ({"reward_output_chosen": [1.0, 2.0]}, "reward_output_rejected", "missing"),
    "new column": ({**GOOD, "reward_outputs_a": [[1.0]]}, "reward_outputs_a", "missing on line 1"),
    "wrong width": (
        pair([1.0, 2.0], [3.0]),
        "reward_output_rejected",
        "its width is 1, but 2 on line 1",
    ),
    "text": (pair(["1", 2.0], [3.0, 4.0]), "reward_output_chosen", "'1' stands where"),
    "truth value": (pair([True, 2.0], [3.0, 4.0]), "reward_output_chosen", "True stands where"),
    "null inside": (pair([None, 2.0], [3.0, 4.0]), "reward_output_chosen", "null stands where"),
    "nested": (pair([[1.0], 2.0], [3.0, 4.0]), "reward_output_chosen", "[1.0] stands where"),
    "bare number": (pair(1.0, [3.0, 4.0]), "reward_output_chosen", "a list of numbers"),
    "empty list": (pair([], [3.0, 4.0]), "reward_output_chosen", "a list of numbers"),
    "nan": (pair([math.nan, 2.0], [3.0, 4.0]), "reward_output_chosen", "nan is not a finite"),
    "infinity": (pair([1.0, 2.0], [3.0, -math.inf]), "reward_output_rejected", "-inf is not"),
    "huge integer": (pair([1.0, 10**400], [3.0, 4.0]), "reward_output_chosen", "not a finite"),
    "label": ({**GOOD, "data_subset": 3.5}, "data_subset", "text or an integer is needed, not 3.5"),
    "preference above 1": ({**GOOD, "preference": 1.5}, "preference", "from 0 to 1"),
    "preference in words": ({**GOOD, "preference": "tie"}, "preference", "not text ('tie')"),
    "preference that is no number": ({**GOOD, "preference": math.nan}, "preference", "(nan)"),
    "truth value as preference": ({**GOOD, "preference": True}, "preference", "value (True)"),
    "strength between levels": ({**GOOD, "strength": 0.5}, "strength", "an integer is needed"),
    "no annotations": ({**GOOD, "annotations": []}, "annotations", "at least one annotation"),
    "annotation": (
        {**GOOD, "annotations": [{"preference": 2}]},
        "annotations[0].preference",
        "from 0 to 1",
    ),
    "broken line": ('{"reward_output_chosen": [1.0,', None, "not valid JSON"),
    "not an object": ("[1, 2]", None, "JSON object"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_row_is_named_by_file_line_and_field(tmp_path, case):
    row, field, words = BAD[case]
    path = write(tmp_path / "scores.jsonl", [GOOD, "", row, GOOD])
    with pytest.raises(DataError) as caught:
        read_score_file(path)
    error = caught.value
    assert (str(error.file), error.line, error.field) == (str(path), 3, field)
    assert words in str(error)


def test_a_bad_response_is_named_by_its_place(tmp_path):
    rows = [{"reward_outputs_a": [[1.0], [2.0]]}, {"reward_outputs_a": [[1.0], [2.0, 3.0]]}]
    with pytest.raises(
        DataError, match=r"line 2, field 'reward_outputs_a\[1\]': its width is 2, but 1"
    ):
        read_score_file(write(tmp_path / "s.jsonl", rows))
    with pytest.raises(DataError, match=r"one output per response is needed, not 0\.5"):
        read_score_file(write(tmp_path / "s.jsonl", [{"reward_outputs_a": 0.5}]))


def test_files_without_any_reward_are_refused(tmp_path):
    with pytest.raises(DataError, match="no rows"):
        read_score_file(write(tmp_path / "empty.jsonl", []))
    with pytest.raises(DataError, match="line 1: there is no reward_output_chosen"):
        read_score_file(write(tmp_path / "data.jsonl", [{"chosen": "a", "rejected": "b"}]))
    with pytest.raises(DataError, match="'reward_output_rejected': reward_output_chosen has no"):
        read_score_file(write(tmp_path / "half.jsonl", [{"reward_output_chosen": [1.0]}]))
    with pytest.raises(DataError, match="none of its 2 rows has a reward"):
        read_score_file(write(tmp_path / "null.jsonl", [pair(None, None)] * 2))
    unsure = pair([1.0], [2.0], annotations=[{"annotator": "a", "preference": None}])
    with pytest.raises(DataError, match="1 rows has a reward and a vote"):
        read_score_file(write(tmp_path / "unsure.jsonl", [unsure]))
    with pytest.raises(MissingFileError):
        read_score_file(tmp_path / "absent.jsonl")


def test_a_required_label_has_to_be_on_every_row(tmp_path):
    rows = [pair([1.0], [2.0], data_subset="helpful"), pair([1.0], [2.0])]
    path = write(tmp_path / "s.jsonl", rows)
    assert len(read_score_file(path).pairs.chosen) == 2
    with pytest.raises(DataError, match="line 2, field 'data_subset': the column is missing"):
        read_score_file(path, require=("data_subset",))
