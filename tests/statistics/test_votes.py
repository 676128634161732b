"""Votes by hand: kinds of items, losses, and how likely and how well found contested items are."""

import itertools
import math

import numpy as np
import pytest

from hidden_context.statistics.agreement import auroc, diverging_auroc
from hidden_context.statistics.votes import contested, losses
from hidden_context.statistics.votes.table import BETWEEN, KINDS, Counts, VoteTable


def counts_of(*items: tuple[int, int, int]) -> Counts:
    """Counts of items given as votes for first, equal and second."""
    return Counts(np.array(items, dtype=float), np.zeros((len(items), 3)))


KIND_OF = {
    (5, 0, 0): "unanimous",
    (0, 2, 0): "equal",
    (3, 2, 0): "majority",  # a share of .8
    (3, 0, 2): "conflict",
    (1, 4, 0): "indifference",  # a share of .6
    (2, 2, 1): "mixed",
    (40, 20, 40): "conflict",  # more stand opposite each other than say equal
    (10, 20, 10): "conflict",  # as many
    (10, 21, 10): "indifference",
    (1, 0, 0): "",
    (0, 0, 0): "",
}


def test_kinds_by_hand():
    assert dict(zip(KIND_OF, counts_of(*KIND_OF).kind.tolist(), strict=True)) == KIND_OF


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
    np.testing.assert_allclose(losses.two_way_losses(log_probs, share), two)
    first, equal, second = (math.log(p) for p in (0.5, 0.3, 0.2))
    three = [-first, -equal, -second, -0.75 * first - 0.25 * second]
    np.testing.assert_allclose(losses.three_way_losses(log_probs, share), three)
    assert losses.vote_brier([0.5, 1.0], [0.75, 0.0]).tolist() == [0.0625, 1.0]


def test_an_answer_that_a_model_does_not_have_costs_nothing_until_it_is_given():
    log_probs = logs([0.7, 0.0, 0.3], [1.0, 0.0, 0.0])
    np.testing.assert_allclose(losses.two_way_losses(log_probs, np.ones(2)), [-math.log(0.7), 0.0])
    assert losses.three_way_losses(log_probs, np.array([0.5, 1.0])).tolist() == [math.inf, 0.0]


def test_the_floor_is_the_least_mean_loss_of_a_prediction_alike_for_all_voters():
    two, three = losses.entropy_floor(counts_of((3, 1, 1), (5, 0, 0), (0, 4, 0), (0, 0, 0)))
    # all equal is half each way
    assert two[1:] == pytest.approx([0.0, math.log(2), np.nan], nan_ok=True)
    assert three[1:] == pytest.approx([0.0, 0.0, np.nan], nan_ok=True)
    # item 0 by hand, and no other prediction is better
    assert three[0] == pytest.approx(-0.6 * math.log(0.6) - 0.4 * math.log(0.2))
    share = np.array([1, 1, 1, 0.5, 0])
    best = logs(*[[0.6, 0.2, 0.2]] * 5)
    for floor, loss_of in ((two[0], losses.two_way_losses), (three[0], losses.three_way_losses)):
        assert loss_of(best, share).mean() == pytest.approx(floor)
        for other in np.random.default_rng(0).dirichlet(np.ones(3), size=50):
            assert loss_of(logs(*[other] * 5), share).mean() >= floor


ANSWERS = np.array([[0.5, 0.0, 0.5], [0.2, 0.6, 0.2], [0.7, 0.1, 0.2], [0.0, 1.0, 0.0], [1, 0, 0]])


def enumerated(voters):
    """Go through all answers that n voters may give, of ``(n, 3)`` probabilities."""
    total = 0.0
    for said in itertools.product(range(3), repeat=len(voters)):
        share = sum((1.0, 0.5, 0.0)[answer] for answer in said) / len(voters)
        if 0.35 - 1e-9 <= share <= 0.65 + 1e-9 and set(said) != {1}:
            total += np.prod([row[answer] for row, answer in zip(voters, said, strict=True)])
    return total


