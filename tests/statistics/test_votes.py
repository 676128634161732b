"""Kinds of items by their votes, how often votes differ, and losses of votes: by hand."""

import itertools
import math

import numpy as np
import pytest

from hidden_context.statistics.votes.losses import (
    entropy_floor,
    three_way_losses,
    two_way_losses,
    vote_brier,
)
from hidden_context.statistics.votes.table import BETWEEN, KINDS, Counts, VoteTable


def counts_of(*items: tuple[int, int, int]) -> Counts:
    """Counts of items given as votes for first, equal and second."""
    return Counts(np.array(items, dtype=float), np.zeros((len(items), 3)))


@pytest.mark.parametrize(
    ("votes", "kind"),
    [
        ((5, 0, 0), "unanimous"),
        ((0, 2, 0), "equal"),
        ((3, 2, 0), "majority"),  # a share of .8
        ((3, 0, 2), "conflict"),
        ((1, 4, 0), "indifference"),  # a share of .6
        ((2, 2, 1), "mixed"),
        ((40, 20, 40), "conflict"),  # more stand opposite each other than say equal
        ((10, 20, 10), "conflict"),  # as many
        ((10, 21, 10), "indifference"),
        ((1, 0, 0), ""),
        ((0, 0, 0), ""),
    ],
)
def test_kinds_by_hand(votes, kind):
    assert counts_of(votes).kind.tolist() == [kind]


def test_kinds_follow_the_definitions_for_every_item_of_two_to_eight_votes():
    items = [votes for votes in itertools.product(range(9), repeat=3) if 2 <= sum(votes) <= 8]
    counts = counts_of(*items)
    first, equal, second = np.array(items).T
    votes, opposed = first + equal + second, np.minimum(first, second) >= 2
    share = (first + equal / 2) / votes
    within = (share >= 0.35 - 1e-9) & (share <= 0.65 + 1e-9)
    np.testing.assert_array_equal(counts.contested, within & (first + second > 0))
    np.testing.assert_array_equal(counts.split, ~counts.unanimous & ~counts.equal_only)
    # up to five votes nothing can be both; above, each item is one of the two at most
    both = counts.contested & opposed & (equal >= 3)
    assert votes[both].min() == 7
    assert not (counts.conflict & counts.indifference).any()
    assert (counts.conflict | counts.indifference)[both].all()
    small = votes <= 5
    np.testing.assert_array_equal(counts.conflict[small], (counts.contested & opposed)[small])
    many_equal = counts.contested & (equal >= 3)
    np.testing.assert_array_equal(counts.indifference[small], many_equal[small])
    swapped = counts_of(*[votes[::-1] for votes in items])
    np.testing.assert_array_equal(swapped.kind, counts.kind)
    assert set(counts.kind) == set(KINDS)


def test_votes_that_differ_against_all_pairs():
    rng = np.random.default_rng(0)
    item, share = np.repeat(np.arange(40), 6), rng.choice([0.0, 0.5, 1.0], 240)
    counts = VoteTable.of(item, np.full(240, -1), share).counts
    for number in range(40):
        gaps = [abs(a - b) for a, b in itertools.combinations(share[item == number], 2)]
        assert counts.differ[number] == pytest.approx(np.mean([gap > 0 for gap in gaps]))
        assert counts.opposite[number] == pytest.approx(np.mean([gap == 1 for gap in gaps]))
    np.testing.assert_allclose(counts.share, share.reshape(40, 6).mean(1))


def test_shares_of_several_people_count_by_their_share():
    table = VoteTable.of([0, 0, 1, 2], [0, 1, 2, -1], [0.8, 1.0, 0.25, 1.0])
    counts = table.counts
    assert table.answer.tolist() == [BETWEEN, 0, BETWEEN, 0]
    np.testing.assert_allclose(counts.first, [1.8, 0.25, 1])
    np.testing.assert_allclose(counts.second, [0.2, 0.75, 0])
    np.testing.assert_allclose(counts.share, [0.9, 0.25, 1])
    assert counts.judged.tolist() == [True, True, False]  # several people stand behind a share
    assert counts.kind.tolist() == ["majority", "majority", ""]
    assert np.isnan(counts.differ).all()
    assert np.isnan(VoteTable.of([1], [0], [1.0], items=2).counts.share[0])


def test_first_answers_of_annotators():
    table = VoteTable.of([0, 0, 1, 0, 0, 0], [3, -1, 3, 3, -1, 2], [1, 1, 0, 0, 1, 0.5])
    assert table.is_first_answer.tolist() == [True, True, True, False, True, True]
    kept = table.select(table.is_first_answer)
    assert (len(kept), kept.items, kept.annotators) == (5, 2, 4)
    assert kept.share.tolist() == [1, 1, 0, 1, 0.5]


def logs(*rows):
    with np.errstate(divide="ignore"):
        return np.log(np.array(rows, dtype=np.float64))


def test_equal_is_half_a_vote_each_way_or_an_answer_of_its_own():
    log_probs, share = logs(*[[0.5, 0.3, 0.2]] * 4), np.array([1.0, 0.5, 0.0, 0.75])
    one, other = math.log(0.65), math.log(0.35)
    two = [-one, -(one + other) / 2, -other, -0.75 * one - 0.25 * other]
    np.testing.assert_allclose(two_way_losses(log_probs, share), two)
    first, equal, second = (math.log(p) for p in (0.5, 0.3, 0.2))
    three = [-first, -equal, -second, -0.75 * first - 0.25 * second]
    np.testing.assert_allclose(three_way_losses(log_probs, share), three)
    assert vote_brier([0.5, 1.0], [0.75, 0.0]).tolist() == [0.0625, 1.0]


def test_an_answer_that_a_model_does_not_have_costs_nothing_until_it_is_given():
    log_probs = logs([0.7, 0.0, 0.3], [1.0, 0.0, 0.0])
    np.testing.assert_allclose(two_way_losses(log_probs, np.ones(2)), [-math.log(0.7), 0.0])
    assert three_way_losses(log_probs, np.array([0.5, 1.0])).tolist() == [math.inf, 0.0]


def test_the_floor_is_the_least_mean_loss_of_a_prediction_alike_for_all_voters():
    two, three = entropy_floor(counts_of((3, 1, 1), (5, 0, 0), (0, 4, 0), (0, 0, 0)))
    # all equal is half each way
    assert two[1:] == pytest.approx([0.0, math.log(2), np.nan], nan_ok=True)
    assert three[1:] == pytest.approx([0.0, 0.0, np.nan], nan_ok=True)
    # item 0 by hand, and no other prediction is better
    assert three[0] == pytest.approx(-0.6 * math.log(0.6) - 0.4 * math.log(0.2))
    share = np.array([1, 1, 1, 0.5, 0])
    best = logs(*[[0.6, 0.2, 0.2]] * 5)
    for floor, losses in ((two[0], two_way_losses), (three[0], three_way_losses)):
        assert losses(best, share).mean() == pytest.approx(floor)
        for other in np.random.default_rng(0).dirichlet(np.ones(3), size=50):
            assert losses(logs(*[other] * 5), share).mean() >= floor
