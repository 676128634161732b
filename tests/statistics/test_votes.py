"""Kinds of items by their votes, and how often votes differ."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hidden_context.errors import ConfigError
from hidden_context.statistics.votes import BETWEEN, KINDS, Counts, VoteTable


def counts_of(*items: tuple[int, int, int]) -> Counts:
    """Counts of items given as votes for first, equal and second."""
    return Counts(np.array(items, dtype=float), np.zeros((len(items), 3)))


@pytest.mark.parametrize(
    ("votes", "kind"),
    [
        ((5, 0, 0), "unanimous"),
        ((0, 0, 2), "unanimous"),
        ((0, 5, 0), "equal"),
        ((0, 2, 0), "equal"),
        ((4, 0, 1), "majority"),
        ((3, 2, 0), "majority"),  # a share of .8
        ((3, 0, 2), "conflict"),
        ((2, 1, 2), "conflict"),
        ((1, 3, 1), "indifference"),
        ((1, 4, 0), "indifference"),  # a share of .6
        ((2, 2, 1), "mixed"),
        ((1, 0, 1), "mixed"),
        ((2, 0, 1), "majority"),
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
    share = (first + equal / 2) / (first + equal + second)
    within = (share >= 0.35 - 1e-9) & (share <= 0.65 + 1e-9)
    np.testing.assert_array_equal(counts.contested, within & (first + second > 0))
    assert not (counts.contested & counts.equal_only).any()
    np.testing.assert_array_equal(counts.split, ~counts.unanimous & ~counts.equal_only)
    # up to five votes nothing can be both; above, each item is one of the two at most
    both = counts.contested & (np.minimum(first, second) >= 2) & (equal >= 3)
    assert (first + equal + second)[both].min() == 7
    assert not (counts.conflict & counts.indifference).any()
    assert (counts.conflict | counts.indifference)[both].all()
    small = first + equal + second <= 5
    np.testing.assert_array_equal(
        counts.conflict[small], (counts.contested & (np.minimum(first, second) >= 2))[small]
    )
    np.testing.assert_array_equal(
        counts.indifference[small], (counts.contested & (equal >= 3))[small]
    )
    swapped = counts_of(*[votes[::-1] for votes in items])
    np.testing.assert_array_equal(swapped.kind, counts.kind)
    assert set(counts.kind) == set(KINDS)


def test_votes_that_differ_against_all_pairs():
    rng = np.random.default_rng(0)
    item, share = np.repeat(np.arange(40), 6), rng.choice([0.0, 0.5, 1.0], 240)
    counts = VoteTable.of(item, np.full(240, -1), share).counts
    for number in range(40):
        pairs = list(itertools.combinations(share[item == number], 2))
        assert counts.differ[number] == pytest.approx(np.mean([a != b for a, b in pairs]))
        assert counts.opposite[number] == pytest.approx(
            np.mean([abs(a - b) == 1 for a, b in pairs])
        )
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


@pytest.mark.parametrize(
    ("columns", "options", "words"),
    [
        (([], [], []), {}, "non-empty"),
        (([0], [0, 1], [1]), {}, "equally long"),
        (([0], [0], [1.5]), {}, "in \\[0, 1\\]"),
        (([0], [0], [1]), {"weight": [0]}, "above 0"),
        (([0], [0], [1]), {"shown": [2]}, "not known"),
        (([-1], [0], [1]), {}, "item numbers must lie from 0"),
        (([0], [-2], [1]), {}, "annotator numbers must lie from -1 to"),
        (([3], [0], [1]), {"items": 3}, "to 2"),
    ],
)
def test_tables_that_are_refused(columns, options, words):
    with pytest.raises(ConfigError, match=words):
        VoteTable.of(*columns, **options)
