"""Likelihoods of every head: fast path, annotators, votes, and what each kind of label costs."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from scipy import integrate, special

from hidden_context import heads
from hidden_context.errors import ConfigError
from hidden_context.likelihood import (
    EnsembleLikelihood,
    HeadLikelihood,
    Labels,
    LikelihoodOptions,
    make_likelihood,
)
from hidden_context.likelihood.single import members_of
from likelihood.making import (
    ENSEMBLE,
    FACTOR,
    comparisons,
    draw,
    interleave,
    moved,
    pairs,
    ratings,
    with_annotators,
)

PLAIN = {
    "base": heads.make("base"),
    "logistic": heads.make("mean_and_variance", likelihood="logistic"),
    "categorical": heads.make("categorical", num_atoms=4),
    "factor": FACTOR,
    "mixture": heads.make("mixture", num_components=2),
    "quantile": heads.make("quantile", num_atoms=3),
    "ensemble": ENSEMBLE,
}
METHODS = ("negative_log_likelihood", "forward")


def losses(likelihood, method, raw, labels):
    return getattr(likelihood, method)(raw, labels).detach()


@pytest.mark.parametrize("head", PLAIN.values(), ids=PLAIN.keys())
def test_fast_path_equals_the_general_one(head):
    raw = draw(head, 6)
    labels = pairs([1.0, 0.5, 0.0, 0.2, 1.0, 0.9])
    plain = make_likelihood(head)
    assert plain.options == LikelihoodOptions()
    assert type(plain) is (EnsembleLikelihood if head is ENSEMBLE else HeadLikelihood)
    # a scale for margins that are all zero changes nothing but the path
    general = make_likelihood(head, LikelihoodOptions(margin_scale=1.0))
    assert [part.outcomes.are_sides_alone for part in members_of(plain) + members_of(general)] == (
        [True] * len(members_of(plain)) + [False] * len(members_of(general))
    )
    assert not list(plain.parameters()) + list(general.parameters())
    for method, said in itertools.product(METHODS, (labels, pairs([1.0] * 6))):
        fast, slow = (losses(made, method, raw, said) for made in (plain, general))
        np.testing.assert_allclose(fast, slow, rtol=1e-9)
    share = labels.comparisons.preference
    sides = (raw[::2], raw[1::2]), (raw[1::2], raw[::2])
    forward, backward = (-head.log_prob_preferred(*pair) for pair in sides)
    expected = share * forward + (1 - share) * backward
    np.testing.assert_allclose(plain.negative_log_likelihood(raw, labels), expected)
    preferred = head.log_prob_preferred(raw[::2], raw[1::2])
    np.testing.assert_allclose(plain.log_prob_first(raw, labels), preferred, rtol=1e-9)
    found = plain.predict(raw, labels)
    np.testing.assert_allclose(found.forward, preferred, rtol=1e-9)
    np.testing.assert_allclose(found.forward.exp() + found.backward.exp(), 1, rtol=1e-9)
    assert found.share.tolist() == share.tolist()
    assert found.ratings.shape == (0,)
    if head is not ENSEMBLE:
        np.testing.assert_allclose(plain(raw, labels), expected)
    assert plain.prior().item() == 0


SETTINGS = {
    "plain": lambda: make_likelihood(FACTOR),
    "margins": lambda: make_likelihood(FACTOR, LikelihoodOptions(margin_scale=0.5)),
    "ties": lambda: make_likelihood(FACTOR, LikelihoodOptions(3)),
    "strengths": lambda: make_likelihood(FACTOR, LikelihoodOptions(7)),
    "annotators": with_annotators,
    "points": lambda: with_annotators(inference="map"),
    "ensemble": lambda: make_likelihood(ENSEMBLE, LikelihoodOptions(5)),
    "annotators of an ensemble": lambda: with_annotators(ENSEMBLE),
}


@pytest.mark.parametrize("make", SETTINGS.values(), ids=SETTINGS.keys())
def test_soft_labels_are_cross_entropies(make):
    likelihood = make()
    raw = draw(likelihood.head, 4, 1)
    who = [0, 2, -1, 1]

    def loss(method, *values):
        return losses(likelihood, method, raw, pairs(values, who, margin=[0.0, 1.0, 0.5, 2.0]))

    for method in METHODS:
        won, lost = loss(method, 1.0, 1.0, 1.0, 1.0), loss(method, 0.0, 0.0, 0.0, 0.0)
        weight = torch.tensor([0.7, 0.1, 0.99, 0.3])
        soft = loss(method, *weight.tolist())
        np.testing.assert_allclose(soft, weight * won + (1 - weight) * lost, rtol=1e-6)
        assert bool((won > 0).all())
        half = loss(method, 0.5, 0.5, 0.5, 0.5)
        if likelihood.options.levels != 3:
            np.testing.assert_allclose(half, (won + lost) / 2, rtol=1e-9)
        else:  # all of ½ is a tie of its own, the rest of the probability
            np.testing.assert_allclose(half.neg().exp(), 1 - won.neg().exp() - lost.neg().exp())


@pytest.mark.parametrize("make", SETTINGS.values(), ids=SETTINGS.keys())
def test_swapping_both_sides_and_the_label_changes_nothing(make):
    likelihood = make()
    raw = draw(likelihood.head, 3, 2)
    labels = pairs([0.8, 1.0, 0.0], [0, -1, 2])
    said = labels.comparisons
    swapped = labels.with_comparisons(preference=1 - said.preference)
    # the other response first, by the outputs or by the labels that name them
    turned = interleave(raw[1::2], raw[::2])
    renamed = swapped.swapped()
    np.testing.assert_allclose(
        losses(likelihood, "log_prob_first", raw, labels.swapped()).exp(),
        1 - losses(likelihood, "log_prob_first", raw, labels).exp(),
        rtol=1e-9,
    )
    for method in METHODS:
        forward = losses(likelihood, method, raw, labels)
        np.testing.assert_allclose(forward, losses(likelihood, method, turned, swapped), rtol=1e-9)
        np.testing.assert_allclose(forward, losses(likelihood, method, raw, renamed), rtol=1e-9)


@pytest.mark.parametrize("make", SETTINGS.values(), ids=SETTINGS.keys())
def test_a_level_common_to_both_sides_is_not_seen(make):
    likelihood = make()
    raw = draw(likelihood.head, 3, 2)
    shift = torch.zeros(likelihood.head.num_outputs, dtype=torch.float64)
    width = likelihood.head.member.num_outputs
    shift[::width], shift[1::width] = 3.0, -2.0  # the means, and one loading
    labels = pairs([0.8, 1.0, 0.0], [0, -1, 2], margin=[0.0, 1.0, 2.0])
    for method in METHODS:
        found = losses(likelihood, method, raw + shift, labels)
        np.testing.assert_allclose(found, losses(likelihood, method, raw, labels), rtol=1e-8)


def step_gradients(likelihood, raw, labels):
    """Gradients of what a training step minimises, by outputs and all that is learned."""
    outputs = raw.clone().requires_grad_()
    likelihood.zero_grad()
    votes = labels.votes.sum()
    loss = (labels.weight * likelihood(outputs, labels)).sum() / votes + likelihood.prior() / votes
    loss.backward()
    learned = [parameter.grad.clone() for parameter in likelihood.parameters()]
    return loss.detach(), [outputs.grad, *learned]


# all pairs of four responses, and another example of two
ALL_PAIRS = comparisons(
    {"first": 0, "second": 1, "annotator": 0, "strength": 2, "weight": 0.5, "votes": 0.5},
    {"first": 2, "second": 0, "annotator": 1, "preference": 0.0, "strength": -1},
    {"first": 0, "second": 3, "annotator": 2, "preference": 0.3, "weight": 2.0},
    {"first": 1, "second": 2, "annotator": -1, "preference": 0.5, "strength": 0, "votes": 2.0},
    {"first": 3, "second": 1, "annotator": 0, "preference": 0.9},
    {"first": 3, "second": 2, "annotator": -1, "strength": 1},
    {"first": 4, "second": 5, "annotator": 1, "strength": 1, "weight": 3.0, "example": 1},
)
RATED = ratings([1, 3, 3, 5], [0.5, -1.0, 2.0, 1.0], [0, 1, -1, 2], [0, 0, 0, 1], [0.5] * 4)
NESTED = Labels(ALL_PAIRS, RATED, torch.tensor([0, 4, 6]))


def as_rows(labels):
    """Give each comparison an example of its own; also return where its responses were before."""
    place = torch.stack([labels.comparisons.first, labels.comparisons.second], 1).flatten()
    row = torch.arange(len(labels.comparisons))
    # a rating stands with any pair of its response
    rated = torch.tensor([place.tolist().index(one) for one in labels.ratings.response.tolist()])
    return place, Labels(
        dataclasses.replace(labels.comparisons, first=2 * row, second=2 * row + 1, example=row),
        dataclasses.replace(labels.ratings, response=rated, example=rated // 2),
        torch.arange(0, len(place) + 1, 2),
    )


@pytest.mark.parametrize("head", [FACTOR, ENSEMBLE], ids=["factor", "ensemble"])
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_judgements_of_one_example_are_worth_as_much_as_a_row_each(head, dtype, atol):
    likelihood = moved(with_annotators(head, levels=5, rating_weight=0.5, styles=True)).to(dtype)
    place, rows = as_rows(NESTED)
    nested, rows = (
        found.map(lambda values: values.to(dtype) if values.is_floating_point() else values)
        for found in (NESTED, rows)
    )
    raw = draw(head, 3, 4).to(dtype)
    for method in (*METHODS, "log_prob_first"):
        one = losses(likelihood, method, raw, nested)
        other = losses(likelihood, method, raw[place], rows)
        np.testing.assert_allclose(one, other, rtol=0, atol=atol)
    assert losses(likelihood, "forward", raw, nested).shape == (nested.num_judgements,)
    loss, gradients = step_gradients(likelihood, raw, nested)
    # the rows' outputs are the responses' own, repeated: their gradients add up
    other_loss, others = step_gradients(likelihood, raw[place], rows)
    others[0] = torch.zeros_like(raw).index_add(0, place, others[0])
    assert loss.item() == pytest.approx(other_loss.item(), abs=atol)
    for one, other in zip(gradients, others, strict=True):
        assert one.abs().max().item() > 1e-4
        np.testing.assert_allclose(one, other, rtol=0, atol=2 * atol)


PENALISED = {
    "probit": heads.make("mean_and_variance", variance_penalty=0.3),
    "factor": heads.make("factor", variance_penalty=0.4),
    "categorical": heads.make("categorical", num_atoms=4, entropy_coeff=0.5),
    "ensemble": heads.make(
        "ensemble", member=heads.make("mean_and_variance", variance_penalty=0.3), num_members=2
    ),
}


@pytest.mark.parametrize("head", PENALISED.values(), ids=PENALISED.keys())
def test_penalty_weighs_responses_as_often_as_comparisons_name_them(head):
    likelihood = make_likelihood(head)
    raw = draw(head, 2, 6)
    star = comparisons(*({"first": 0, "second": i, "weight": 9.0} for i in (1, 2, 3)))
    labels = Labels(star, ratings([2], [0.3]), torch.tensor([0, 4]))
    found = likelihood.penalty(raw, labels)
    assert found.item() == head.penalty(raw[[0, 0, 0]], raw[[1, 2, 3]]).item()
    assert found.shape == ()
    if head is PENALISED["probit"]:
        variance = np.logaddexp(0, raw[:, 1].numpy()) ** 2
        expected = 0.3 * (3 * variance[0] + variance[1:].sum()) / 3
        assert found.item() == pytest.approx(expected, rel=1e-12)
    none = dataclasses.replace(labels, comparisons=comparisons())
    assert likelihood.penalty(raw, none).item() == 0


@pytest.mark.parametrize("who", [[-1] * 5, [-1, 0, -1, 2, -1]], ids=["alone", "among others"])
def test_a_stranger_is_drawn_from_the_population(who):
    raw = draw(FACTOR, 5, 5)
    known, plain = with_annotators(), make_likelihood(FACTOR)
    strangers = torch.tensor(who) < 0
    for values in ((1.0, 0.0, 0.3, 1.0, 1.0), (1.0,) * 5):
        labels = pairs(values, who)
        for method in (*METHODS, "log_prob_first"):
            found, expected = (losses(made, method, raw, labels) for made in (known, plain))
            np.testing.assert_allclose(found[strangers], expected[strangers], rtol=1e-9)
            assert bool(((found - expected)[~strangers].abs() > 1e-3).all())


def test_variational_bound_is_above_the_predictive_loss():
    likelihood, points = with_annotators(), with_annotators(inference="map")
    raw = draw(FACTOR, 30, 6)
    labels = pairs([1.0] * 15 + [0.0] * 15, [0, 1, 2] * 10)
    gap = likelihood(raw, labels) - likelihood.negative_log_likelihood(raw, labels)
    assert bool((gap > -1e-12).all())
    assert gap.max().item() > 0.01
    # of points nothing is left open
    found, expected = (losses(points, method, raw, labels) for method in METHODS)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize(("spread", "tolerance"), [(0.3, 1e-12), (1.0, 1e-7), (3.0, 2e-3)])
def test_quadrature_is_the_integral_over_the_posterior(spread, tolerance):
    likelihood = HeadLikelihood(
        heads.make("factor"), LikelihoodOptions(inference="variational", names=("ann",))
    )
    with torch.no_grad():
        likelihood.annotators.location.fill_(-0.4)
        likelihood.annotators.log_scale.fill_(math.log(spread))
    # Δμ = 0.3, ΔL = 1, noise √2
    unit = math.log(math.expm1(1.0))
    raw = torch.tensor([[0.3, 1.5, unit], [0.0, 0.5, unit]], dtype=torch.float64)
    loss = likelihood(raw, pairs([1.0], [0])).item()

    def integrand(z):
        return -special.log_ndtr((0.3 - 0.4 + spread * z) / math.sqrt(2)) * math.exp(-z * z / 2)

    expected = integrate.quad(integrand, -30, 30, epsabs=1e-13)[0] / math.sqrt(2 * math.pi)
    # float32 embeddings round −0.4 and the scale
    assert loss == pytest.approx(expected, abs=tolerance + 1e-7)


@pytest.mark.parametrize("head", [FACTOR, ENSEMBLE], ids=["factor", "ensemble"])
def test_rewards_of_an_annotator_compare_as_the_likelihood_predicts(head):
    likelihood = with_annotators(head)
    raw = draw(head, 4, 8)
    rewards = [head.distribution(raw[side::2]) for side in (0, 1)]
    for name, number in (("bob", 1), ("nobody", -1), (None, -1)):
        first, second = (likelihood.rewards_of(reward, name) for reward in rewards)
        labels = pairs([1.0] * 4, [number] * 4)
        expected = losses(likelihood, "log_prob_first", raw, labels)
        np.testing.assert_allclose(first.log_prob_greater(second), expected, rtol=1e-6)
        loss = losses(likelihood, "negative_log_likelihood", raw, labels)
        np.testing.assert_allclose(loss, -expected, rtol=1e-9)
        assert first.batch_shape == (4,)
    np.testing.assert_allclose(
        likelihood.rewards_of(rewards[0], None).variance, rewards[0].variance, rtol=1e-9
    )


@pytest.mark.parametrize("head", [FACTOR, ENSEMBLE], ids=["factor", "ensemble"])
def test_population_is_the_mean_over_those_who_are_known(head):
    likelihood = with_annotators(head)
    raw = draw(head, 4, 9)
    each = [
        losses(likelihood, "log_prob_first", raw, pairs([1.0] * 4, [number] * 4)).exp()
        for number in range(3)
    ]
    # whoever judged plays no part
    for who in (None, [2, -1, 0, 0]):
        found = likelihood.population_log_prob_first(raw, pairs([1.0, 0.0, 0.5, 1.0], who)).exp()
        np.testing.assert_allclose(found.detach(), sum(each) / 3, rtol=1e-9)


def test_priors_of_contexts_and_styles_add_up():
    likelihood = moved(with_annotators(rating_weight=1.0, styles=True))
    expected = likelihood.annotators.prior() + likelihood.ratings.prior()
    assert likelihood.prior().item() == pytest.approx(expected.item(), rel=1e-6)
    assert likelihood.ratings.prior().item() > 0.01
    assert likelihood.double().prior().dtype == torch.float64


def make(head, **options):
    return make_likelihood(head, LikelihoodOptions(**options))


def population(likelihood):
    return likelihood.population_log_prob_first(torch.zeros(2, 4), pairs([1.0]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make(FACTOR, rating_weight=-1.0), "rating_weight is -1.0; it must be ≥ 0"),
        (lambda: make(FACTOR, rating_weight=math.inf), "rating_weight is inf"),
        (lambda: make(FACTOR, rating_weight=math.nan), "rating_weight is nan"),
        (lambda: make(FACTOR, rating_scale=0.0), "rating_scale is 0.0; it must be > 0"),
        (lambda: make(FACTOR, rating_scale=math.inf), "rating_scale is inf"),
        (lambda: make(FACTOR, rating_location=math.nan), "rating_location is nan"),
        (lambda: make(PLAIN["base"], inference="map"), "one factor, not a base head"),
        (
            lambda: make(heads.make("factor", num_factors=0), inference="map"),
            "at least one factor, not a factor head",
        ),
        (lambda: make(heads.make("ensemble", num_members=2), inference="map"), "not a base head"),
        (lambda: make(FACTOR, inference="map", names=("a", "a")), "must be distinct"),
        (lambda: make(FACTOR).posterior(torch.tensor([0])), "learned no contexts"),
        (lambda: make(ENSEMBLE).posterior(torch.tensor([0])), "learned no contexts"),
        (lambda: population(make(FACTOR)), "has not learned annotators"),
        (lambda: population(make(FACTOR, inference="map")), "has not learned annotators"),
    ],
)
def test_what_cannot_work_says_why(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


def test_options_of_another_seed_are_the_same_options():
    assert LikelihoodOptions(seed=3) == LikelihoodOptions(seed=4)
    assert LikelihoodOptions(levels=3) != LikelihoodOptions()
