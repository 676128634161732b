"""Items of the same words: votes on one count for the others, whichever way round."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from acquisition.votes import bare, config, pair, write
from hidden_context.acquisition.pool import read_pool
from hidden_context.acquisition.twins import find_twins
from hidden_context.acquisition.workflow import choose, with_twins
from hidden_context.statistics.vote_posterior import SharePosterior


def pool_of(tmp_path):
    one = pair(0, {"a": 1, "b": 1, "c": 0.5})
    turned = {**bare(0), "id": "twin", "prompt": "Question 0!"}
    turned["responses"] = [text.upper() + " ." for text in bare(0)["responses"][::-1]]
    path = write(tmp_path / "votes.jsonl", [one, pair(1, {"a": 0})])
    pool = write(tmp_path / "pool.jsonl", [turned, bare(2)])
    return config(path, tmp_path, pool=str(pool))


def test_case_marks_and_sides_do_not_tell_items_apart(tmp_path):
    twins = find_twins(read_pool(pool_of(tmp_path)).items)
    assert twins.number.tolist() == [0, 1, 0, 2]
    assert twins.facing[0] == -twins.facing[2]


def test_votes_on_a_twin_are_turned_round(tmp_path):
    items = read_pool(pool_of(tmp_path)).items
    twins = find_twins(items)
    others = twins.others(items.counts)
    assert others.tolist() == [[0, 0, 0], [0, 0, 0], [0, 1, 2], [0, 0, 0]]
    prior, strength = np.tile([0.5, 0.2, 0.3], (4, 1)), np.full(4, 5.0)
    found = with_twins(SharePosterior(prior, strength, items.counts), twins)
    assert found.total.tolist() == [8, 6, 8, 5]
    np.testing.assert_allclose(found.mean[2], (5 * prior[2] + [0, 1, 2]) / 8)


def test_a_twin_of_an_item_with_votes_is_worth_less(tmp_path):
    chosen = choose(dataclasses.replace(pool_of(tmp_path), budget=4, max_votes=5))
    first = {each.item: each.expected_information for each in reversed(chosen.questions)}
    assert first["i2"] > first.get("twin", 0)
    assert sum(q.item in ("i0", "twin") for q in chosen.questions) < 3
    assert chosen.total.chosen == 4
    assert chosen.questions[0].expected_information == pytest.approx(max(first.values()))
