"""What can be asked: votes in any form, rows nobody judged, and a pool beside them."""

from __future__ import annotations

import json

import pytest

from acquisition.votes import bare, config, one_a_vote, pair, table, write
from hidden_context.acquisition.pool import read_pool
from hidden_context.errors import DataError


def read(tmp_path, rows, pool=None, **options):
    path = write(tmp_path / "votes.jsonl", rows)
    if pool is not None:
        options["pool"] = str(write(tmp_path / "pool.jsonl", pool))
    return read_pool(config(path, tmp_path, **options))


def test_votes_are_counted_by_item(tmp_path):
    pool = read(tmp_path, [pair(0, {"a": 1, "b": 0.5, "c": 0}), pair(1, {"a": 0})])
    assert pool.items.counts.tolist() == [[1, 1, 1], [0, 0, 1]]
    assert pool.ids == ["i0", "i1"]
    assert pool.groups == ["t0", "t1"]
    assert pool.unjudged == 0


def test_rows_one_a_vote_are_the_same_items(tmp_path):
    rows = table(12)
    nested = read(tmp_path, rows)
    flat = read(tmp_path, [row for each in rows for row in one_a_vote(each)])
    assert flat.items.counts.tolist() == nested.items.counts.tolist()
    assert flat.ids == nested.ids
    assert flat.items.votes.names == nested.items.votes.names


def test_what_language_models_said_is_no_vote(tmp_path):
    said = {
        "annotator": "m/helpful/1",
        "comparison": [0, 1],
        "preference": 1.0,
        "judge": {"model": "m"},
        "answers": [{"shown": [0, 1], "vote": 0, "preference": 1.0}],
    }
    rows = [pair(n, votes) for n, votes in enumerate([{"a": 0, "b": 0}, {}])]
    judged = [{**row, "judgements": [*row["judgements"], said]} for row in rows]
    pool = read(tmp_path, judged)
    assert pool.items.counts.tolist() == [[0, 0, 2], [0, 0, 0]]
    assert pool.unjudged == 1


def test_rows_without_a_vote_and_a_pool_are_items_without_votes(tmp_path):
    unsure = {**pair(1, {}), "judgements": [{"annotator": "a", "abstains": True}]}
    pool = read(tmp_path, [pair(0, {"a": 1}), unsure], [bare(2), bare(3)])
    assert pool.ids == ["i0", "i1", "i2", "i3"]
    assert pool.items.counts.sum(1).tolist() == [1, 0, 0, 0]
    assert pool.unjudged == 3
    assert pool.items.votes.names == ("a",)
    assert pool.items.votes.table.annotators == 1
    assert pool.responses[2] == tuple(bare(2)["responses"])


def test_items_of_the_pool_that_have_votes_are_not_there_twice(tmp_path):
    turned = {**bare(0), "responses": bare(0)["responses"][::-1], "id": "other"}
    pool = read(tmp_path, [pair(0, {"a": 1, "b": 1})], [turned, bare(1), bare(1)])
    assert pool.ids == ["i0", "i1"]


def test_votes_that_rows_of_a_pool_hold_are_not_read(tmp_path):
    pool = read(tmp_path, [pair(0, {"a": 1})], [pair(1, {"z": 1.0})])
    assert pool.items.counts.sum() == 1
    assert pool.items.votes.names == ("a",)


def test_a_pool_of_pairs_may_be_chosen_and_rejected(tmp_path):
    row = {"prompt": "why?", "chosen": "so", "rejected": "not so", "topic": "t9"}
    pool = read(tmp_path, [pair(0, {"a": 1})], [row])
    assert pool.prompts[1] == "why?"
    assert pool.ids[1] == "pool.jsonl:1"
    assert pool.items.counts[1].tolist() == [0, 0, 0]


def test_three_responses_are_three_items(tmp_path):
    row = {"prompt": "why?", "responses": ["a b", "c d", "e f"], "topic": "t9", "id": "r"}
    pool = read(tmp_path, [pair(0, {"a": 1})], [row])
    assert pool.ids[1:] == ["r#0-1", "r#0-2", "r#1-2"]
    assert pool.responses[2] == ("a b", "e f")


def test_ratings_are_items_of_one_text_and_a_pool_moves_no_middle(tmp_path):
    rows = [
        {"text": f"text {n}", "topic": "t", "ratings": [{"annotator": "a", "rating": 10.0 * n}]}
        for n in range(1, 4)
    ]
    pool = read(tmp_path, rows, [{"text": "another text", "topic": "t"}])
    assert pool.items.votes.middle == 20.0
    assert pool.items.counts.tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 0]]
    assert pool.responses[3] == ("another text",)


def test_ids_that_come_twice_are_replaced_by_lines(tmp_path):
    rows = [pair(0, {"a": 1, "b": 1}), pair(1, {"a": 1, "b": 0}, id="i0")]
    assert read(tmp_path, rows).ids == ["votes.jsonl:1", "votes.jsonl:2"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "x", "topic": "t"}, ["line 1", "'responses'", "no responses"]),
        ({"prompt": "x", "responses": ["a"], "topic": "t"}, ["line 1", "compare", "two"]),
        ({"prompt": "x", "responses": ["a", " "], "topic": "t"}, ["responses[1]", "blank"]),
        ({"prompt": "x", "responses": ["a", "b"]}, ["line 1", "'topic'", "--split_by"]),
        ({"prompt": "x", "responses": "a", "topic": "t"}, ["line 1", "'responses'"]),
    ],
)
def test_a_pool_that_cannot_be_asked_is_refused(tmp_path, row, words):
    with pytest.raises(DataError) as error:
        read(tmp_path, [pair(0, {"a": 1})], [row])
    for word in ["pool.jsonl", *words]:
        assert word in str(error.value)


def test_an_empty_pool_and_votes_of_nobody_are_refused(tmp_path):
    with pytest.raises(DataError, match="the pool holds no rows"):
        read(tmp_path, [pair(0, {"a": 1})], [])
    with pytest.raises(DataError, match="no usable row"):
        read(tmp_path, [{**pair(0, {}), "judgements": [{"abstains": True}]}])


def test_a_malformed_line_is_refused_or_skipped(tmp_path):
    path = tmp_path / "votes.jsonl"
    path.write_text(json.dumps(pair(0, {"a": 1})) + "\n{\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 2"):
        read_pool(config(path, tmp_path))
    assert len(read_pool(config(path, tmp_path, on_malformed="skip"))) == 1


def test_rows_that_nobody_judged_are_found_beside_malformed_ones(tmp_path):
    unsure = {**pair(1, {}), "judgements": [{"annotator": "a", "abstains": True}]}
    rows = [json.dumps(pair(0, {"a": 1})), "{", json.dumps({"prompt": 3}), json.dumps(unsure)]
    path = tmp_path / "votes.jsonl"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    pool = read_pool(config(path, tmp_path, on_malformed="skip"))
    assert pool.ids == ["i0", "i1"]
    assert pool.unjudged == 1
    assert "1 of 4 examples kept" in pool.report
