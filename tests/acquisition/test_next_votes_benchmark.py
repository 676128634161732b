"""The benchmark's own arithmetic: how many votes reach an error, and intervals of ratios."""

from __future__ import annotations

import next_votes
import numpy as np
import pytest

FRACTIONS = np.array(next_votes.FRACTIONS)


def test_votes_needed_are_found_between_batches():
    curve = 1 - FRACTIONS
    assert next_votes.votes_needed(curve, 0.5) == pytest.approx(0.5)
    assert next_votes.votes_needed(curve, 0.45) == pytest.approx(0.55)
    assert np.isnan(next_votes.votes_needed(curve, -0.1))
    bumpy = curve.copy()
    bumpy[6] = 0.9  # what was reached before counts
    assert next_votes.votes_needed(bumpy, 0.82) == pytest.approx(0.18)


def test_ratios_of_a_policy_that_needs_half_the_votes_are_a_half_in_every_group():
    items = np.array([10.0, 20.0, 5.0])
    slow = np.stack([np.outer(1 - FRACTIONS, items)] * 2, axis=1)
    fast = np.stack([np.outer(np.maximum(1 - 2 * FRACTIONS, 0), items)] * 2, axis=1)
    found = next_votes.ratios({"random": slow, "fast": fast}, items, "random", 0, draws=50)
    for level in ("0.2", "0.4", "0.6", "0.8"):
        np.testing.assert_allclose(found["random"][level], 1)
        np.testing.assert_allclose(found["fast"][level], 0.5, atol=0.03)


def test_the_largest_values_are_taken_one_by_one():
    left = np.array([2, 1, 3])
    taken = next_votes._largest(lambda step: np.array([5.0, 4.0, 3.0]) - step, left, 4)
    assert taken.tolist() == [2, 1, 1]