@pytest.mark.parametrize("votes", [1, 2, 3, 5, 6])
def test_all_answers_that_the_voters_may_give_are_counted(votes):
    expected = [enumerated([row] * votes) for row in ANSWERS]
    found = contested.contested_probability(ANSWERS, np.full(len(ANSWERS), votes))
    np.testing.assert_allclose(found, expected, atol=1e-12)
    # the same, voter by voter
    item = np.random.default_rng(0).permutation(np.repeat(np.arange(5), votes))
    found = contested.contested_probability_of_voters(ANSWERS[item], item, 5)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_voters_who_differ_are_enumerated():
    voters = np.random.default_rng(1).dirichlet(np.ones(3), size=6)
    found = contested.contested_probability_of_voters(voters, np.array([0, 2, 0, 0, 2, 0]), 3)
    expected = [enumerated(voters[[0, 2, 3, 5]]), np.nan, enumerated(voters[[1, 4]])]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    # two camps of two: surely two each way
    camps = np.eye(3)[[0, 0, 2, 2]]
    assert contested.contested_probability_of_voters(camps, np.zeros(4, dtype=int), 1)[0] == 1
    assert np.isnan(contested.contested_probability_of_voters(np.zeros((0, 3)), [], 2)).all()


def test_many_votes_are_normal_to_three_digits():
    row, most = np.array([[0.45, 0.2, 0.35], [0.6, 0.2, 0.2]]), contested.EXACT_UP_TO
    exact, many = (contested.contested_probability(row, [n, n]) for n in (most, most + 1))
    generator = np.random.default_rng(2)
    for answers, near, found in zip(row, exact, many, strict=True):
        first, equal, _ = generator.multinomial(most + 1, answers, size=200_000).T
        share = (first + equal / 2) / (most + 1)
        assert found == pytest.approx(((share >= 0.35) & (share <= 0.65)).mean(), abs=0.02)
        assert found == pytest.approx(near, abs=0.03)


def world(size=600, groups=40, seed=0):
    """Items that are contested where a hidden score is high; two measures see it, one less well."""
    generator = np.random.default_rng(seed)
    hidden = generator.normal(size=size)
    sought = hidden + 0.7 * generator.normal(size=size) > 0.8
    scores = {
        "near_half": hidden + 1.5 * generator.normal(size=size),
        "sharp": hidden,
        "length": generator.normal(size=size),
    }
    return scores, sought, np.arange(size) % groups


def test_areas_and_differences_are_those_of_the_columns():
    scores, sought, cluster = world()
    found = {each.name: each for each in contested.compare_measures(scores, sought, cluster)}
    areas = {name: auroc(values, sought) for name, values in scores.items()}
    for name, each in found.items():
        assert each.auroc.estimate == pytest.approx(areas[name])
        assert each.auroc.low < areas[name] < each.auroc.high
    sharp = found["sharp"]
    assert sharp.minus_near_half.estimate == pytest.approx(areas["sharp"] - areas["near_half"])
    assert sharp.minus_length.estimate == pytest.approx(areas["sharp"] - areas["length"])
    assert sharp.minus_near_half.low > 0.05
    assert found["near_half"].minus_near_half is found["length"].minus_length is None
    # the same resamples: a difference is better known than its two sides
    width = [each.high - each.low for each in (sharp.minus_near_half, found["near_half"].auroc)]
    assert width[0] < 1.2 * width[1]
    alone = diverging_auroc(scores["sharp"], np.where(sought, 0.5, 0.9), cluster, resamples=999)
    ends = (sharp.auroc.low, sharp.auroc.high)
    assert ends == pytest.approx((alone.low, alone.high), abs=0.008)


def test_what_says_nothing_is_left_out_and_few_groups_have_no_interval():
    scores, sought, cluster = world()
    scores |= {"same": np.ones(600), "unknown": np.full(600, np.nan)}
    del scores["length"]
    found = contested.compare_measures(scores, sought, cluster % 4)
    assert [each.name for each in found] == ["near_half", "sharp"]
    assert found[1].minus_length is None
    assert (found[0].auroc.method, np.isnan(found[0].auroc.low)) == ("none", True)
    assert contested.compare_measures(scores, np.zeros(600, dtype=bool)) == []
    assert contested.compare_measures({}, sought) == []


def test_of_very_many_items_a_sample_is_used(monkeypatch):
    monkeypatch.setattr(contested, "MOST", 400)
    scores, sought, cluster = world()
    (_, sharp, _) = contested.compare_measures(scores, sought, cluster, resamples=100)
    assert sharp.auroc.estimate == pytest.approx(auroc(scores["sharp"], sought), abs=0.05)
    assert sharp.auroc.estimate != auroc(scores["sharp"], sought)
