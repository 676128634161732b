from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression as Reference
from sklearn.linear_model import Ridge

from hidden_context.baselines import (
    LogisticRegression,
    RidgeRegression,
    VotedPairs,
    fit_baselines,
    fit_linear,
)
from hidden_context.baselines.fit import PENALTIES
from hidden_context.baselines.linear import distinct_rows

WEIGHTS = np.array([1.2, -0.7, 0.0, 0.4])


def drawn(count: int, seed: int, votes: int = 5, texts: int = 40, groups: int = 8) -> VotedPairs:
    """Pairs of texts of one group each, whose votes follow a linear reward."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(texts, 4))
    group = np.arange(texts) % groups
    first = random.integers(texts, size=count)
    second = (first + groups * random.integers(1, texts // groups, size=count)) % texts
    lead = (features[first] - features[second]) @ WEIGHTS
    share = random.binomial(votes, 1 / (1 + np.exp(-lead))) / votes
    lengths = np.round(50 + 10 * features[:, 0])
    return VotedPairs(features, lengths, group, first, second, share, np.full(count, float(votes)))


def differences(pairs: VotedPairs) -> np.ndarray:
    return pairs.features[pairs.first] - pairs.features[pairs.second]


@pytest.mark.parametrize("penalty", [1.0, 0.01, 1e-4])
def test_logistic_regression_is_scikit_learn_s(penalty):
    pairs = drawn(150, 1)
    x, votes, share = differences(pairs), pairs.votes, pairs.share
    model = Reference(fit_intercept=False, C=1 / (penalty * votes.sum()), tol=1e-10, max_iter=1000)
    both = np.concatenate([votes * share, votes * (1 - share)])
    model.fit(np.concatenate([x, x]), np.repeat([1, -1], len(x)), sample_weight=both)
    found = LogisticRegression(pairs).fit(penalty)
    assert found == pytest.approx(model.coef_[0], abs=1e-5)


@pytest.mark.parametrize("penalty", [1.0, 0.01])
def test_ridge_regression_is_scikit_learn_s(penalty):
    pairs = drawn(150, 1)
    model = Ridge(alpha=penalty * pairs.votes.sum(), fit_intercept=False)
    model.fit(differences(pairs), pairs.share - 0.5, sample_weight=pairs.votes)
    assert RidgeRegression(pairs).fit(penalty) == pytest.approx(model.coef_, abs=1e-8)


def test_more_features_than_texts_and_features_that_all_pairs_share():
    """The solution lies in what the texts span, and what does not vary has no weight."""
    random = np.random.default_rng(2)
    pairs = drawn(30, 3, texts=16)
    wide = np.concatenate([random.normal(size=(16, 60)), np.ones((16, 3))], axis=1)
    pairs = dataclasses.replace(pairs, features=wide)
    x = differences(pairs)
    model = Reference(fit_intercept=False, C=1 / (0.1 * pairs.votes.sum()), tol=1e-10, max_iter=999)
    both = np.concatenate([pairs.votes * pairs.share, pairs.votes * (1 - pairs.share)])
    model.fit(np.concatenate([x, x]), np.repeat([1, -1], len(x)), sample_weight=both)
    found = LogisticRegression(pairs).fit(0.1)
    assert found == pytest.approx(model.coef_[0], abs=1e-5)
    assert found[60:].tolist() == [0, 0, 0]


def test_penalties_may_come_in_any_order():
    pairs = drawn(80, 4)
    one, other = LogisticRegression(pairs), LogisticRegression(pairs)
    path = [one.fit(penalty) for penalty in (1.0, 1e-3, 0.1)]
    assert other.fit(0.1) == pytest.approx(path[-1], abs=1e-6)


def test_the_start_does_not_matter():
    """From far away Newton's step goes too far, and is halved."""
    pairs = drawn(80, 4)
    near, far = LogisticRegression(pairs), LogisticRegression(pairs)
    far.weights = np.array([-3.0, 3.0, 3.0, -3.0])
    assert far.fit(1e-4) == pytest.approx(near.fit(1e-4), abs=1e-5)


def test_separable_votes_have_finite_weights():
    pairs = drawn(40, 5)
    lead = differences(pairs) @ WEIGHTS
    pairs = dataclasses.replace(pairs, share=(lead > 0).astype(float))
    found = LogisticRegression(pairs).fit(1e-5)
    assert np.isfinite(found).all()
    assert (np.sign(differences(pairs) @ found) == np.sign(lead)).all()


def test_texts_that_come_again_are_found():
    features = np.random.default_rng(1).normal(size=(5, 3))[[0, 1, 0, 2, 1]]
    rows, place = distinct_rows(features)
    assert len(rows) == 3
    assert np.array_equal(features[rows][place], features)
    # rows that one number confuses stay apart
    direction = np.sqrt(np.linspace(1, 2, 2))
    confused = np.array([[direction[1], 0.0], [0.0, direction[0]]])
    rows, place = distinct_rows(confused)
    assert place.tolist() == [0, 1]


def test_baselines_know_what_they_should():
    train, test = drawn(400, 6), drawn(400, 7)
    found = fit_baselines(train)
    assert list(found) == ["constant", "length", "logistic", "ridge"]
    assert found["constant"].log_prob_first(test) == pytest.approx(-math.log(2))
    # votes follow the first feature, of which length is ten times as much
    assert 0.05 < found["length"].weights[0] < 0.2
    assert found["logistic"].weights == pytest.approx(WEIGHTS, abs=0.15)
    assert found["logistic"].penalty in PENALTIES
    losses = found["logistic"].held_out
    assert min(losses, key=losses.get) == found["logistic"].penalty
    assert len(losses) <= len(PENALTIES)
    lean = differences(test) @ found["ridge"].weights
    expected = np.clip(0.5 + lean, 0.02, 0.98)
    assert np.exp(found["ridge"].log_prob_first(test)) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["constant", "length", "logistic", "ridge"])
def test_exchanging_sides_exchanges_probabilities(name):
    train, test = drawn(100, 8), drawn(60, 9)
    fit = fit_baselines(train)[name]
    again = fit_baselines(train.swapped())[name]
    assert again.weights == pytest.approx(fit.weights, abs=1e-6)
    first, second = fit.log_probs(test)
    assert np.exp(first) + np.exp(second) == pytest.approx(1)
    assert fit.log_prob_first(test.swapped()) == pytest.approx(second)


def test_votes_are_weights():
    """A pair with three votes is three pairs with one."""
    pairs = drawn(30, 10, votes=3)
    one = pairs.take(np.repeat(np.arange(30), 3))
    single = dataclasses.replace(one, votes=np.ones(90))
    for regression in (LogisticRegression, RidgeRegression):
        assert regression(single).fit(0.1) == pytest.approx(regression(pairs).fit(0.1), abs=1e-7)


def test_noise_alone_is_penalised_away():
    random = np.random.default_rng(11)
    pairs = drawn(2000, 12)
    noise = dataclasses.replace(pairs, share=random.binomial(5, 0.5, size=2000) / 5)
    fit = fit_linear("logistic", noise)
    assert np.abs(fit.log_prob_first(noise) + math.log(2)).max() < 0.1


def test_one_pair_alone_has_the_strongest_penalty():
    pairs = drawn(1, 13)
    fit = fit_linear("logistic", pairs)
    assert (fit.penalty, fit.held_out) == (PENALTIES[0], {})
