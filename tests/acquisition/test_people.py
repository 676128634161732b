"""Who can be asked: names, costs, and what they have voted on."""

from __future__ import annotations

import pytest

from acquisition.votes import config, pair, write
from hidden_context.acquisition.people import read_people
from hidden_context.acquisition.pool import read_pool
from hidden_context.errors import ConfigError, DataError

ROWS = [pair(0, {"a": 1, "b": 0}), pair(1, {"b": 0.5}), pair(2, {"c": 1})]


def people_of(tmp_path, rows=ROWS, known=None, **options):
    if known is not None:
        options["annotators"] = str(write(tmp_path / "who.jsonl", known))
    chosen = config(write(tmp_path / "votes.jsonl", rows), tmp_path, **options)
    return read_people(chosen, read_pool(chosen).items)


def test_anyone_is_asked_unless_somebody_is_named(tmp_path):
    assert people_of(tmp_path) is None


def test_known_annotators_and_what_they_voted_on(tmp_path):
    found = people_of(tmp_path, ask="known", max_questions=3)
    assert found.names == ["a", "b", "c"]
    assert found.voted == {0: {0, 1}, 1: {1}, 2: {2}}
    assert found.cost.tolist() == [1, 1, 1]
    assert found.votes.tolist() == [1, 2, 1]
    assert found.most == 3


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


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ask": "listed"}, "--annotators"),
        ({"cost_column": "pay"}, "--annotators"),
        ({"annotators": "x", "cost_column": "pay", "cost": 1.0}, "give one"),
        ({"max_questions": 2}, "--ask known"),
    ],
)
def test_options_that_do_not_go_together_are_refused(tmp_path, options, words):
    with pytest.raises(ConfigError, match=words):
        config(tmp_path / "votes.jsonl", tmp_path, **options)
