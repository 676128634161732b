"""Posteriors of shares: closed forms against enumeration of every way the votes can come out."""

import itertools

import numpy as np
import pytest
from scipy import stats

from hidden_context.errors import ConfigError
from hidden_context.statistics.votes import posterior as module

PRIOR = np.array([[0.5, 0.2, 0.3], [0.1, 0.1, 0.8], [1 / 3, 1 / 3, 1 / 3]])
STRENGTH = np.array([4.0, 12.5, 0.7])
COUNTS = np.array([[2.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 3.0, 0.0]])
PLANNED = np.array([5.0, 3.0, 7.0])
ALPHA = STRENGTH[:, None] * PRIOR + COUNTS


def posterior(planned: np.ndarray | None = None) -> module.SharePosterior:
    return module.SharePosterior(PRIOR, STRENGTH, COUNTS, planned)


def sequences(alpha: np.ndarray, votes: int) -> list[tuple[float, np.ndarray]]:
    """Every sequence of answers with its probability (Pólya's urn), as counts."""
    found = []
    for answers in itertools.product(range(3), repeat=votes):
        known, chance = alpha.copy(), 1.0
        for answer in answers:
            chance *= known[answer] / known.sum()
            known[answer] += 1
        found.append((chance, known - alpha))
    return found


def variance(alpha: np.ndarray, lean: bool) -> float:
    """Variance of Dirichlet shares, summed, or of the lean, from the covariance matrix."""
    shares = alpha / alpha.sum()
    covariance = (np.diag(shares) - np.outer(shares, shares)) / (alpha.sum() + 1)
    return float(module.LEAN @ covariance @ module.LEAN if lean else np.trace(covariance))


@pytest.mark.parametrize("aim", ["shares", "lean"])
@pytest.mark.parametrize("more", [0, 1, 2, 3])
def test_the_expected_error_is_that_of_every_way_votes_can_come_out(aim, more):
    found = posterior().expected_error(aim, more)
    for item, alpha in enumerate(ALPHA):
        ways = sequences(alpha, more)
        assert sum(chance for chance, _ in ways) == pytest.approx(1)
        expected = sum(chance * variance(alpha + new, aim == "lean") for chance, new in ways)
        assert found[item] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("aim", ["shares", "lean"])
@pytest.mark.parametrize("more", [0, 1, 2])
def test_the_error_of_planned_votes_is_that_of_every_way_they_can_come_out(aim, more):
    found = posterior(PLANNED).expected_error(aim, more)
    for item, alpha in enumerate(ALPHA):
        rest = int(PLANNED[item] - COUNTS[item].sum())
        expected = 0.0
        for chance, new in sequences(alpha, more):
            now = alpha + new
            estimate = COUNTS[item] + new + (rest - more) * now / now.sum()
            for later, last in sequences(now, rest - more):
                off = (estimate - (COUNTS[item] + new + last)) / PLANNED[item]
                error = off @ module.LEAN if aim == "lean" else off
                expected += chance * later * np.square(error).sum()
        assert found[item] == pytest.approx(expected, rel=1e-10)


def test_no_error_is_left_once_all_planned_votes_are_in():
    rest = PLANNED - COUNTS.sum(1)
    np.testing.assert_array_equal(posterior(PLANNED).expected_error("shares", rest), 0)
    full = module.SharePosterior(PRIOR, STRENGTH, COUNTS, COUNTS.sum(1) + (COUNTS.sum(1) == 0))
    np.testing.assert_allclose(full.estimate[0], [2 / 3, 0, 1 / 3])
    np.testing.assert_array_equal(posterior().estimate, posterior().mean)


@pytest.mark.parametrize(
    ("aim", "planned"),
    [("shares", None), ("lean", None), ("contested", None), ("shares", PLANNED), ("lean", PLANNED)],
)
def test_each_vote_is_worth_less_than_the_one_before_and_together_they_are_the_whole(aim, planned):
    most = 3 if planned is not None else 6
    found = posterior(planned)
    drops = found.drops(aim, most)
    assert (np.diff(drops, axis=0) <= 1e-15).all()
    whole = found.expected_error(aim) - found.expected_error(aim, most)
    np.testing.assert_allclose(drops.sum(0), whole, rtol=1e-6)
    assert (drops[0] > 0).all()


