"""Losses, floors and observed disagreement of votes: closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hidden_context.errors import ConfigError
from hidden_context.statistics.vote_losses import (
    entropy_floor,
    three_way_losses,
    two_way_losses,
    vote_brier,
)
from hidden_context.statistics.votes import Counts


def logs(*rows):
    with np.errstate(divide="ignore"):
        return np.log(np.array(rows, dtype=np.float64))


def test_equal_is_half_a_vote_each_way_or_an_answer_of_its_own():
    log_probs = logs([0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.5, 0.3, 0.2])
    share = np.array([1.0, 0.5, 0.0, 0.75])
    two, half = -math.log(0.65), -(math.log(0.65) + math.log(0.35)) / 2
    np.testing.assert_allclose(
        two_way_losses(log_probs, share),
        [two, half, -math.log(0.35), -0.75 * math.log(0.65) - 0.25 * math.log(0.35)],
    )
    np.testing.assert_allclose(
        three_way_losses(log_probs, share),
        [*(-math.log(p) for p in (0.5, 0.3, 0.2)), -0.75 * math.log(0.5) - 0.25 * math.log(0.2)],
    )


def test_an_answer_that_a_model_does_not_have_costs_nothing_until_it_is_given():
    log_probs = logs([0.7, 0.0, 0.3], [1.0, 0.0, 0.0])
    found = two_way_losses(log_probs, np.array([1.0, 1.0]))
    np.testing.assert_allclose(found, [-math.log(0.7), 0.0])
    found = three_way_losses(log_probs, np.array([0.5, 1.0]))
    assert found.tolist() == [math.inf, 0.0]


def test_the_floor_is_the_least_mean_loss_of_a_prediction_alike_for_all_voters():
    counts = np.array([[3.0, 1, 1], [5, 0, 0], [0, 4, 0], [0, 0, 0]])
    two, three = entropy_floor(Counts(counts, np.zeros_like(counts)))
    # all equal is half each way
    assert two[1:] == pytest.approx([0.0, math.log(2), np.nan], nan_ok=True)
    assert three[1:] == pytest.approx([0.0, 0.0, np.nan], nan_ok=True)
    # item 0 by hand, and no other prediction is better
    assert three[0] == pytest.approx(-0.6 * math.log(0.6) - 0.4 * math.log(0.2))
    share = np.array([1, 1, 1, 0.5, 0])
    best = logs(*[[0.6, 0.2, 0.2]] * 5)
    assert two_way_losses(best, share).mean() == pytest.approx(two[0])
    assert three_way_losses(best, share).mean() == pytest.approx(three[0])
    for other in np.random.default_rng(0).dirichlet(np.ones(3), size=50):
        assert two_way_losses(logs(*[other] * 5), share).mean() >= two[0]
        assert three_way_losses(logs(*[other] * 5), share).mean() >= three[0]


def test_brier_is_a_squared_distance():
    assert vote_brier([0.5, 1.0], [0.75, 0.0]).tolist() == [0.0625, 1.0]


def test_what_is_out_of_range_is_refused():
    with pytest.raises(ConfigError, match=r"got shapes \(1, 2\) and \(1,\)"):
        two_way_losses(np.zeros((1, 2)), np.ones(1))
    with pytest.raises(ConfigError, match="votes must lie"):
        three_way_losses(np.zeros((1, 3)), np.array([1.5]))
    with pytest.raises(ConfigError, match="probabilities must lie"):
        vote_brier([1.5], [1.0])
    with pytest.raises(ConfigError, match="shares must lie"):
        vote_brier([0.5], [-1.0])
