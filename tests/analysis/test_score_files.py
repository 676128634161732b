from __future__ import annotations

import gzip
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hidden_context.analysis.score_files import read_score_file
from hidden_context.errors import DataError, MissingFileError


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
    "label": ({**GOOD, "data_subset": 3}, "data_subset", "a text is needed, not 3"),
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
    with pytest.raises(MissingFileError):
        read_score_file(tmp_path / "absent.jsonl")


def test_a_required_label_has_to_be_on_every_row(tmp_path):
    rows = [pair([1.0], [2.0], data_subset="helpful"), pair([1.0], [2.0])]
    path = write(tmp_path / "s.jsonl", rows)
    assert len(read_score_file(path).pairs.chosen) == 2
    with pytest.raises(DataError, match="line 2, field 'data_subset': the column is missing"):
        read_score_file(path, require=("data_subset",))
