"""What a model expects of annotators, alone and after a few votes: closed forms and simulation."""

import math

import numpy as np
import pytest
import torch
from scipy import special

from hidden_context import heads
from hidden_context.likelihood import Labels, LikelihoodOptions, make_likelihood
from hidden_context.statistics.evaluation import expected_answers as module
from hidden_context.statistics.evaluation.new_annotators import few_shot_curve

TIES = LikelihoodOptions(levels=3)
KINDS = [
    ("base", {}),
    ("mean_and_variance", {"likelihood": "logistic"}),
    ("categorical", {}),
    ("mixture", {}),
    ("quantile", {}),
    ("factor", {"num_factors": 2}),
]


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def labels(count):
    return Labels.of_pairs(torch.ones(count, dtype=torch.float64))


def raw_of(head, count=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2 * count, head.num_outputs, generator=generator, dtype=torch.float64)


def factors(gap, loadings, noise):
    """Raw outputs of one pair of a factor head, and noise √2 · ``noise``."""
    before = math.log(math.expm1(noise))
    rows = [[gap, *loadings, before], [0.0, *(0.0 for _ in loadings), before]]
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("options", [None, TIES])
@pytest.mark.parametrize(("name", "given"), KINDS)
def test_what_one_person_varies_by_and_conflict_are_all_there_is(name, given, options):
    head = heads.make(name, **given)
    likelihood, raw = make_likelihood(head, options), raw_of(head)
    found = module.expected_answers(likelihood, raw, labels(6))
    said = likelihood.predict(raw, labels(6))
    share = found.probability
    total = found.same_person + found.conflict + found.ignorance
    np.testing.assert_allclose(share * (1 - share), total, atol=1e-12)
    np.testing.assert_allclose(found.mean.sum(-1), 1, atol=1e-12)
    np.testing.assert_allclose(found.disagreement, 1 - found.mean.square().sum(-1), atol=1e-12)
    assert bool((found.conflict > 0).all()) == found.has_context == (name == "factor")
    assert found.ignorance.tolist() == [0.0] * 6
    assert bool((found.mean[:, 1] > 0).all()) == (options is not None)
    # averages are those that the likelihood predicts
    np.testing.assert_allclose(found.mean[:, 0], said.forward.exp(), atol=2e-6)
    np.testing.assert_allclose(found.mean[:, 2], said.backward.exp(), atol=2e-6)


@pytest.mark.parametrize("loading", [0.0, 0.5, 4.0, 30.0])
@pytest.mark.parametrize("gap", [0.0, 0.7, -2.0, 30.0])
def test_conflict_has_a_closed_form_in_owens_t(gap, loading):
    noise = 1 / math.sqrt(2)
    likelihood = make_likelihood(heads.make("factor", num_factors=1))
    found = module.expected_answers(likelihood, factors(gap, [loading], noise), labels(1))
    scale = math.hypot(loading, 1.0)
    height, correlation = gap / scale, (loading / scale) ** 2
    mean = special.ndtr(height)
    both = mean - 2 * special.owens_t(
        height, math.sqrt((1 - correlation) / (1 + correlation))
    )  # P of two draws of one annotator, both for the first response
    assert found.probability.item() == pytest.approx(mean, abs=1e-12)
    assert found.conflict.item() == pytest.approx(both - mean**2, abs=1e-9)
    assert found.same_person.item() == pytest.approx(mean - both, abs=1e-9)


@pytest.mark.parametrize("threshold", [0.1, 0.8, 3.0])
@pytest.mark.parametrize("loadings", [(1.5,), (0.9, -1.2)])  # of the same length
def test_with_ties_conflict_is_that_of_a_quadrature(threshold, loadings):
    likelihood = make_likelihood(heads.make("factor", num_factors=len(loadings)), TIES)
    likelihood.outcomes.raw_gaps.fill_(math.log(math.expm1(threshold)))
    found = module.expected_answers(likelihood, factors(0.7, loadings, 0.6), labels(1))
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    above, below = (
        special.ndtr((0.7 + 1.5 * nodes - edge) / (0.6 * math.sqrt(2)))
        for edge in (threshold, -threshold)
    )
    answers = torch.from_numpy(np.stack([above, below - above, 1 - below], -1)[None])
    expected = module.spread_of(answers, torch.from_numpy(weights / weights.sum()))
    for name in ("mean", "disagreement", "conflict", "same_person"):
        np.testing.assert_allclose(
            getattr(found, name), getattr(expected, name), atol=2e-7, err_msg=name
        )


def test_members_of_an_ensemble_are_averaged_and_differ_by_ignorance():
    member = heads.make("factor", num_factors=1)
    head = heads.make("ensemble", member=member, num_members=2)
    raws = [factors(1.0, [2.0], 0.5), factors(-0.5, [0.3], 0.5)]
    found = module.expected_answers(make_likelihood(head), torch.cat(raws, -1), labels(1))
    each = [module.expected_answers(make_likelihood(member), raw, labels(1)) for raw in raws]
    for name in ("probability", "conflict", "disagreement"):
        mean = np.mean([getattr(part, name).item() for part in each])
        assert getattr(found, name).item() == pytest.approx(mean)
    share = found.probability
    assert found.ignorance.item() == pytest.approx(np.var([p.probability.item() for p in each]))
    total = found.same_person + found.conflict + found.ignorance
    assert total.item() == pytest.approx((share * (1 - share)).item())
    assert found.has_context


def test_people_who_are_known_take_the_nodes_place():
    answers = torch.tensor([[[1.0, 0, 0], [0, 0, 1.0]], [[0.5, 0, 0.5], [0.5, 0, 0.5]]])
    found = module.spread_of(answers, torch.tensor([0.5, 0.5]))
    assert found.disagreement.tolist() == [0.5, 0.5]
    assert found.conflict.tolist() == [0.25, 0.0]
    assert found.same_person.tolist() == [0.0, 0.25]
    assert module.two_way(torch.tensor([0.2, 0.5, 0.3])).item() == pytest.approx(0.45)


def test_habits_are_what_annotators_differ_in_too():
    options = LikelihoodOptions(
        levels=3, inference="variational", taste=False, habits=("sharpness",), names=("ann", "bob")
    )
    likelihood = make_likelihood(heads.make("mean_and_variance"), options)
    raw = torch.tensor([[2.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    found = module.expected_answers(likelihood, raw, labels(1))
    said = likelihood.outcome_log_probs(raw, labels(1)).exp()
    np.testing.assert_allclose(found.mean, said, atol=1e-6)
    assert found.has_context
    assert 0 < found.conflict.item() < 0.05
    share = found.probability
    np.testing.assert_allclose(share * (1 - share), found.conflict + found.same_person, atol=1e-6)


def test_the_prior_of_the_annotators_is_what_is_averaged_over():
    head = heads.make("factor", num_factors=1)
    options = LikelihoodOptions(inference="map", names=("ann",))
    raw = raw_of(head)
    found, plain = (
        module.expected_answers(make_likelihood(head, each), raw, labels(6))
        for each in (options, None)
    )
    np.testing.assert_allclose(found.conflict, plain.conflict)


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
