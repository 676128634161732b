"""On real votes the error that is expected is the error there is."""

import dataclasses

import numpy as np
import pytest
from people.data import load

from hidden_context.acquisition.forecast import forecast_shares
from hidden_context.acquisition.pool import make_pool
from hidden_context.check.features import word_features
from hidden_context.data.splits.division import SplitOptions
from hidden_context.statistics.checks import places
from hidden_context.statistics.votes.posterior import LEAN, SharePosterior, fit_strength

pytestmark = [pytest.mark.real_data, pytest.mark.slow]
TOPICS = ("Ban Plastic Water Bottles", "Is porn wrong?")


@pytest.fixture(scope="module")
def world(real_data):
    """Items of two topics; which of an item's votes each vote is, in random order."""
    data = load("ukp", real_data)
    examples = [e for e, group in zip(data.examples, data.groups, strict=True) if group in TOPICS]
    items = make_pool(examples, [], SplitOptions("topic")).items
    table = items.votes.table
    order = np.random.default_rng(0).permutation(len(table))
    return items, places(table.item, order)


def posterior_of(items, rows):
    votes = dataclasses.replace(items.votes, table=items.votes.table.select(rows))
    seen = dataclasses.replace(items, votes=votes)
    found = forecast_shares(seen, word_features(seen))
    _, strength = fit_strength(found.shares, found.variance, seen.counts)
    return SharePosterior(found.shares, strength, seen.counts)


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
