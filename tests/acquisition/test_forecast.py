"""Scores against dense algebra; shares predicted from other items and repeated responses."""

import dataclasses
import itertools

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.special import expit

from acquisition.votes import pair, table
from check.people import items_of
from hidden_context.acquisition.forecast import Design, _moments, fit_scores, forecast_shares
from hidden_context.acquisition.pool import make_pool
from hidden_context.check.features import word_features
from hidden_context.data.splits.division import SplitOptions
from hidden_context.statistics.checks import places
from hidden_context.statistics.votes.posterior import LEAN, SharePosterior, fit_strength


def world(items: int = 60, seed: int = 0):
    generator = np.random.default_rng(seed)
    texts, effects = generator.normal(size=(items, 4)), np.zeros((items, 6))
    for row in range(items):
        effects[row, generator.choice(6, 2, replace=False)] = 1, -1
    rows = np.concatenate([texts, effects], axis=1)
    truth = texts @ [1.0, -0.5, 0.3, 0.0] + effects @ generator.normal(size=6)
    votes = generator.integers(0, 6, items)
    yes = generator.binomial(votes, expit(truth)).astype(float)
    return Design(texts, csr_array(effects)), rows, yes, votes - yes


PRECISION = np.array([1.0] * 4 + [2.0] * 6)


def test_sums_products_and_variances_are_those_of_a_dense_matrix():
    design, rows, yes, _ = world()
    weights, covariance = np.arange(10.0), np.cov(rows.T) + np.eye(10)
    np.testing.assert_allclose(design.times(weights), rows @ weights)
    np.testing.assert_allclose(design.sums(yes), rows.T @ yes)
    np.testing.assert_allclose(design.products(yes), rows.T @ (yes[:, None] * rows))
    expected = np.einsum("ia,ab,ib->i", rows, covariance, rows)
    np.testing.assert_allclose(design.variances(covariance), expected)


def test_the_mode_and_the_evidence_are_those_of_a_dense_fit():
    design, rows, yes, no = world()
    found = fit_scores(design, yes, no, PRECISION)

    def loss(weights):
        score = rows @ weights
        nats = (yes + no) @ np.logaddexp(0, score) - yes @ score
        return nats + (PRECISION * weights) @ weights / 2

    best = minimize(loss, np.zeros(rows.shape[1]), method="BFGS", tol=1e-9)
    np.testing.assert_allclose(found.mean, rows @ best.x, atol=2e-3)
    chance = expit(rows @ best.x)
    curve = rows.T @ (((yes + no) * chance * (1 - chance))[:, None] * rows) + np.diag(PRECISION)
    evidence = -best.fun - (np.linalg.slogdet(curve)[1] - np.log(PRECISION).sum()) / 2
    assert found.evidence == pytest.approx(evidence, abs=3e-3)
    bare = yes + no == 0  # an item without votes is predicted as it is
    np.testing.assert_array_equal(found.others[bare], found.mean[bare])


def test_scores_without_an_items_own_votes_are_those_of_a_fit_without_them():
    design, _, yes, no = world(items=120)
    whole = fit_scores(design, yes, no, PRECISION)
    off, moved = [], []
    for item in range(0, 120, 10):
        rest = np.arange(120) != item
        without = fit_scores(design, yes * rest, no * rest, PRECISION)
        off.append(whole.others[item] - without.mean[item])
        moved.append(whole.mean[item] - without.mean[item])
        spread = without.others_variance[item]
        assert whole.others_variance[item] == pytest.approx(spread, rel=0.1)
    assert np.abs(off).max() < 0.05
    assert np.abs(moved).max() > 0.15  # its own votes do move it


def test_without_any_vote_scores_are_zero_and_as_uncertain_as_the_prior():
    design, rows, yes, _ = world()
    found = fit_scores(design, yes * 0, yes * 0, PRECISION)
    np.testing.assert_array_equal(found.mean, 0)
    np.testing.assert_allclose(found.others_variance, (rows**2) @ (1 / PRECISION))
    assert found.evidence == pytest.approx(0, abs=1e-9)


def forecast_of(items):
    return forecast_shares(items, word_features(items))


