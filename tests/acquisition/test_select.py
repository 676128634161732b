"""The order of votes: the best order there is, limits that are kept exactly, and twins."""

import dataclasses
import itertools
from collections import Counter

import numpy as np
import pytest

from acquisition.votes import bare, config, pair
from hidden_context.acquisition.pool import read_pool
from hidden_context.acquisition.select import Limits, People, choose_votes, find_twins
from hidden_context.acquisition.workflow import choose, with_twins
from hidden_context.statistics.votes.posterior import SharePosterior

DROPS = np.array([[8.0, 5.0, 3.0, 1.0], [4.0, 4.5, 2.9, 0.5], [2.0, 4.4, 0.1, 0.2]])
FREE = np.full(4, 99)
APART = np.arange(4)
GROUP = np.array([0, 0, 1, 1])


def limits(budget: float, **options):
    return Limits(**{"budget": budget, "cost": 1.0, "each": FREE, "group": GROUP, **options})


def people(cost, votes=None, voted=None, most=None):
    cost = np.asarray(cost, float)
    votes = np.zeros(len(cost), int) if votes is None else np.asarray(votes)
    return People([f"p{n}" for n in range(len(cost))], cost, votes, voted or {}, most)


@pytest.mark.parametrize("budget", range(1, 13))
def test_no_other_choice_of_as_many_votes_drops_more(budget):
    votes = choose_votes(DROPS, limits(budget), APART)
    drops = [vote.drop for vote in votes]
    assert drops == sorted(drops, reverse=True)
    best = max(
        sum(DROPS[:count, item].sum() for item, count in enumerate(each))
        for each in itertools.product(range(4), repeat=4)
        if sum(each) == budget
    )
    assert len(votes) == budget
    assert sum(drops) == pytest.approx(best)


def test_twins_share_what_their_votes_tell():
    drops = np.array([[4.0, 4.0, 3.0], [1.0, 1.0, 2.5]])
    votes = choose_votes(drops, limits(3, each=FREE[:3], group=GROUP[:3]), np.array([0, 0, 1]))
    assert [vote.item for vote in votes] == [0, 2, 2]


def test_votes_that_tell_nothing_are_not_asked_for_and_ties_go_to_the_first_item():
    votes = choose_votes(np.array([[1.0, 0.0]]), limits(9, each=FREE[:2], group=GROUP[:2]), APART)
    assert [vote.item for vote in votes] == [0]
    assert choose_votes(np.ones((2, 4)), limits(5), APART)[0].item == 0


def test_a_budget_of_money_buys_as_many_votes_as_it_pays_for():
    votes = choose_votes(DROPS, limits(1.0, cost=0.3), APART)
    assert len(votes) == 3
    assert sum(vote.cost for vote in votes) == pytest.approx(0.9)
    assert len(choose_votes(DROPS, limits(0.9, cost=0.3), APART)) == 3  # 0.3 · 3 is not 0.9


def test_those_who_have_voted_least_are_asked_first_until_all_have_voted_alike():
    votes = choose_votes(DROPS, limits(6), APART, people([1, 1, 1], votes=[3, 0, 1]))
    assert votes[0].annotator == 1
    said = Counter(vote.annotator for vote in votes)
    assert sorted(said[n] + [3, 0, 1][n] for n in range(3)) == [3, 3, 4]


def test_who_costs_more_than_is_left_is_passed_over():
    votes = choose_votes(DROPS, limits(2.5), APART, people([2.0, 1.0], voted={1: {1}}))
    assert [vote.cost for vote in votes] == [1.0, 1.0]
    votes = choose_votes(DROPS[:1], limits(3.5), APART, people([2.0, 1.0], most=1))
    assert [vote.cost for vote in votes] == [1.0, 2.0]


def pool_of(tmp_path):
    turned = {**bare(0), "id": "twin", "prompt": "Question 0!"}
    turned["responses"] = [text.upper() + " ." for text in bare(0)["responses"][::-1]]
    rows = [pair(0, {"a": 1, "b": 1, "c": 0.5}), pair(1, {"a": 0})]
    return config(tmp_path, rows, [turned, bare(2)])


def test_votes_on_a_twin_are_turned_round_and_case_and_marks_tell_nothing_apart(tmp_path):
    items = read_pool(pool_of(tmp_path)).items
    twins = find_twins(items)
    assert twins.number.tolist() == [0, 1, 0, 2]
    assert twins.facing[0] == -twins.facing[2]
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
