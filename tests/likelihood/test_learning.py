"""Likelihoods as functions to be optimised: gradients, extremes, and what labels pin down."""

import math
from functools import partial
from itertools import cycle, islice

import numpy as np
import pytest
import torch
from scipy import stats

from hidden_context import heads
from hidden_context.likelihood import HABITS, Labels, LikelihoodOptions, make_likelihood
from likelihood.making import comparisons, interleave, minimise, moved, pairs, ratings

FACTOR = heads.make("factor")
ENSEMBLE = heads.make("ensemble", member=FACTOR, num_members=2)
GRADES = (1.0, 2.0, 3.0, 5.0)


def everything(head=FACTOR, levels=5, **options):
    """A likelihood that learns thresholds, annotators, and the noise and styles of ratings."""
    usual = {"inference": "variational", "names": ("ann", "bob"), "styles": True}
    return make_likelihood(
        head, LikelihoodOptions(levels, rating_weight=0.3, **{**usual, **options})
    )


# two examples, one of them with three responses
ALL_LABELS = Labels(
    comparisons(
        {"first": 0, "second": 1, "annotator": 0, "strength": 2.0},
        {"first": 2, "second": 0, "annotator": 1, "strength": -1.0, "preference": 0.0},
        {"first": 1, "second": 2, "annotator": -1, "strength": 0.0, "preference": 0.5},
        {"first": 3, "second": 4, "annotator": 1, "preference": 0.8, "example": 1},
    ),
    ratings([0, 0, 2, 4], [1.0, 3.0, 5.0, 2.0], [0, 1, -1, 0], [0, 0, 0, 1]),
    torch.tensor([0, 3, 5]),
)
KINDS = {
    "one": lambda: everything(),
    "ensemble": lambda: everything(ENSEMBLE),
    "points": lambda: everything(inference="map"),
    "grades": lambda: everything(ratings="ordinal", grades=GRADES),
    "grades of an ensemble": lambda: everything(ENSEMBLE, ratings="ordinal", grades=GRADES),
    "nobody known": lambda: everything(inference=None),
    "habits": lambda: everything(habits=HABITS),
}
FAR_OUT = KINDS | {
    f"grades of {kind}": partial(
        everything, heads.make(kind), inference=None, ratings="ordinal", grades=GRADES
    )
    for kind in ("base", "mean_and_variance", "mixture", "categorical", "quantile")
}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())
def test_gradients_by_outputs_and_all_that_is_learned(make):
    likelihood = moved(make()).double()
    torch.manual_seed(0)
    raw = torch.randn(5, likelihood.head.num_outputs, dtype=torch.float64, requires_grad=True)
    learned = dict(likelihood.named_parameters())
    values = [parameter.detach().clone().requires_grad_() for parameter in learned.values()]

    class Loss(torch.nn.Module):
        def __init__(self, method):
            super().__init__()
            self.of, self.method = likelihood, method

        def forward(self, raw):
            return getattr(self.of, self.method)(raw, ALL_LABELS).sum() + self.of.prior()

    def loss(method, raw, *values):
        parameters = {f"of.{k}": v for k, v in zip(learned, values, strict=True)}
        return torch.func.functional_call(Loss(method), parameters, (raw,))

    for method in ("forward", "negative_log_likelihood", "log_prob_first"):
        inputs = (raw, *values)
        assert torch.autograd.gradcheck(partial(loss, method), inputs, fast_mode=True)
    likelihood.zero_grad()
    (likelihood(raw, ALL_LABELS).sum() + likelihood.prior()).backward()
    assert all(parameter.grad.abs().max().item() > 0 for parameter in learned.values())


@pytest.mark.parametrize("size", [100.0, 1e4])
@pytest.mark.parametrize("make", FAR_OUT.values(), ids=FAR_OUT)
def test_losses_and_gradients_stay_finite_far_out(make, size):
    likelihood = make()
    for signs in ((1, 1, -1), (-1, 1, -1), (1, -1, 1), (-1, -1, -1)):
        signs = list(islice(cycle(signs), likelihood.head.num_outputs))
        one = (size * torch.tensor(signs)).expand(5, -1)
        turn = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0]).unsqueeze(-1)
        raw = (one * turn).requires_grad_()
        likelihood.zero_grad()
        losses = likelihood(raw, ALL_LABELS)
        assert losses.shape == (8,)
        (losses.sum() + likelihood.prior()).backward()
        assert bool(torch.isfinite(losses).all())
        learned = [parameter.grad for parameter in likelihood.parameters()]
        assert all(bool(torch.isfinite(grad).all()) for grad in (raw.grad, *learned))
        predicted = likelihood.negative_log_likelihood(raw, ALL_LABELS)
        assert bool(torch.isfinite(predicted).all())


MEAN = np.array([0.0, 1.0, 2.5, 4.0, 4.5])
STDDEV = np.array([0.6, 1.0, 0.8, 1.2, 0.5])
TRUE_NOISE = 0.5