def tournament(count: int = 12, votes: int = 4, seed: int = 0, ties: bool = True):
    """Responses of known strength in many pairs; texts say nothing of it."""
    generator = np.random.default_rng(seed)
    strength, rows, truth = np.linspace(-2, 2, count), [], []
    for pair_ in itertools.combinations(range(count), 2):
        first, second = pair_ if generator.random() < 0.5 else pair_[::-1]
        truth.append(expit(strength[first] - strength[second]))
        tied = generator.random(votes) < 0.2 * ties
        said = np.where(tied, 0.5, generator.random(votes) < truth[-1])
        rows.append(pair(len(rows), said, responses=[f"r{first}", f"r{second}"], prompt="same?"))
    return rows, np.array(truth)


def test_responses_that_come_again_predict_pairs_they_are_in_as_well_as_expected():
    rows, truth = tournament()
    found = forecast_of(items_of(rows, "topic"))
    lean = found.shares @ [1, 0.5, 0]
    assert np.corrcoef(lean, 0.8 * truth + 0.1)[0, 1] > 0.93
    assert np.abs(lean - 0.8 * truth - 0.1).mean() < 0.07
    np.testing.assert_allclose(found.shares[:, 1].mean(), 0.2, atol=0.04)
    np.testing.assert_allclose(found.shares.sum(1), 1)
    rows, truth = tournament(count=24, votes=2, seed=3)
    found = forecast_of(items_of(rows, "topic"))
    shares = np.stack([0.8 * truth, np.full_like(truth, 0.2), 0.8 * (1 - truth)], axis=1)
    error = ((found.shares - shares) ** 2).sum(1).mean()
    assert error == pytest.approx(found.variance.mean(), rel=0.5)


def test_nothing_changes_where_the_sides_change_places():
    items = items_of(tournament()[0], "topic")
    table_ = items.votes.table
    votes = dataclasses.replace(
        items.votes, table=dataclasses.replace(table_, share=1 - table_.share)
    )
    other = dataclasses.replace(items, first=items.second, second=items.first, votes=votes)
    one, two = forecast_of(items), forecast_of(other)
    np.testing.assert_allclose(two.shares[:, ::-1], one.shares, atol=1e-6)
    np.testing.assert_allclose(two.variance, one.variance, atol=1e-6)
    assert one.sizes == two.sizes


def test_an_items_own_votes_do_not_move_its_forecast_much():
    rows, _ = tournament()
    items = items_of(rows, "topic")
    sizes = forecast_of(items).sizes
    found = forecast_shares(items, word_features(items), sizes)
    for said in rows[10]["judgements"]:
        said["preference"] = 1 - said["preference"]
    other = items_of(rows, "topic")
    moved = np.abs(forecast_shares(other, word_features(other), sizes).shares - found.shares)
    assert moved[10].max() < 0.03
    assert moved.max() > moved[10].max()  # others learn from them


def test_texts_predict_items_without_votes():
    items = items_of(table(120), "topic")
    lean = forecast_of(items).shares @ [1, 0.5, 0]
    good = np.arange(len(items)) % 2 == 0
    assert lean[good].min() > 0.5 > lean[~good].max()


def test_without_ties_nobody_is_predicted_to_say_equal():
    found = forecast_of(items_of(tournament(ties=False)[0], "topic"))
    assert found.shares[:, 1].max() <= 1.1e-4


def test_moments_of_a_probability_are_those_of_draws():
    mean, variance = np.array([0.0, 1.5, -3.0]), np.array([1.0, 0.4, 2.0])
    draws = expit(mean + np.sqrt(variance) * np.random.default_rng(0).normal(size=(400_000, 3)))
    found = _moments(mean, variance)
    np.testing.assert_allclose(found[0], draws.mean(0), atol=2e-3)
    np.testing.assert_allclose(found[1], draws.var(0), atol=2e-3)


TOPICS = ("Ban Plastic Water Bottles", "Is porn wrong?")


@pytest.fixture(scope="module")
def real_votes(real_data):
    """Items of two topics; which of an item's votes each vote is, in random order."""
    from people.data import load

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


@pytest.mark.real_data
@pytest.mark.slow
def test_on_real_votes_the_error_that_is_expected_is_the_error_there_is(real_votes):
    items, place = real_votes
    found = posterior_of(items, place >= 2)
    answers = np.eye(3)[items.votes.table.answer]
    # two votes that were not seen: the product of their errors has no noise of votes in it
    off = [found.estimate - answers[place == number] for number in (0, 1)]
    shares = (off[0] * off[1]).sum(1).mean()
    lean = ((off[0] @ LEAN) * (off[1] @ LEAN)).mean()
    assert found.expected_error("shares").mean() == pytest.approx(shares, rel=0.5)
    assert found.expected_error("lean").mean() == pytest.approx(lean, abs=0.004)
