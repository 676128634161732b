"""Probabilities of contested votes by enumeration, and measures on the same resamples."""

import itertools

import numpy as np
import pytest

from hidden_context.statistics.agreement import auroc, diverging_auroc
from hidden_context.statistics.votes import contested
from hidden_context.statistics.votes.contested import (
    EXACT_UP_TO,
    compare_measures,
    contested_probability,
    contested_probability_of_voters,
)

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
    found = contested_probability(ANSWERS, np.full(len(ANSWERS), votes))
    np.testing.assert_allclose(found, expected, atol=1e-12)
    # the same, voter by voter
    item = np.random.default_rng(0).permutation(np.repeat(np.arange(5), votes))
    found = contested_probability_of_voters(ANSWERS[item], item, 5)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_voters_who_differ_are_enumerated():
    voters = np.random.default_rng(1).dirichlet(np.ones(3), size=6)
    found = contested_probability_of_voters(voters, np.array([0, 2, 0, 0, 2, 0]), 3)
    expected = [enumerated(voters[[0, 2, 3, 5]]), np.nan, enumerated(voters[[1, 4]])]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    # two camps of two: surely two each way
    camps = np.eye(3)[[0, 0, 2, 2]]
    assert contested_probability_of_voters(camps, np.zeros(4, dtype=int), 1)[0] == 1
    assert np.isnan(contested_probability_of_voters(np.zeros((0, 3)), [], 2)).all()


def test_many_votes_are_normal_to_three_digits():
    row = np.array([[0.45, 0.2, 0.35], [0.6, 0.2, 0.2]])
    exact, many = (contested_probability(row, [n, n]) for n in (EXACT_UP_TO, EXACT_UP_TO + 1))
    generator = np.random.default_rng(2)
    for answers, near, found in zip(row, exact, many, strict=True):
        first, equal, _ = generator.multinomial(EXACT_UP_TO + 1, answers, size=200_000).T
        share = (first + equal / 2) / (EXACT_UP_TO + 1)
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
    found = {each.name: each for each in compare_measures(scores, sought, cluster)}
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
    found = compare_measures(scores, sought, cluster % 4)
    assert [each.name for each in found] == ["near_half", "sharp"]
    assert found[1].minus_length is None
    assert (found[0].auroc.method, np.isnan(found[0].auroc.low)) == ("none", True)
    assert compare_measures(scores, np.zeros(600, dtype=bool)) == []
    assert compare_measures({}, sought) == []


def test_of_very_many_items_a_sample_is_used(monkeypatch):
    monkeypatch.setattr(contested, "MOST", 400)
    scores, sought, cluster = world()
    (_, sharp, _) = compare_measures(scores, sought, cluster, resamples=100)
    assert sharp.auroc.estimate == pytest.approx(auroc(scores["sharp"], sought), abs=0.05)
    assert sharp.auroc.estimate != auroc(scores["sharp"], sought)