def rated_table():
    """Exact comparisons of five texts, with sixty draws of both ratings for each pair."""
    first, second = np.triu_indices(5, 1)
    share = stats.norm.cdf((MEAN[first] - MEAN[second]) / np.hypot(STDDEV[first], STDDEV[second]))
    rows = [
        {"first": i, "second": j, "preference": p}
        for i, j, p in zip(first.tolist(), second.tolist(), share.tolist(), strict=True)
    ]
    place = np.concatenate([np.repeat(first, 60), np.repeat(second, 60)])
    value = np.random.default_rng(0).normal(MEAN[place], np.hypot(STDDEV[place], TRUE_NOISE))
    # one example of five responses; a comparison counts like the sixty pairs that were rated
    compared = comparisons(*({**row, "weight": 60.0, "votes": 60.0} for row in rows))
    return Labels(compared, ratings(place, value), torch.tensor([0, 5]))


def fit(likelihood, raw, labels):
    """Fit rewards and all that is learned beside them."""

    def loss():
        total = (labels.weight * likelihood(raw, labels)).sum() + likelihood.prior()
        return total / labels.votes.sum()

    return minimise(loss, [raw, *likelihood.parameters()], max_iter=150)


def test_ratings_pin_the_level_and_the_unit():
    head = heads.make("mean_and_variance")
    labels = rated_table()
    # the true rewards times three, and ten higher: comparisons are as right as they can be
    start = np.stack([10 + 3 * MEAN, np.log(np.expm1(3 * STDDEV))], -1)
    alone = torch.tensor(start, requires_grad=True)
    fit(make_likelihood(head), alone, labels.without_ratings())
    np.testing.assert_allclose(alone.detach(), start, atol=0.05)  # nothing pulls them back
    raw = torch.tensor(start, requires_grad=True)
    likelihood = make_likelihood(head, LikelihoodOptions(rating_weight=1.0)).double()
    fit(likelihood, raw, labels)
    reward = head.distribution(raw.detach())
    # 1200 ratings: a standard error of the level of 0.03, of the unit of 2 %
    np.testing.assert_allclose(reward.mean, MEAN, atol=0.2)
    unit = np.polyfit(MEAN, reward.mean, 1)
    assert unit[0] == pytest.approx(1, abs=0.06)
    np.testing.assert_allclose(reward.stddev, STDDEV, rtol=0.25)
    assert likelihood.ratings.log_noise.exp().item() == pytest.approx(TRUE_NOISE, abs=0.15)
    # and the comparisons are still right, as far as 1200 ratings do not pull at them
    table = reward[:, None].log_prob_greater(reward[None]).exp()
    expected = stats.norm.cdf(np.subtract.outer(MEAN, MEAN) / np.hypot.outer(STDDEV, STDDEV))
    np.testing.assert_allclose(table, expected, atol=0.05)


def rated_by_eight(share, seed=0):
    """Eight annotators of their own level and unit, who each rate a share of 200 responses."""
    rng = np.random.default_rng(seed)
    reward, noise = rng.normal(size=200), 0.4
    level, log_unit = np.linspace(-1.2, 1.2, 8), rng.permutation(np.linspace(-0.5, 0.5, 8))
    seen = rng.random((8, 200)) < share
    who, what = np.nonzero(seen)
    value = level[who] + np.exp(log_unit[who]) * (reward[what] + noise * rng.normal(size=len(who)))
    return reward, level, log_unit, who, what, value


EIGHT = {"styles": True, "names": tuple(map(str, range(8)))}


def rewards_found(what, value, who, **options):
    """Fit scalar rewards of 200 responses to ratings; return the likelihood and the rewards."""
    labels = Labels(comparisons(), ratings(what, value, who), torch.tensor([0, 200]))
    options = LikelihoodOptions(rating_weight=1.0, **options)
    likelihood = make_likelihood(heads.make("base"), options).double()
    raw = torch.zeros(200, 1, dtype=torch.float64, requires_grad=True)
    fit(likelihood, raw, labels)
    return likelihood, raw.detach()[:, 0].numpy()


def styles_recovered(likelihood, found, reward):
    """Levels and log units of the styles, in the unit of the true rewards."""
    styles = likelihood.ratings.styles
    slope, start = np.polyfit(found, reward, 1)  # true = slope · found + start
    unit = np.exp(styles.log_unit.detach().numpy()) / slope
    return styles.level.detach().numpy() - unit * start, np.log(unit)


@pytest.mark.parametrize("share", [1.0, 0.4])
def test_annotators_own_levels_and_units_are_told_from_rewards(share):
    reward, level, log_unit, who, what, value = rated_by_eight(share)
    likelihood, found = rewards_found(what, value, who, **EIGHT)
    correlation = np.corrcoef(found, reward)[0, 1]
    assert correlation > 0.95
    own_level, own_unit = styles_recovered(likelihood, found, reward)
    np.testing.assert_allclose(own_level - own_level.mean(), level - level.mean(), atol=0.2)
    np.testing.assert_allclose(own_unit - own_unit.mean(), log_unit - log_unit.mean(), atol=0.2)
    # only relative ones are identified; the priors hold their common part near zero
    assert abs(likelihood.ratings.styles.level.mean().item()) < 0.3
    if share == 1:
        return
    # where annotators rated other responses, levels pass for rewards unless styles are learned
    _, alone = rewards_found(what, value, who)
    assert np.corrcoef(alone, reward)[0, 1] < correlation - 0.05


