"""Ratings: densities and grades in closed form, annotators' styles and contexts."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from hidden_context import heads
from hidden_context.distributions import Components
from hidden_context.errors import ConfigError
from hidden_context.likelihood import (
    HeadLikelihood,
    Labels,
    LikelihoodOptions,
    Ratings,
    make_likelihood,
)
from hidden_context.likelihood.ratings import AnnotatorStyles
from likelihood.making import (
    ENSEMBLE,
    FACTOR,
    comparisons,
    draw,
    moved,
    ratings,
    with_annotators,
)

TAU = 0.4
HEADS = {
    "point": heads.make("base"),
    "normal": heads.make("mean_and_variance"),
    "mixture": heads.make("mixture", num_components=2),
    "categorical": heads.make("categorical", num_atoms=3),
    "quantile": heads.make("quantile", num_atoms=3),
    "factor": FACTOR,
}
LEVEL, LOG_UNIT = (0.7, -1.5), (0.5, -0.8)
GRADES = (1.0, 2.0, 2.5, 5.0)
THRESHOLDS = (-0.8, 0.1, 1.5)


RATED = Labels(
    comparisons(),
    ratings([0, 0, 1, 3], [0.5, 1.5, -2.0, 1.0], [0, -1, 2, 1]),
    torch.tensor([0, 4]),
)


def gaussian(annotators=None, unit=(0.0, 1.0)):
    made = Ratings(annotators=annotators, unit=unit).double()
    with torch.no_grad():
        made.log_noise.fill_(math.log(TAU))
    return with_styles(made)


def ordinal(annotators=None, thresholds=THRESHOLDS):
    made = Ratings("ordinal", GRADES[: len(thresholds) + 1], annotators).double()
    with torch.no_grad():
        made.first_threshold.fill_(thresholds[0])
        if made.raw_gaps is not None:
            made.raw_gaps.copy_(torch.tensor(np.log(np.expm1(np.diff(thresholds)))))
    return with_styles(made)


def with_styles(made):
    if made.styles is not None:
        with torch.no_grad():
            made.styles.level.copy_(torch.tensor(LEVEL, dtype=torch.float64))
            made.styles.log_unit.copy_(torch.tensor(LOG_UNIT, dtype=torch.float64))
    return made


def one_reward(weights, location, scale):
    """One reward as a mixture, to be rated any number of times."""
    values = (np.log(weights), location, scale)
    return Components(*(torch.tensor(value, dtype=torch.float64)[None] for value in values))


def judged(values, annotator=None):
    return ratings([0] * len(values), values, annotator)


def graded(*values):
    return ordinal().log_prob(one_reward(*MIXTURES["point"]), judged(values))


MIXTURES = {
    "point": ([1.0], [0.3], [0.0]),
    "normal": ([1.0], [0.3], [1.2]),
    "mixture": ([0.2, 0.5, 0.3], [-1.0, 0.4, 2.0], [0.5, 0.0, 1.5]),
}


@pytest.mark.parametrize("kind", MIXTURES)
@pytest.mark.parametrize(("location", "scale"), [(0.0, 1.0), (50.0, 20.0)])
def test_numbers_are_in_the_annotators_own_level_and_unit(kind, location, scale):
    # (y − l)/c = a + e^b (u + τ ε): a normal of each component, moved and stretched
    value, who = np.array([-2.0, 0.0, 0.3, 1.7, 9.0]), np.array([0, 1, -1, 0, 1])
    said, reward = judged(location + scale * value, who), one_reward(*MIXTURES[kind])
    found = gaussian(2, (location, scale)).log_prob(reward, said).detach() + math.log(scale)
    level, unit = np.append(LEVEL, 0.0)[who], np.exp(np.append(LOG_UNIT, 0.0))[who]
    each = [
        math.log(w) + stats.norm.logpdf(value, level + unit * m, unit * math.hypot(s, TAU))
        for w, m, s in zip(*MIXTURES[kind], strict=True)
    ]
    np.testing.assert_allclose(found, special.logsumexp(each, 0), rtol=1e-10)


@pytest.mark.parametrize("kind", HEADS)
def test_every_heads_rewards_are_rated(kind):
    head, raw = HEADS[kind], draw(HEADS[kind], 2, 3)
    unit = {"rating_location": 0.2, "rating_scale": 3.0}
    options = LikelihoodOptions(rating_weight=0.7, names=("ann", "bob", "cat"), **unit)
    likelihood = HeadLikelihood(head, options).double()
    with torch.no_grad():
        likelihood.ratings.log_noise.fill_(math.log(TAU))
    labels = Labels(
        comparisons(), ratings([2, 0, 2], [0.5, -1.0, 3.0], [0, -1, 2]), torch.tensor([0, 4])
    )
    found = likelihood(raw, labels)
    parts = [part.numpy() for part in head.distribution(raw[[2, 0, 2]]).components()]
    y = (np.array([[0.5], [-1.0], [3.0]]) - 0.2) / 3.0
    density = (np.exp(parts[0]) * stats.norm.pdf(y, parts[1], np.hypot(parts[2], TAU))).sum(-1) / 3
    # the weight stands in the labels, not in the loss
    np.testing.assert_allclose(found.detach(), -np.log(density), rtol=1e-10)
    np.testing.assert_array_equal(
        found.detach(), likelihood.negative_log_likelihood(raw, labels).detach()
    )


def test_ratings_that_play_no_part_cost_nothing():
    likelihood, raw = HeadLikelihood(FACTOR), draw(FACTOR, 1)
    assert likelihood.ratings is None
    pair = Labels.of_pairs(torch.ones(1).double())
    labels = Labels(pair.comparisons, ratings([0, 1], [3.0, 1.0]), pair.offsets)
    assert likelihood(raw, labels)[1:].tolist() == [0, 0]
    assert likelihood.predict(raw, labels).ratings.tolist() == [0, 0]


def test_ratings_are_read_with_their_weight_or_not_at_all():
    pair = Labels.of_pairs(torch.ones(1).double())
    said = ratings([0, 1], [3.0, 1.0], weight=[1.0, 4.0])
    labels = Labels(pair.comparisons, said, pair.offsets)
    assert HeadLikelihood(FACTOR).read(labels).weight.tolist() == [1]
    found = HeadLikelihood(FACTOR, LikelihoodOptions(rating_weight=0.25)).read(labels)
    assert found.weight.tolist() == [1, 0.25, 1]
    assert found.votes.tolist() == [1, 1, 1]
    assert found.comparisons is labels.comparisons
    assert said.weight.tolist() == [1, 4]


@pytest.mark.parametrize("head", [FACTOR, ENSEMBLE], ids=["factor", "ensemble"])
@pytest.mark.parametrize("styles", [True, False])
def test_expected_ratings_are_the_means_of_the_density(head, styles):
    options = {"rating_weight": 1.0, "rating_location": 5.0, "rating_scale": 2.0}
    likelihood = moved(with_annotators(head, styles=styles, **options)).double()
    raw = draw(head, 2, 5)
    found = likelihood.rating_means(raw, RATED).detach()
    assert found.shape == (4,)
    # Σ y p(y) over a fine grid of each rating, the members' densities averaged
    grid = np.linspace(-60, 70, 20_001)
    for place in range(4):
        said = RATED.take(torch.tensor([place]))[0].ratings
        response, who = RATED.ratings.response[place].item(), said.annotator.item()
        every = ratings([response] * grid.size, grid, [who] * grid.size)
        labels = Labels(comparisons(), every, torch.tensor([0, 4]))
        density = likelihood.predict(raw, labels).ratings.exp().detach().numpy()
        assert np.trapezoid(density, grid) == pytest.approx(1, abs=1e-6)
        assert found[place].item() == pytest.approx(np.trapezoid(density * grid, grid), abs=1e-5)


def grade_probabilities(made, reward, who=-1):
    each = judged(made.grades, [who] * len(made.grades))
    return made.log_prob(reward, each).exp().detach()


@pytest.mark.parametrize("who", [-1, 0, 1])
@pytest.mark.parametrize("kind", MIXTURES)
def test_grades_lie_between_the_thresholds(kind, who):
    found = grade_probabilities(ordinal(2), one_reward(*MIXTURES[kind]), who)
    level, unit = (LEVEL[who], math.exp(LOG_UNIT[who])) if who >= 0 else (0.0, 1.0)
    # c_{k−1} < a + e^b (u + ε) ≤ c_k with noise of deviation 1
    expected = 0.0
    for w, m, s in zip(*MIXTURES[kind], strict=True):
        at = stats.norm.cdf(THRESHOLDS, level + unit * m, unit * math.hypot(s, 1))
        expected = expected + w * np.diff(np.concatenate([[0.0], at, [1.0]]))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-14)  # Φ's own differences cancel


@given(
    st.lists(st.floats(-4, 4), min_size=1, max_size=4),
    st.floats(-6, 6),
    st.floats(0, 4),
    st.sampled_from([-1, 0, 1]),
)
def test_grades_are_all_there_is(gaps, location, scale, who):
    grades = [float(k) for k in range(len(gaps) + 1)]
    made = Ratings("ordinal", grades, 2).double()
    with torch.no_grad():
        made.first_threshold.fill_(gaps[0])
        if made.raw_gaps is not None:
            made.raw_gaps.copy_(torch.tensor(gaps[1:]))
    with_styles(made)
    assert made.thresholds.shape == (len(gaps),)
    assert bool((made.thresholds.diff() > 0).all())
    found = grade_probabilities(made, one_reward([1.0], [location], [scale]), who)
    assert found.sum().item() == pytest.approx(1, abs=1e-9)
    assert bool((found >= 0).all())


def test_grades_start_evenly_about_zero():
    for count, expected in ((2, [0]), (3, [-0.5, 0.5]), (5, [-1.5, -0.5, 0.5, 1.5])):
        made = Ratings("ordinal", [float(k) for k in range(count)])
        assert made.thresholds.tolist() == pytest.approx(expected, abs=1e-6)


def test_styles_are_looked_up_and_strangers_have_none():
    made = AnnotatorStyles(2)
    with torch.no_grad():
        made.level.copy_(torch.tensor([0.5, -2.0]))
        made.log_unit.copy_(torch.tensor([0.25, 1.0]))
    level, log_unit = made.of(torch.tensor([1, -1, 0]))
    assert (level.tolist(), log_unit.tolist()) == ([-2, 0, 0.5], [1, 0, 0.25])
    (level[1] + log_unit[1]).backward()
    assert made.level.grad.tolist() == made.log_unit.grad.tolist() == [0, 0]
    # of nobody there is nothing to look up
    level, log_unit = AnnotatorStyles(0).of(torch.tensor([-1, -1]))
    assert level.tolist() == log_unit.tolist() == [0, 0]


def test_prior_of_styles_is_that_of_their_normals():
    made = AnnotatorStyles(3).double()
    assert made.prior().item() == 0
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        made.level.normal_(generator=generator)
        made.log_unit.normal_(generator=generator)
    level, log_unit = made.level.detach().numpy(), made.log_unit.detach().numpy()
    density = stats.norm.logpdf(level, 0, 1).sum() + stats.norm.logpdf(log_unit, 0, 0.5).sum()
    constant = 3 * (stats.norm.logpdf(0, 0, 1) + stats.norm.logpdf(0, 0, 0.5))
    assert made.prior().item() == pytest.approx(constant - density, rel=1e-12)
    for ratings_of in (Ratings(), Ratings("ordinal", GRADES), Ratings(annotators=2)):
        assert ratings_of.prior().item() == 0
    assert gaussian(2).prior().item() == gaussian(2).styles.prior().item() > 0


def shared_normal(likelihood, raw):
    """Mean and variance of each rating: of the population, and of those who are known."""
    said = RATED.ratings
    reward = FACTOR.distribution(raw[said.response])
    location, scale = likelihood.annotators.posterior(said.annotator)
    mean = reward.mean + (reward.loadings * location).sum(-1)
    open_ = ((reward.loadings * scale) ** 2).sum(-1)
    noise = reward.independent_variance + likelihood.ratings.log_noise.exp() ** 2
    return [part.detach().numpy() for part in (mean, open_, noise)]


@pytest.mark.parametrize("inference", ["variational", "map"])
def test_ratings_of_known_annotators_are_by_their_own_context(inference):
    likelihood = moved(with_annotators(inference=inference, rating_weight=1.0)).double()
    raw = draw(FACTOR, 2, 5)
    mean, open_, noise = shared_normal(likelihood, raw)
    value = RATED.ratings.value.numpy()
    predicted = likelihood.negative_log_likelihood(raw, RATED).detach()
    expected = -stats.norm.logpdf(value, mean, np.sqrt(open_ + noise))
    np.testing.assert_allclose(predicted, expected, rtol=1e-9)
    # E over q of the logarithm, for those who are known: (y − m)² grows by what is open
    bound = likelihood(raw, RATED).detach()
    known = RATED.ratings.annotator.numpy() >= 0
    expected_bound = -stats.norm.logpdf(value, mean, np.sqrt(noise)) + 0.5 * open_ / noise
    np.testing.assert_allclose(bound[known], expected_bound[known], rtol=1e-9)
    np.testing.assert_allclose(bound[~known], expected[~known], rtol=1e-9)
    if inference == "map":
        np.testing.assert_allclose(bound, predicted, rtol=1e-9)
    else:
        assert bool((bound[known] > predicted[known] + 1e-3).all())


def test_bound_of_grades_is_the_integral_over_the_posterior():
    options = {"ratings": "ordinal", "grades": GRADES, "styles": True}
    likelihood = moved(with_annotators(rating_weight=1.0, **options)).double()
    raw = draw(FACTOR, 1, 2)
    labels = Labels(comparisons(), ratings([1], [2.0], [1]), torch.tensor([0, 2]))
    found = likelihood(raw, labels).item()
    reward = FACTOR.distribution(raw[1:])
    location, scale = (part.detach() for part in likelihood.annotators.posterior(torch.tensor([1])))
    rng = torch.Generator().manual_seed(0)
    z = location + scale * torch.randn(200_000, 2, generator=rng, dtype=torch.float64)
    rewards = reward.expand((200_000,)).given(z).components()
    said = ratings([0] * 200_000, [2.0] * 200_000, [1] * 200_000)
    each = -likelihood.ratings.log_prob(rewards, said).detach()
    assert found == pytest.approx(each.mean().item(), abs=4 * (each.std() / 200_000**0.5).item())
    predicted = likelihood.negative_log_likelihood(raw, labels).item()
    assert predicted == pytest.approx(-each.neg().exp().mean().log().item(), abs=0.01)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Ratings("stars"), "ratings are gaussian or ordinal, not 'stars'"),
        (lambda: Ratings("ordinal"), "at least two grades"),
        (lambda: Ratings("ordinal", (1.0,)), "at least two grades"),
        (lambda: Ratings("ordinal", (2.0, 1.0)), "in ascending order"),
        (lambda: Ratings("ordinal", (1.0, 1.0, 2.0)), "in ascending order"),
        (lambda: graded(2.0, 2.2), "a rating is 2.2, which is not one of the grades 1, 2, 2.5, 5"),
        (lambda: graded(6.0), "a rating is 6, which is not one"),
        (lambda: graded(math.nan), "a rating is nan, which is not one"),
        (lambda: Ratings("ordinal", (1, 2)).mean(torch.zeros(1), judged([1.0])), "have no mean"),
        *(
            (partial(make_likelihood(head).rating_means, draw(head, 2), RATED), "without ratings")
            for head in (FACTOR, ENSEMBLE)
        ),
    ],
)
def test_what_cannot_work_says_why(call, message):
    with pytest.raises(ConfigError, match=message):
        call()
