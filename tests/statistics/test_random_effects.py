"""Posteriors of annotators' tendencies against quadrature, simulation and limits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats
from scipy.special import expit

from hidden_context.errors import ConfigError
from hidden_context.statistics import random_effects as module
from hidden_context.statistics.random_effects import random_effects
from hidden_context.statistics.tilts import Tilt


def coin(votes, probability=0.3):
    """A tilt towards the second of three answers, which a typical person gives so often."""
    typical = np.array([(1 - probability) / 2, probability, (1 - probability) / 2])
    pull = np.tile([0.0, 1.0, 0.0], (votes, 1))
    return Tilt("readiness", np.arange(votes), np.tile(np.log(typical), (votes, 1)), pull)


def simulated(people, each, spread, probability=0.3, seed=0):
    rng = np.random.default_rng(seed)
    truth = expit(np.log(probability / (1 - probability)) + spread * rng.normal(size=people))
    who = np.repeat(np.arange(people), each)
    answer = np.where(rng.random(len(who)) < truth[who], 1, 0)
    return truth, who, answer


def test_learned_spread_and_calibrated_intervals():
    truth, who, answer = simulated(1500, 20, 0.8)
    found = random_effects(coin(len(who)), answer, who, 1500)
    assert found.spread.low < 0.8 < found.spread.high
    assert found.spread.high - found.spread.low < 0.15
    assert found.typical == pytest.approx(0.3, abs=0.02)
    inside = ((found.low <= truth) & (truth <= found.high)).mean()
    assert stats.binomtest(round(inside * 1500), 1500, 0.95).pvalue > 0.001
    half = random_effects(coin(len(who)), answer, who, 1500, level=0.5)
    inside = ((half.low <= truth) & (truth <= half.high)).mean()
    assert stats.binomtest(round(inside * 1500), 1500, 0.5).pvalue > 0.001
    # shrunk towards the typical person, and nearer to the truth than the raw shares
    assert np.square(found.mean - truth).mean() < 0.75 * np.square(found.raw - truth).mean()
    wrong = (found.above & (truth < 0.3)) | (found.below & (truth > 0.3))
    assert found.clear.sum() > 300
    assert wrong.sum() == pytest.approx(found.wrong_sign, abs=4 * np.sqrt(found.wrong_sign))


def test_posterior_against_quadrature_of_one_prior(monkeypatch):
    _, who, answer = simulated(30, 12, 0.6, seed=1)
    one = module._Priors(np.array([0.2]), np.array([0.7]), np.array([1.0]))
    monkeypatch.setattr(module, "_likely_priors", lambda *_: one)
    found = random_effects(coin(len(who)), answer, who, 30)
    ones = np.bincount(who, answer, 30)
    assert found.typical == pytest.approx(expit(np.log(3 / 7) + 0.2), abs=1e-6)
    for person in (0, int(np.argmax(ones)), int(np.argmin(ones))):

        def density(b, count=ones[person]):
            p = expit(np.log(3 / 7) + b)
            return p**count * (1 - p) ** (12 - count) * stats.norm.pdf(b, 0.2, 0.7)

        total = integrate.quad(density, -6, 6)[0]
        mean = integrate.quad(lambda b: expit(np.log(3 / 7) + b) * density(b), -6, 6)[0] / total
        assert found.mean[person] == pytest.approx(mean, abs=1e-5)
        low = np.log(found.low[person] / (1 - found.low[person])) - np.log(3 / 7)
        assert integrate.quad(density, -6, low)[0] / total == pytest.approx(0.025, abs=1e-4)
    assert found.spread.estimate == found.spread.high == pytest.approx(0.7)


def test_people_alike_are_not_told_apart():
    _, who, answer = simulated(300, 20, 0.0, seed=2)
    found = random_effects(coin(len(who)), answer, who, 300)
    assert found.spread.low == 0
    assert found.spread.high < 0.35
    assert found.clear.sum() <= 1
    assert ((found.low < 0.3) & (found.high > 0.3)).all()
    assert found.mean.std() < 0.35 * found.raw.std()


def test_few_people_with_few_votes_are_not_sure_to_be_alike():
    _, who, answer = simulated(6, 5, 0.0, seed=3)
    found = random_effects(coin(len(who)), answer, who, 6)
    assert found.spread.high > 0.8
    assert (found.high - found.low > 0.2).all()


def test_silent_people_have_the_populations_posterior_and_weights_count_like_votes():
    _, who, answer = simulated(40, 15, 0.9, seed=4)
    tilt = coin(len(who))
    found = random_effects(tilt, answer, who, 42)
    assert found.votes[-2:].tolist() == [0, 0]
    assert np.isnan(found.raw[-2:]).all()
    assert found.mean[40] == found.mean[41] == pytest.approx(found.mean[:40].mean(), abs=0.03)
    assert found.low[40] < found.low[:40].min() + 0.1
    twice = random_effects(coin(2 * len(who)), np.tile(answer, 2), np.tile(who, 2), 42)
    weighed = random_effects(tilt, answer, who, 42, weight=np.full(len(who), 2.0))
    np.testing.assert_allclose(weighed.mean, twice.mean, atol=1e-6)
    np.testing.assert_allclose(weighed.high, twice.high, atol=1e-6)


def test_a_person_of_very_many_votes_is_found_where_the_votes_are():
    _, who, answer = simulated(20, 10, 0.5, seed=5)
    many = np.zeros(20_000, dtype=int)
    many[:9000] = 1
    who, answer = np.append(who, np.full(20_000, 20)), np.append(answer, many)
    found = random_effects(coin(len(who)), answer, who, 21)
    assert found.mean[20] == pytest.approx(0.45, abs=0.002)
    # 1.96 √(.45·.55/20000)
    assert found.high[20] - found.low[20] == pytest.approx(2 * 0.0069, rel=0.1)


def test_very_many_people_are_taken_in_blocks(monkeypatch):
    _, who, answer = simulated(90, 12, 0.8, seed=6)
    tilt = coin(len(who))
    whole = random_effects(tilt, answer, who, 90)
    monkeypatch.setattr(module, "_BLOCK", 7)
    blocks = random_effects(tilt, answer, who, 90)
    for name in ("mean", "low", "high", "above"):
        np.testing.assert_allclose(getattr(blocks, name), getattr(whole, name), atol=1e-12)
    monkeypatch.setattr(module, "_MOST_PEOPLE", 60)  # the prior is that of some of them
    some = random_effects(tilt, answer, who, 90)
    assert some.spread.estimate != whole.spread.estimate
    np.testing.assert_allclose(some.mean, whole.mean, atol=0.06)


def test_what_is_refused():
    with pytest.raises(ConfigError, match="nobody is named"):
        random_effects(coin(1), np.array([0]), np.array([0]), 0)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        random_effects(coin(1), np.array([0]), np.array([0]), 1, level=1.0)
