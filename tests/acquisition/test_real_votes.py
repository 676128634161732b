"""On real votes: the error that is expected is the error there is, and the order pays."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from people.data import load

from hidden_context.acquisition.forecast import forecast_shares
from hidden_context.acquisition.pool import make_pool
from hidden_context.acquisition.select import Limits, choose_votes
from hidden_context.check.features import word_features
from hidden_context.data.groups import SplitOptions
from hidden_context.statistics.vote_posterior import LEAN, SharePosterior, fit_strength

pytestmark = [pytest.mark.real_data, pytest.mark.slow]
TOPICS = ("Ban Plastic Water Bottles", "Is porn wrong?")


@pytest.fixture(scope="module")
def world(real_data):
    """Items of two topics; which of an item's votes each vote is, in random order."""
    data = load("ukp", real_data)
    examples = [e for e, group in zip(data.examples, data.groups, strict=True) if group in TOPICS]
    items = make_pool(examples, [], SplitOptions("topic")).items
    table = items.votes.table
    order = np.lexsort((np.random.default_rng(0).random(len(table)), table.item))
    place = np.empty(len(order), int)
    place[order] = np.arange(len(order)) - np.searchsorted(table.item[order], table.item[order])
    return items, place


def posterior_of(items, rows, planned=None):
    table = items.votes.table.select(rows)
    seen = dataclasses.replace(items, votes=dataclasses.replace(items.votes, table=table))
    found = forecast_shares(seen, word_features(seen))
    _, strength = fit_strength(found.shares, found.variance, seen.counts)
    return SharePosterior(found.shares, strength, seen.counts, planned)


def test_the_error_that_is_expected_is_the_error_there_is(world):
    items, place = world
    found = posterior_of(items, place >= 2)
    answers = np.eye(3)[items.votes.table.answer]
    # two votes that were not seen: the product of their errors has no noise of votes in it
    off = [found.estimate - answers[place == number] for number in (0, 1)]
    shares = (off[0] * off[1]).sum(1).mean()
    lean = ((off[0] @ LEAN) * (off[1] @ LEAN)).mean()
    assert found.expected_error("shares").mean() == pytest.approx(shares, rel=0.5)
    assert found.expected_error("lean").mean() == pytest.approx(lean, abs=0.004)


def test_votes_in_the_order_of_their_worth_leave_less_error_than_as_many_at_random(world):
    items, place = world
    all_votes = np.ones(len(place), bool)
    final = posterior_of(items, all_votes)
    planned = final.votes
    truth = final.counts / planned[:, None]
    seen = place < 2
    first = posterior_of(items, seen, planned)
    each = (planned - first.votes).astype(int)
    budget = int(each.sum()) // 2
    choice = choose_votes(
        first.drops("shares", 3),
        Limits(budget, 1.0, each, items.group),
        np.arange(len(items)),
    )
    chosen = place < 2 + choice.per_item(len(items))[items.votes.table.item]
    errors = []
    for seed in range(3):
        left = np.flatnonzero(~seen)
        drawn = seen.copy()
        drawn[np.random.default_rng(seed).choice(left, budget, replace=False)] = True
        errors.append(((posterior_of(items, drawn, planned).estimate - truth) ** 2).sum(1).mean())
    ours = ((posterior_of(items, chosen, planned).estimate - truth) ** 2).sum(1).mean()
    assert chosen.sum() == drawn.sum()
    assert ours < 0.95 * min(errors)
