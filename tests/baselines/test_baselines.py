"""Baselines on features: fits, votes and folds."""

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
    contested_auroc,
    fit_baselines,
    fit_linear,
    vote_metrics,
)
from hidden_context.baselines.fit import PENALTIES
from hidden_context.baselines.linear import distinct_rows
from hidden_context.baselines.pairs import group_folds
from hidden_context.errors import ConfigError

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


def reference(pairs: VotedPairs, penalty: float) -> np.ndarray:
    """Weights of scikit-learn's logistic regression."""
    x, votes, share = differences(pairs), pairs.votes, pairs.share
    model = Reference(fit_intercept=False, C=1 / (penalty * votes.sum()), tol=1e-10, max_iter=1000)
    both = np.concatenate([votes * share, votes * (1 - share)])
    model.fit(np.concatenate([x, x]), np.repeat([1, -1], len(x)), sample_weight=both)
    return model.coef_[0]


@pytest.mark.parametrize("penalty", [1.0, 0.01, 1e-4])
def test_regressions_are_scikit_learn_s(penalty):
    pairs = drawn(150, 1)
    found = LogisticRegression(pairs).fit(penalty)
    assert found == pytest.approx(reference(pairs, penalty), abs=1e-5)
    model = Ridge(alpha=penalty * pairs.votes.sum(), fit_intercept=False)
    model = model.fit(differences(pairs), pairs.share - 0.5, sample_weight=pairs.votes)
    assert RidgeRegression(pairs).fit(penalty) == pytest.approx(model.coef_, abs=1e-8)


def test_more_features_than_texts_and_features_that_all_pairs_share():
    """The solution lies in what the texts span, and what does not vary has no weight."""
    random = np.random.default_rng(2)
    pairs = drawn(30, 3, texts=16)
    wide = np.concatenate([random.normal(size=(16, 60)), np.ones((16, 3))], axis=1)
    pairs = dataclasses.replace(pairs, features=wide)
    found = LogisticRegression(pairs).fit(0.1)
    assert found == pytest.approx(reference(pairs, 0.1), abs=1e-5)
    assert found[60:].tolist() == [0, 0, 0]


def test_neither_the_start_nor_the_order_of_penalties_matters():
    """From far away Newton's step goes too far, and is halved."""
    pairs = drawn(80, 4)
    one, other, far = (LogisticRegression(pairs) for _ in range(3))
    far.weights = np.array([-3.0, 3.0, 3.0, -3.0])
    path = [one.fit(penalty) for penalty in (1.0, 1e-4, 0.1)]
    assert far.fit(1e-4) == pytest.approx(path[1], abs=1e-5)
    assert other.fit(0.1) == pytest.approx(path[2], abs=1e-6)


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
    assert distinct_rows(np.diag(direction[::-1]))[1].tolist() == [0, 1]


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
    expected = np.clip(0.5 + differences(test) @ found["ridge"].weights, 0.02, 0.98)
    assert np.exp(found["ridge"].log_prob_first(test)) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["constant", "length", "logistic", "ridge"])
def test_exchanging_sides_exchanges_probabilities(name):
    train, test = drawn(100, 8), drawn(60, 9)
    fit = fit_baselines(train)[name]
    assert fit_baselines(train.swapped())[name].weights == pytest.approx(fit.weights, abs=1e-6)
    first, second = fit.log_probs(test)
    assert np.exp(first) + np.exp(second) == pytest.approx(1)
    assert fit.log_prob_first(test.swapped()) == pytest.approx(second)


def test_votes_are_weights():
    """A pair with three votes is three pairs with one."""
    pairs = drawn(30, 10, votes=3)
    single = dataclasses.replace(pairs.take(np.repeat(np.arange(30), 3)), votes=np.ones(90))
    for regression in (LogisticRegression, RidgeRegression):
        assert regression(single).fit(0.1) == pytest.approx(regression(pairs).fit(0.1), abs=1e-7)


def test_noise_alone_is_penalised_away_and_one_pair_alone_as_much_as_can_be():
    share = np.random.default_rng(11).binomial(5, 0.5, size=2000) / 5
    noise = dataclasses.replace(drawn(2000, 12), share=share)
    fit = fit_linear("logistic", noise)
    assert np.abs(fit.log_prob_first(noise) + math.log(2)).max() < 0.1
    alone = fit_linear("logistic", drawn(1, 13))
    assert (alone.penalty, alone.held_out) == (PENALTIES[0], {})


# ---- pairs and metrics


