"""Probabilities of contested votes: against enumeration, simulation and each other."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hidden_context.errors import ConfigError
from hidden_context.statistics.contested_probability import (
    EXACT_UP_TO,
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


def test_two_to_three_of_five_are_contested_and_nothing_else():
    # shares .4 and .6 only: C(5, 2) + C(5, 3) of 32
    assert contested_probability(ANSWERS[:1], [5])[0] == pytest.approx(20 / 32, abs=1e-12)
    # one vote is never between, unless it is "equal", which is unanimous
    assert contested_probability(ANSWERS[1:2], [1])[0] == 0
    # two votes: one each way, or one of them equal gives .75 or .25
    assert contested_probability(ANSWERS[1:2], [2])[0] == pytest.approx(2 * 0.2 * 0.2, abs=1e-12)


def test_voters_who_are_all_alike_are_drawn_at_random():
    votes = np.array([5, 3, 7, 4, 2])
    item = np.random.default_rng(0).permutation(np.repeat(np.arange(5), votes))
    found = contested_probability_of_voters(ANSWERS[item], item, 5)
    np.testing.assert_allclose(found, contested_probability(ANSWERS, votes), atol=1e-12)


def test_voters_of_their_own_are_enumerated():
    generator = np.random.default_rng(1)
    voters = generator.dirichlet(np.ones(3), size=6)
    found = contested_probability_of_voters(voters, np.array([0, 2, 0, 0, 2, 0]), 3)
    expected = [enumerated(voters[[0, 2, 3, 5]]), np.nan, enumerated(voters[[1, 4]])]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    # two camps of two: surely two each way
    camps = np.array([[1.0, 0, 0], [1.0, 0, 0], [0, 0, 1.0], [0, 0, 1.0]])
    assert contested_probability_of_voters(camps, np.zeros(4, dtype=int), 1)[0] == 1
    assert contested_probability_of_voters(np.zeros((0, 3)), [], 2).tolist() == pytest.approx(
        [np.nan, np.nan], nan_ok=True
    )


def test_many_votes_are_normal_to_three_digits():
    row = np.array([[0.45, 0.2, 0.35], [0.6, 0.2, 0.2]])
    exact = contested_probability(row, [EXACT_UP_TO, EXACT_UP_TO])
    generator = np.random.default_rng(2)
    count = EXACT_UP_TO + 1
    for answers, near, found in zip(
        row, exact, contested_probability(row, [count, count]), strict=True
    ):
        first, equal, _ = generator.multinomial(count, answers, size=200_000).T
        share = (first + equal / 2) / count
        simulated = ((share >= 0.35) & (share <= 0.65)).mean()
        assert found == pytest.approx(simulated, abs=0.02)
        assert found == pytest.approx(near, abs=0.03)


def test_what_is_no_distribution_is_refused():
    with pytest.raises(ConfigError, match=r"three probabilities .* not shape \(1, 2\)"):
        contested_probability(np.array([[0.5, 0.5]]), [3])
    with pytest.raises(ConfigError, match="have to sum to 1"):
        contested_probability(np.array([[0.5, 0.5, 0.5]]), [3])
    with pytest.raises(ConfigError, match="1 or more"):
        contested_probability(ANSWERS[:1], [0])
    with pytest.raises(ConfigError, match="an item below 1"):
        contested_probability_of_voters(ANSWERS[:1], [1], 1)
