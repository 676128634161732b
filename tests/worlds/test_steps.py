from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from hidden_context.worlds.steps import (
    PROPOSITION_3_3,
    THEOREM_3_4,
    StepUtility,
    borda_counts,
    bradley_terry_utilities,
    preference_probability,
    probability_matrix,
)

TENTH = Fraction(1, 10)


def test_proposition_3_3_expected_utilities() -> None:
    expected = {name: utility.expected() for name, utility in PROPOSITION_3_3.items()}
    assert expected == {"a": 6, "b": Fraction(28, 10), "c": 2}


def test_proposition_3_3_comparisons() -> None:
    a, b, c = PROPOSITION_3_3.values()
    assert preference_probability(a, b) == 6 * TENTH
    assert preference_probability(a, c) == 6 * TENTH
    assert preference_probability(b, c) == 9 * TENTH


def test_proposition_3_3_borda_count_prefers_another_alternative_than_expected_utility() -> None:
    counts = borda_counts(PROPOSITION_3_3)
    assert counts == {"a": Fraction(17, 30), "b": Fraction(3, 5), "c": Fraction(1, 3)}
    assert max(counts, key=lambda name: counts[name]) == "b"


def test_proposition_3_3_preference_learning_follows_the_borda_count() -> None:
    rewards = bradley_terry_utilities(probability_matrix(list(PROPOSITION_3_3.values())))
    assert [int(i) for i in np.argsort(-rewards)] == [1, 0, 2]


def test_theorem_3_4_equal_comparisons_and_opposite_expected_utilities() -> None:
    world, other = THEOREM_3_4
    for first in "ab":
        for second in "ab":
            assert preference_probability(world[first], world[second]) == preference_probability(
                other[first], other[second]
            )
    assert preference_probability(world["a"], world["b"]) == Fraction(1, 2)
    assert world["a"].expected() == other["a"].expected() == 0
    assert world["b"].expected() == 1
    assert other["b"].expected() == -1


def test_an_alternative_ties_with_itself() -> None:
    for utility in PROPOSITION_3_3.values():
        assert preference_probability(utility, utility) == Fraction(1, 2)


def test_preference_learning_orders_random_worlds_by_borda_count() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        p = np.triu(rng.uniform(size=(6, 6)), 1)
        p = p + np.tril(1 - p.T, -1)
        np.fill_diagonal(p, 0.5)
        rewards = bradley_terry_utilities(p, l2=0.01)
        assert np.argsort(rewards).tolist() == np.argsort(p.mean(axis=1)).tolist()


def test_bradley_terry_recovers_the_utilities_behind_its_own_comparisons() -> None:
    utilities = np.array([-1.0, 0.25, 0.75])
    p = 1 / (1 + np.exp(-(utilities[:, None] - utilities[None, :])))
    np.testing.assert_allclose(bradley_terry_utilities(p, l2=1e-9), utilities, atol=1e-5)


@pytest.mark.parametrize(
    ("values", "upper"), [((1, 2), (1,)), ((1, 2), (Fraction(1, 2), Fraction(1, 2))), ((1,), (2,))]
)
def test_malformed_steps_are_refused(values: tuple[int, ...], upper: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="rise to 1"):
        StepUtility(values, upper)