PAIRS = VotedPairs(
    features=np.array([[1.0], [0.0], [2.0]]),
    lengths=np.array([5.0, 3.0, 9.0]),
    groups=np.array([0, 0, 1]),
    first=np.array([0, 1]),
    second=np.array([1, 2]),
    share=np.array([0.75, 0.0]),
    votes=np.array([4.0, 1.0]),
)


def test_parts_that_do_not_fit_are_refused():
    short = ({n: getattr(PAIRS, n)[:1]} for n in ("lengths", "first", "share", "votes", "features"))
    for change, message in (
        *((change, "do not fit") for change in short),
        ({"votes": np.array([1.0, 0.0])}, "above 0"),
        ({"share": np.array([1.5, 0.0])}, r"in \[0, 1\]"),
    ):
        with pytest.raises(ConfigError, match=message):
            dataclasses.replace(PAIRS, **change)
    with pytest.raises(ConfigError, match="do not fit"):
        PAIRS.take(np.zeros(2, dtype=bool))


WITHIN = np.repeat(np.arange(10), 3)[:, None].repeat(2, 1)
BETWEEN = np.array([(a, b) for a in range(12) for b in range(a)])


@pytest.mark.parametrize("groups", [WITHIN, BETWEEN], ids=["within", "between"])
def test_no_group_is_on_two_sides(groups):
    """Pairs of two groups that a fold parts are on neither side."""
    folds = list(group_folds(groups, 4))
    assert len(folds) == 4
    assert [h.tolist() for _, h in group_folds(groups, 4)] == [h.tolist() for _, h in folds]
    for learn, held_out in folds:
        assert not set(groups[learn].flat) & set(groups[held_out].flat)
        if groups is WITHIN:
            assert np.array_equal(learn, ~held_out)
        else:
            assert (int(learn.sum()), int(held_out.sum())) == (9 * 8 / 2, 3 * 2 / 2)
    if groups is WITHIN:
        assert sum(held_out.astype(int) for _, held_out in folds).tolist() == [1] * 30


def test_few_groups_make_few_folds():
    assert len(list(group_folds(np.array([[0, 0], [1, 1], [1, 1]]), 4))) == 2
    # one group alone: each pair is its own
    assert len(list(group_folds(np.zeros((3, 2), dtype=int), 4))) == 3
    assert list(group_folds(np.zeros((1, 2), dtype=int), 4)) == []
    # one pair between two groups can be divided nowhere
    assert list(group_folds(np.array([[0, 1]]), 4)) == []


def test_metrics_by_hand():
    found = vote_metrics(np.log([0.6, 0.5]), np.log([0.4, 0.5]), PAIRS)
    nats = -(3 * math.log(0.6) + math.log(0.4) + math.log(0.5)) / 5
    assert found["loss"] == pytest.approx(nats)
    assert found["accuracy"] == pytest.approx((3 + 0.5) / 5)
    assert found["brier"] == pytest.approx((4 * 0.15**2 + 0.5**2) / 5)
    assert "contested_auroc" not in found  # one pair alone has two votes
    # a side without votes costs nothing even at probability zero
    certain = vote_metrics(np.array([-math.inf]), np.zeros(1), PAIRS.take(np.array([1])))
    assert certain == {"loss": 0.0, "accuracy": 1.0, "brier": 0.0}


@pytest.mark.parametrize(
    ("share", "votes", "equal", "score", "expected"),
    [
        ([0.5, 0.4, 0.5, 1.0, 0.0], [2, 5, 1, 3, 4], None, [3.0, 1.0, 0.0, 2.0, 0.5], 3 / 4),
        ([0.5], [1], None, [0.0], math.nan),  # one vote says nothing
        # that everybody finds the two equal is agreement: the second alone is contested
        ([0.5, 0.5, 1.0], [4, 4, 4], [1.0, 0.5, 0.0], [2.0, 1.0, 0.0], 1 / 2),
        ([0.5, 1.0], [4, 4], [0.5, 0.0], [1.0, 0.0], 1.0),
    ],
)
def test_contested_pairs_are_told_from_others(share, votes, equal, score, expected):
    values = {"share": np.array(share), "votes": np.array(votes, dtype=float)}
    if equal is not None:
        values["equal"] = np.array(equal)
    many = dataclasses.replace(PAIRS.take(np.zeros(len(share), dtype=int)), **values)
    assert contested_auroc(np.array(score), many) == pytest.approx(expected, nan_ok=True)
    assert (many.take(np.array([0])).equal is None) == (equal is None)
