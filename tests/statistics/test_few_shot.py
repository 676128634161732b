"""New annotators after a few votes: who is shown what, and a curve that is known."""

import math

import numpy as np
import pytest

from hidden_context.statistics.evaluation.new_annotators import few_shot_curve


class Coins:
    """Annotators who say yes with a probability of their own, which votes shown reveal.

    The loss is that of the posterior mean of a Beta(1, 1) prior, so that its expectation after k
    votes is known.
    """

    def __init__(self, people=60, groups=40, seed=0):
        generator = np.random.default_rng(seed)
        self.annotator = np.repeat(np.arange(people), groups)
        self.group = np.tile(np.arange(groups), people)
        yes = generator.beta(1, 1, size=people)
        self.said = generator.random(people * groups) < yes[self.annotator]
        self.shown = []

    def losses(self, shown):
        self.shown.append(shown)
        size = self.annotator.max() + 1
        seen = np.bincount(self.annotator[shown], minlength=size)
        yes = np.bincount(self.annotator[shown], weights=self.said[shown], minlength=size)
        p = ((yes + 1) / (seen + 2))[self.annotator]
        return -np.log(np.where(self.said, p, 1 - p))


def expected_loss(count):
    """Expected loss after k votes: entropy of the posterior mean, averaged over what was seen."""
    means = (np.arange(count + 1) + 1) / (count + 2)  # all numbers of yes are equally likely
    return float(np.mean(-means * np.log(means) - (1 - means) * np.log(1 - means)))


def test_the_curve_falls_as_it_has_to_and_too_few_annotators_make_no_point():
    coins = Coins(people=300)
    found = few_shot_curve(coins.losses, coins.annotator, coins.group)
    assert [point.shown for point in found] == [5, 10, 20]
    for point in found:
        assert point.before == pytest.approx(math.log(2))
        assert point.after == pytest.approx(expected_loss(point.shown), abs=0.02)
        assert point.difference.estimate == pytest.approx(point.after - point.before)
        assert point.difference.high < 0
        assert (point.annotators, point.votes) == (300, 12_000)
    for who in (np.where(coins.annotator < 4, coins.annotator, -1), np.full(12_000, -1)):
        assert few_shot_curve(coins.losses, who, coins.group) == []


def test_votes_shown_and_predicted_are_of_different_groups():
    coins = Coins()
    few_shot_curve(coins.losses, coins.annotator, coins.group, shown=[7])
    nothing, first, second = coins.shown
    assert not nothing.any()
    for shown in (first, second):
        assert (np.bincount(coins.annotator[shown]) == 7).all()
    assert not set(coins.group[first]) & set(coins.group[second])


def test_only_those_who_have_as_many_votes_are_shown():
    coins = Coins(people=20)
    kept = (coins.annotator < 10) | (coins.group < 8)  # ten have too few for k = 10
    for name in ("annotator", "group", "said"):
        setattr(coins, name, getattr(coins, name)[kept])
    five, ten = few_shot_curve(coins.losses, coins.annotator, coins.group, shown=[2, 10])
    assert five.annotators > 10
    assert ten.annotators == 10
    # votes of nobody are neither shown nor predicted
    nobody = np.where(coins.annotator < 6, coins.annotator, -1)
    coins.shown.clear()
    (point,) = few_shot_curve(coins.losses, nobody, coins.group, shown=[10])
    assert point.annotators == 6
    assert not any(shown[nobody < 0].any() for shown in coins.shown)