def test_grades_order_rewards_whatever_the_annotators_scale():
    reward, _, _, who, what, value = rated_by_eight(1.0, seed=1)
    grade = 1.0 + np.searchsorted([-1.5, -0.5, 0.5, 1.5], value)
    grades = {"ratings": "ordinal", "grades": (1.0, 2.0, 3.0, 4.0, 5.0)}
    _, found = rewards_found(what, grade, who, **grades, **EIGHT)
    assert stats.spearmanr(found, reward).statistic > 0.95


def test_posterior_of_who_rates_is_the_exact_one():
    # rewards and noise are known: z is a normal regression, whose posterior has a closed form
    rng = np.random.default_rng(0)
    count, noise, truth = 40, 0.7, 1.3
    loading, mean = rng.normal(size=count), rng.normal(size=count)
    value = mean + loading * truth + noise * rng.normal(size=count)
    tiny = -50.0  # a deviation of 1e-6 of the reward's own
    raw = torch.tensor(np.stack([mean, loading, np.full(count, tiny)], -1))
    labels = Labels(
        comparisons(),
        ratings(range(count), value, [0] * count),
        torch.tensor([0, count]),
    )
    options = LikelihoodOptions(inference="variational", names=("ann",), rating_weight=1.0)
    likelihood = make_likelihood(FACTOR, options).double()
    with torch.no_grad():
        likelihood.ratings.log_noise.fill_(math.log(noise))
    likelihood.ratings.requires_grad_(False)

    def loss():
        return likelihood(raw, labels).sum() + likelihood.prior()

    learned = likelihood.annotators.parameters()
    found = minimise(loss, learned, max_iter=100, tolerance_grad=1e-10)
    precision = 1 + (loading**2).sum() / noise**2
    location, scale = (part.item() for part in likelihood.posterior(torch.tensor([0])))
    assert scale == pytest.approx(precision**-0.5, rel=1e-4)
    expected = (loading * (value - mean)).sum() / noise**2 / precision
    assert location == pytest.approx(expected, rel=1e-4)
    # and the bound is then the evidence itself
    covariance = np.outer(loading, loading) + noise**2 * np.eye(count)
    evidence = stats.multivariate_normal.logpdf(value, mean, covariance)
    assert found == pytest.approx(-evidence, rel=1e-6)


def test_annotators_who_are_known_identify_opposed_halves():
    # half the people want the opposite: single labels are all tosses, names tell them apart
    rng = np.random.default_rng(0)
    people, each, texts = 24, 40, 5
    side = np.where(np.arange(people) % 2, 1.0, -1.0)
    utility = np.linspace(-1.5, 1.5, texts)
    annotator = np.repeat(np.arange(people), each)
    first = rng.integers(texts, size=people * each)
    second = (first + rng.integers(1, texts, size=people * each)) % texts
    gap = side[annotator] * (utility[first] - utility[second])
    won = gap + 0.5 * rng.normal(size=gap.size) > 0
    assert abs(won.mean() - 0.5) < 0.06
    labels = pairs(won.astype(float), annotator)
    options = LikelihoodOptions(inference="variational", names=tuple(map(str, range(people))))
    likelihood = make_likelihood(FACTOR, options).double()
    torch.manual_seed(0)
    raw = (0.3 * torch.randn(texts, 3, dtype=torch.float64)).requires_grad_()
    place = interleave(torch.tensor(first), torch.tensor(second))

    def loss():
        return likelihood(raw[place], labels).sum() + likelihood.prior()

    minimise(loss, [raw, *likelihood.parameters()], max_iter=80)
    learned = likelihood.annotators.location.detach()[:, 0].numpy()
    loadings = raw.detach()[:, 1].numpy()
    sign = np.sign(np.corrcoef(loadings, utility)[0, 1])
    assert abs(np.corrcoef(loadings, utility)[0, 1]) > 0.97
    assert bool((np.sign(sign * learned) == side).all())
    # those of whom nothing is known are predicted as tosses, those who are known are not
    ends = raw.detach()[[4, 0]]
    one, stranger = pairs([1.0], [1]), pairs([1.0], [-1])
    assert likelihood.log_prob_first(ends, one).exp().item() > 0.9
    share = likelihood.log_prob_first(ends, stranger).exp().item()
    assert share == pytest.approx(0.5, abs=0.1)
    population = likelihood.population_log_prob_first(ends, stranger).exp().item()
    assert population == pytest.approx(0.5, abs=0.05)
