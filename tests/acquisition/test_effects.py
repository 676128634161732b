"""Scores with normal priors: against dense algebra, and against fits without an item's votes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.special import expit

from hidden_context.acquisition.effects import Design, fit_scores


def world(items: int = 60, seed: int = 0):
    generator = np.random.default_rng(seed)
    texts = generator.normal(size=(items, 4))
    effects = np.zeros((items, 6))
    for row in range(items):
        one, other = generator.choice(6, 2, replace=False)
        effects[row, one], effects[row, other] = 1, -1
    truth = texts @ [1.0, -0.5, 0.3, 0.0] + effects @ generator.normal(size=6)
    votes = generator.integers(0, 6, items)
    yes = generator.binomial(votes, expit(truth)).astype(float)
    return texts, effects, yes, votes - yes


PRECISION = np.array([1.0] * 4 + [2.0] * 6)


def dense_fit(rows, yes, no):
    def loss(weights):
        score = rows @ weights
        nats = (yes + no) @ np.logaddexp(0, score) - yes @ score
        return nats + (PRECISION * weights) @ weights / 2

    return minimize(loss, np.zeros(rows.shape[1]), method="BFGS", tol=1e-9)


def test_sums_products_and_variances_are_those_of_a_dense_matrix():
    texts, effects, yes, _ = world()
    design, rows = Design(texts, csr_array(effects)), np.concatenate([texts, effects], axis=1)
    weights = np.arange(10.0)
    np.testing.assert_allclose(design.times(weights), rows @ weights)
    np.testing.assert_allclose(design.sums(yes), rows.T @ yes)
    np.testing.assert_allclose(design.products(yes), rows.T @ (yes[:, None] * rows))
    covariance = np.cov(rows.T) + np.eye(10)
    expected = np.einsum("ia,ab,ib->i", rows, covariance, rows)
    np.testing.assert_allclose(design.variances(covariance), expected)


def test_the_mode_and_the_evidence_are_those_of_a_dense_fit():
    texts, effects, yes, no = world()
    rows = np.concatenate([texts, effects], axis=1)
    found = fit_scores(Design(texts, csr_array(effects)), yes, no, PRECISION)
    best = dense_fit(rows, yes, no)
    np.testing.assert_allclose(found.mean, rows @ best.x, atol=2e-3)
    chance = expit(rows @ best.x)
    curve = rows.T @ (((yes + no) * chance * (1 - chance))[:, None] * rows) + np.diag(PRECISION)
    evidence = -best.fun - (np.linalg.slogdet(curve)[1] - np.log(PRECISION).sum()) / 2
    assert found.evidence == pytest.approx(evidence, abs=3e-3)


def test_scores_without_an_items_own_votes_are_those_of_a_fit_without_them():
    texts, effects, yes, no = world(items=120)
    design = Design(texts, csr_array(effects))
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


def test_an_item_without_votes_is_foretold_as_it_is():
    texts, effects, yes, no = world()
    found = fit_scores(Design(texts, csr_array(effects)), yes, no, PRECISION)
    bare = yes + no == 0
    assert bare.any()
    np.testing.assert_array_equal(found.others[bare], found.mean[bare])


def test_without_any_vote_scores_are_zero_and_as_uncertain_as_the_prior():
    texts, effects, yes, _ = world()
    found = fit_scores(Design(texts, csr_array(effects)), yes * 0, yes * 0, PRECISION)
    np.testing.assert_array_equal(found.mean, 0)
    rows = np.concatenate([texts, effects], axis=1)
    np.testing.assert_allclose(found.others_variance, (rows**2) @ (1 / PRECISION))
    assert found.evidence == pytest.approx(0, abs=1e-9)
