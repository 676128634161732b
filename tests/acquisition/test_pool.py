"""What and who can be asked: votes in any form, a pool beside them, and names with costs."""

import dataclasses
import json

import pytest

from acquisition.votes import bare, config, pair
from check.people import JUDGE, judged, rated
from hidden_context.acquisition.pool import read_pool
from hidden_context.acquisition.select import read_people
from hidden_context.errors import DataError
from support.paper_layout import write_rows

UNSURE = {**pair(1, {}), "judgements": [{"annotator": "a", "abstains": True}]}
ONE = pair(0, {"a": 1})
SAID = [([0, 1], 1.0)]  # by a language model
WHY = {"prompt": "why?", "topic": "t9"}


def read(tmp_path, rows, pool=None, **options):
    return read_pool(config(tmp_path, rows, pool, **options))


NONE = [0, 0, 0]


@pytest.mark.parametrize(
    ("rows", "pool", "counts"),
    [
        (
            [pair(0, {"a": 1, "b": 0.5, "c": 0}), pair(1, {"a": 0})],
            None,
            {"i0": [1, 1, 1], "i1": [0, 0, 1]},
        ),
        # what language models said is no vote
        (
            [judged(pair(0, {"a": 0, "b": 0}), SAID), judged(pair(1, {}), SAID)],
            None,
            {"i0": [0, 0, 2], "i1": NONE},
        ),
        # rows without a vote, and those of the pool, whatever they say of votes
        (
            [ONE, UNSURE],
            [bare(2), pair(3, {"z": 1.0})],
            {"i0": [1, 0, 0], "i1": NONE, "i2": NONE, "i3": NONE},
        ),
        # items of the pool that have votes, or come twice, are there once
        (
            [ONE],
            [{**bare(0), "responses": bare(0)["responses"][::-1], "id": "x"}, bare(1), bare(1)],
            {"i0": [1, 0, 0], "i1": NONE},
        ),
        (
            [ONE],
            [{**WHY, "chosen": "so", "rejected": "not so"}],
            {"i0": [1, 0, 0], "pool.jsonl:1": NONE},
        ),
        (
            [ONE],
            [{**WHY, "responses": ["a b", "c d", "e f"], "id": "r"}],
            {"i0": [1, 0, 0], "r#0-1": NONE, "r#0-2": NONE, "r#1-2": NONE},
        ),
        # ids that come twice are replaced by lines
        (
            [ONE, pair(1, {"a": 1, "b": 0}, id="i0")],
            None,
            {"votes.jsonl:1": [1, 0, 0], "votes.jsonl:2": [1, 0, 1]},
        ),
    ],
)
def test_what_can_be_asked(tmp_path, rows, pool, counts):
    found = read(tmp_path, rows, pool)
    assert dict(zip(found.ids, found.items.counts.tolist(), strict=True)) == counts
    assert found.ids == list(counts)
    assert found.unjudged == list(counts.values()).count(NONE)
    people = {said["annotator"] for row in rows for said in row["judgements"][:3]}
    assert found.items.votes.table.annotators == len(found.items.votes.names)
    assert set(found.items.votes.names) <= people - {JUDGE}


def test_ratings_are_items_of_one_text_and_a_pool_moves_no_middle(tmp_path):
    rows = [rated(n, {"a": 10.0 * n}, topic="t") for n in (1, 2, 3)]
    pool = read(tmp_path, rows, [{"text": "another", "topic": "t"}])
    assert pool.items.votes.middle == 20.0
    assert pool.items.counts.tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 0]]
    assert pool.responses[3] == ("another",)
    pairs = read(tmp_path, [ONE], [{**WHY, "responses": ["a b", "c d", "e f"]}])
    assert (pairs.prompts[1], pairs.groups) == ("why?", ["t0", "t9", "t9", "t9"])
    assert pairs.responses[2] == ("a b", "e f")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "x", "topic": "t"}, ["line 1", "'responses'", "no responses"]),
        ({"prompt": "x", "responses": ["a"], "topic": "t"}, ["line 1", "compare", "two"]),
        ({"prompt": "x", "responses": ["a", " "], "topic": "t"}, ["responses[1]", "blank"]),
        ({"prompt": "x", "responses": ["a", "b"]}, ["line 1", "'topic'", "--split_by"]),
        ({"prompt": "x", "responses": "a", "topic": "t"}, ["line 1", "'responses'"]),
        (None, ["the pool holds no rows"]),
    ],
)
def test_a_pool_that_cannot_be_asked_is_refused(tmp_path, row, words):
    with pytest.raises(DataError) as error:
        read(tmp_path, [ONE], [] if row is None else [row])
    for word in ["pool.jsonl", *words]:
        assert word in str(error.value)


def test_malformed_lines_are_refused_or_skipped_and_votes_of_nobody_refused(tmp_path):
    with pytest.raises(DataError, match="no usable row"):
        read(tmp_path, [UNSURE])
    options = config(tmp_path, [ONE], on_malformed="skip")
    rows = [json.dumps(ONE), "{", json.dumps({"prompt": 3}), json.dumps(UNSURE)]
    (tmp_path / "votes.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    pool = read_pool(options)
    assert (pool.ids, pool.unjudged) == (["i0", "i1"], 1)
    assert "1 of 4 examples kept" in pool.report
    with pytest.raises(DataError, match="line 2"):
        read_pool(dataclasses.replace(options, on_malformed="error"))


ROWS = [pair(0, {"a": 1, "b": 0}), pair(1, {"b": 0.5}), pair(2, {"c": 1})]


def people_of(tmp_path, rows=ROWS, known=None, **options):
    if known is not None:
        options["annotators"] = write_rows(tmp_path / "who.jsonl", known)
    chosen = config(tmp_path, rows, **options)
    return read_people(chosen, read_pool(chosen).items)


def test_known_annotators_and_what_they_voted_on(tmp_path):
    found = people_of(tmp_path, ask="known", max_questions=3)
    assert (found.names, found.most) == (["a", "b", "c"], 3)
    assert found.voted == {0: {0, 1}, 1: {1}, 2: {2}}
    assert (found.cost.tolist(), found.votes.tolist()) == ([1, 1, 1], [1, 2, 1])
    assert people_of(tmp_path) is None  # anyone is asked unless somebody is named


def test_those_of_a_table_are_asked_and_no_others(tmp_path):
    known = [{"annotator": "d", "pay": 2.5}, {"annotator": "b", "pay": 0.5}]
    found = people_of(tmp_path, known=known, cost_column="pay")
    assert found.names == ["d", "b"]
    assert found.cost.tolist() == [2.5, 0.5]
    assert found.voted == {0: {1}, 1: {1}}
    assert found.votes.tolist() == [0, 2]


@pytest.mark.parametrize("pay", [None, "dear", 0, -1])
def test_a_cost_that_is_none_is_refused(tmp_path, pay):
    known = [{"annotator": "b", "pay": pay}]
    with pytest.raises(DataError, match=r"who.jsonl, field 'pay': annotator 'b' has no cost"):
        people_of(tmp_path, known=known, cost_column="pay")


def test_known_annotators_have_to_be_named(tmp_path):
    row = pair(0, {"a": 1})
    del row["judgements"][0]["annotator"]
    with pytest.raises(DataError, match="no vote names its annotator"):
        people_of(tmp_path, [row], ask="known")