@pytest.mark.parametrize("aim", ["shares", "lean", "contested"])
def test_nothing_changes_where_the_sides_change_places(aim):
    other = module.SharePosterior(PRIOR[:, ::-1], STRENGTH, COUNTS[:, ::-1])
    np.testing.assert_allclose(other.drops(aim, 4), posterior().drops(aim, 4), rtol=1e-9)
    np.testing.assert_allclose(other.mean[:, ::-1], posterior().mean)


def test_the_chance_of_being_contested_is_the_betas_without_equal_and_near_it_with_equal():
    generator = np.random.default_rng(1)
    alpha = np.array([[3.0, 1e-9, 5.0], [20.0, 1e-9, 20.0]])
    expected = [stats.beta.cdf(0.65, a, b) - stats.beta.cdf(0.35, a, b) for a, _, b in alpha]
    np.testing.assert_allclose(module.chance_contested(alpha), expected, rtol=1e-6)
    alpha = np.array([[3.0, 2.0, 4.0], [8.0, 6.0, 2.0], [0.8, 0.5, 0.9]])
    draws = np.array([generator.dirichlet(a, 200_000) @ module.LEAN for a in alpha])
    shares = ((draws >= 0.35) & (draws <= 0.65)).mean(1)
    np.testing.assert_allclose(module.chance_contested(alpha), shares, atol=0.025)


def test_doubt_two_votes_ahead_is_doubt_one_vote_ahead_of_the_next():
    found = posterior().expected_error("contested", 2)
    for item, alpha in enumerate(ALPHA):
        expected = 0.0
        for answer in range(3):
            after = (COUNTS[item] + np.eye(3)[answer])[None]
            one = module.SharePosterior(PRIOR[[item]], STRENGTH[[item]], after)
            expected += alpha[answer] / alpha.sum() * one.expected_error("contested", 1)[0]
        assert found[item] == pytest.approx(expected, rel=1e-10)


def test_the_strength_of_a_forecast_is_found_again():
    generator = np.random.default_rng(2)
    prior = generator.dirichlet([3, 2, 3], 6000) * 0.97 + 0.01
    shares = np.array([generator.dirichlet(8 * p) for p in prior])
    counts = np.array([generator.multinomial(5, s) for s in shares], dtype=float)
    strength, own = module.fit_strength(prior, np.zeros(len(prior)), counts)
    assert 6.5 < strength < 10
    np.testing.assert_allclose(own, strength)


def test_the_strength_is_the_usual_one_without_two_votes_and_less_where_forecasts_are_unsure():
    prior = np.tile([0.5, 0.2, 0.3], (9, 1))
    assert module.fit_strength(prior, np.zeros(9), np.eye(3)[[0, 1, 2] * 3])[0] == 16.0
    strength, own = module.fit_strength(prior[:2], np.array([0.0, 0.05]), np.zeros((2, 3)))
    spread = 0.62
    assert own[0] == pytest.approx(strength)
    assert own[1] == pytest.approx(spread / (spread / (strength + 1) + 0.05) - 1)
    alpha, counts = np.array([[1.5, 0.5, 2.0]]), np.array([[2, 1, 0]])
    expected = stats.dirichlet_multinomial.logpmf(counts[0], alpha[0], 3) - np.log(3)  # 3 orders
    assert module.log_chance(alpha, counts) == pytest.approx(expected)


def test_whether_items_are_contested_is_not_asked_of_a_plan_or_too_far_ahead():
    with pytest.raises(ConfigError, match="no planned votes"):
        posterior(PLANNED).expected_error("contested")
    with pytest.raises(ConfigError, match="0 to 8 votes"):
        posterior().expected_error("contested", 9)
    assert posterior().drops("contested", 20).shape == (8, 3)
