import pytest

from check.people import items_of, pair, rated
from hidden_context.check.items import read_items
from hidden_context.data.example import Example
from hidden_context.errors import DataError


def test_rows_of_one_pair_are_one_item_whichever_side_is_chosen(tmp_path):
    rows = [
        {"prompt": "q?", "chosen": "one", "rejected": "two", "annotator": "a"},
        {"prompt": "q?", "chosen": "two", "rejected": "one", "annotator": "b"},
        {"prompt": "q?", "chosen": "one", "rejected": "two", "annotator": "c"},
    ]
    items = items_of(tmp_path / "d.jsonl", rows)
    assert len(items) == 1
    assert items.counts.tolist() == [[2, 0, 1]]
    assert items.are_pairs
    assert items.places == ["line 1"]
    assert [each.shown for each in items.responses] == ["one", "two"]
    assert items.length.tolist() == pytest.approx([1.3862943611, 1.3862943611])


def test_an_annotator_counts_once_on_an_item(tmp_path):
    row = pair(0, {"a": 1.0, "b": 0.0})
    row["judgements"].append({"annotator": "a", "comparison": [0, 1], "preference": 0.0})
    assert items_of(tmp_path / "d.jsonl", [row]).counts.tolist() == [[1, 0, 1]]


def test_ratings_are_high_or_low_and_keep_their_values(tmp_path):
    rows = [rated(0, {"a": 0, "b": 100, "c": 50, "d": None}), rated(1, {"a": 60, "b": 20})]
    items = items_of(tmp_path / "d.jsonl", rows)
    assert not items.are_pairs
    assert items.votes.middle == 50
    assert items.counts.tolist() == [[1, 1, 1], [1, 0, 1]]
    assert items.value.tolist() == [0, 1, 0.5, 0.6, 0.2]
    assert items.second.tolist() == [-1, -1]
    assert items.prompts == ["text number 0", "text number 1"]  # a text is its own prompt


def test_ratings_beside_comparisons_are_left_out_and_counted(tmp_path):
    row = pair(0, {"a": 1.0, "b": 0.0})
    row["judgements"].append({"annotator": "a", "response": 0, "rating": 3})
    items = items_of(tmp_path / "d.jsonl", [row])
    assert items.ratings_left_out == 1
    assert items.value.tolist() == [1.0, 0.0]


def test_data_that_nobody_judged_is_an_error():
    with pytest.raises(DataError, match="nobody judged any example"):
        read_items([Example("q", ("a", "b"))], source="file.jsonl")
