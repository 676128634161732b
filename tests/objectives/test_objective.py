"""The one objective: fast path, annotators, members, and what each kind of label costs."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy import integrate, special

from hidden_context import heads
from hidden_context.errors import ConfigError
from hidden_context.objectives import (
    AnnotatorEmbeddings,
    Labels,
    Objective,
    Outcomes,
    negative_log_likelihood,
)

FACTOR = heads.make("factor", num_factors=2)
ENSEMBLE = heads.make("ensemble", member=FACTOR, num_members=2)
PLAIN = {
    "base": heads.make("base"),
    "logistic": heads.make("mean_and_variance", likelihood="logistic"),
    "categorical": heads.make("categorical", num_atoms=4),
    "factor": FACTOR,
    "mixture": heads.make("mixture", num_components=2),
    "quantile": heads.make("quantile", num_atoms=3),
    "ensemble": ENSEMBLE,
}


def draw(head, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, count, head.num_outputs, generator=generator, dtype=torch.float64)


def shares(*values, annotator=None):
    preference = torch.tensor(values, dtype=torch.float64)
    return Labels.of_preferences(preference, None if annotator is None else torch.tensor(annotator))


def with_annotators(head=FACTOR, inference="variational", **options):
    member, count = head.members
    known = AnnotatorEmbeddings(["ann", "bob", "cat"], member.num_factors, count, inference, seed=5)
    with torch.no_grad():
        known.location *= 3
    return Objective(head, annotators=known, **options)


@pytest.mark.parametrize("head", PLAIN.values(), ids=PLAIN.keys())
def test_fast_path_equals_the_general_one(head):
    a, b = draw(head, 6)
    labels = shares(1.0, 0.5, 0.0, 0.2, 1.0, 0.9)
    plain = Objective(head)
    # a scale for margins that are all zero changes nothing but the path
    general = Objective(head, Outcomes(2, head.members[1], margin_scale=1.0))
    assert (plain.is_plain, general.is_plain) == (True, False)
    for method in ("negative_log_likelihood", "training_loss"):
        fast, slow = (getattr(objective, method)(a, b, labels) for objective in (plain, general))
        np.testing.assert_allclose(fast, slow, rtol=1e-9)
    expected = negative_log_likelihood(head, a, b, labels.preference)
    np.testing.assert_allclose(plain.negative_log_likelihood(a, b, labels), expected)
    np.testing.assert_allclose(
        plain.log_prob_preferred(a, b, labels), head.log_prob_preferred(a, b), rtol=1e-9
    )
    assert plain.prior().item() == 0


SETTINGS = {
    "plain": lambda: Objective(FACTOR),
    "margins": lambda: Objective(FACTOR, Outcomes(margin_scale=0.5)),
    "ties": lambda: Objective(FACTOR, Outcomes(3)),
    "strengths": lambda: Objective(FACTOR, Outcomes(7)),
    "annotators": with_annotators,
    "points": lambda: with_annotators(inference="map"),
    "ensemble": lambda: Objective(ENSEMBLE, Outcomes(5, 2)),
    "annotators of an ensemble": lambda: with_annotators(ENSEMBLE),
}


@pytest.mark.parametrize("make", SETTINGS.values(), ids=SETTINGS.keys())
def test_soft_labels_are_cross_entropies(make):
    objective = make()
    a, b = draw(objective.head, 4, 1)
    who = [0, 2, -1, 1]

    def loss(method, *values):
        labels = shares(*values, annotator=who)
        margin = torch.tensor([0.0, 1.0, 0.5, 2.0], dtype=torch.float64)
        labels = dataclasses.replace(labels, margin=margin)
        return getattr(objective, method)(a, b, labels).detach()

    for method in ("negative_log_likelihood", "training_loss"):
        won, lost = loss(method, 1.0, 1.0, 1.0, 1.0), loss(method, 0.0, 0.0, 0.0, 0.0)
        weight = torch.tensor([0.7, 0.1, 0.99, 0.3])
        soft = loss(method, *weight.tolist())
        np.testing.assert_allclose(soft, weight * won + (1 - weight) * lost, rtol=1e-6)
        assert bool((won > 0).all())
        half = loss(method, 0.5, 0.5, 0.5, 0.5)
        if objective.outcomes.levels != 3:
            np.testing.assert_allclose(half, (won + lost) / 2, rtol=1e-9)
        else:  # all of ½ is a tie of its own, the rest of the probability
            np.testing.assert_allclose(half.neg().exp(), 1 - won.neg().exp() - lost.neg().exp())


@pytest.mark.parametrize("make", SETTINGS.values(), ids=SETTINGS.keys())
def test_swapping_both_sides_and_the_label_changes_nothing(make):
    objective = make()
    a, b = draw(objective.head, 3, 2)
    labels = shares(0.8, 1.0, 0.0, annotator=[0, -1, 2])
    swapped = dataclasses.replace(labels, preference=1 - labels.preference)
    for method in ("negative_log_likelihood", "training_loss"):
        forward = getattr(objective, method)(a, b, labels)
        backward = getattr(objective, method)(b, a, swapped)
        np.testing.assert_allclose(forward.detach(), backward.detach(), rtol=1e-9)


def test_several_annotations_of_a_pair_are_averaged():
    objective = with_annotators(outcomes=Outcomes(3))
    a, b = draw(FACTOR, 2, 3)
    one = shares(1.0, 0.0, 0.5, 0.8, annotator=[0, 1, -1, 2])
    labels = dataclasses.replace(
        one,
        pair=torch.tensor([0, 0, 0, 1]),
        weight=torch.tensor([1.0, 2.0]),
        rating_chosen=one.rating_chosen[:2],
        rating_rejected=one.rating_rejected[:2],
    )
    spread = [side[[0, 0, 0, 1]] for side in (a, b)]
    for method in ("negative_log_likelihood", "training_loss"):
        each = getattr(objective, method)(*spread, one).detach()
        found = getattr(objective, method)(a, b, labels).detach()
        weight = 2.0 if method == "training_loss" else 1.0  # a weight is for training
        np.testing.assert_allclose(found, [each[:3].mean(), weight * each[3]], rtol=1e-9)
    # each annotator's own prediction, in the order of the annotations
    each = objective.log_prob_preferred(*spread, one)
    np.testing.assert_allclose(
        objective.log_prob_preferred(a, b, labels).detach(), each.detach(), rtol=1e-12
    )


@pytest.mark.parametrize("head", [FACTOR, ENSEMBLE], ids=["factor", "ensemble"])
def test_a_known_annotator_is_averaged_over_what_is_not_known(head):
    objective = with_annotators(head)
    a, b = draw(head, 1, 4)
    labels = shares(1.0, annotator=[1])
    location, scale = (
        part[0].detach().double() for part in objective.annotators.posterior(torch.tensor([1]))
    )
    rng = torch.Generator().manual_seed(0)
    z = location + scale * torch.randn(200_000, *location.shape, generator=rng).double()
    first, second = (FACTOR.distribution(head.by_member(raw)) for raw in (a, b))
    gap = first.mean - second.mean + ((first.loadings - second.loadings) * z).sum(-1)
    noise = torch.hypot(first.independent_stddev, second.independent_stddev)
    probability = torch.special.ndtr(gap / noise).mean().item()  # over z and the members
    predicted = objective.log_prob_preferred(a, b, labels).exp().item()
    assert predicted == pytest.approx(probability, abs=0.003)
    loss = objective.negative_log_likelihood(a, b, labels).item()
    assert loss == pytest.approx(-math.log(predicted))


@pytest.mark.parametrize("who", [[-1] * 5, [-1, 0, -1, 2, -1]], ids=["alone", "among others"])
def test_a_stranger_is_drawn_from_the_population(who):
    a, b = draw(FACTOR, 5, 5)
    known, plain = with_annotators(), Objective(FACTOR)
    strangers = torch.tensor(who) < 0
    for values in ((1.0, 0.0, 0.3, 1.0, 1.0), (1.0,) * 5):
        labels = shares(*values, annotator=who)
        for method in ("negative_log_likelihood", "training_loss", "log_prob_preferred"):
            found, expected = (
                getattr(objective, method)(a, b, labels).detach() for objective in (known, plain)
            )
            np.testing.assert_allclose(found[strangers], expected[strangers], rtol=1e-9)
            assert bool(((found - expected)[~strangers].abs() > 1e-3).all())


def test_variational_bound_is_above_the_predictive_loss():
    objective, points = with_annotators(), with_annotators(inference="map")
    a, b = draw(FACTOR, 30, 6)
    labels = shares(*[1.0] * 15, *[0.0] * 15, annotator=[0, 1, 2] * 10)
    gap = objective.training_loss(a, b, labels) - objective.negative_log_likelihood(a, b, labels)
    assert bool((gap > -1e-12).all())
    assert gap.max().item() > 0.01
    # of points nothing is left open
    found = points.training_loss(a, b, labels).detach()
    expected = points.negative_log_likelihood(a, b, labels).detach()
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize(("spread", "tolerance"), [(0.3, 1e-12), (1.0, 1e-7), (3.0, 2e-3)])
def test_quadrature_is_the_integral_over_the_posterior(spread, tolerance):
    head = heads.make("factor")
    objective = Objective(head, annotators=AnnotatorEmbeddings(["ann"], 1))
    with torch.no_grad():
        objective.annotators.location.fill_(-0.4)
        objective.annotators.log_scale.fill_(math.log(spread))
    # Δμ = 0.3, ΔL = 1, noise √2
    unit = math.log(math.expm1(1.0))
    a, b = torch.tensor([[[0.3, 1.5, unit]], [[0.0, 0.5, unit]]], dtype=torch.float64)
    loss = objective.training_loss(a, b, shares(1.0, annotator=[0])).item()

    def integrand(z):
        return -special.log_ndtr((0.3 - 0.4 + spread * z) / math.sqrt(2)) * math.exp(-z * z / 2)

    expected = integrate.quad(integrand, -30, 30, epsabs=1e-13)[0] / math.sqrt(2 * math.pi)
    # float32 embeddings round −0.4 and the scale
    assert loss == pytest.approx(expected, abs=tolerance + 1e-7)


def test_members_are_trained_each_by_itself():
    outcomes = Outcomes(3, 2)
    with torch.no_grad():
        outcomes.raw_gaps[1] += 1
    objective = with_annotators(ENSEMBLE, outcomes=outcomes)
    a, b = draw(ENSEMBLE, 3, 7)
    labels = shares(1.0, 0.5, 0.3, annotator=[0, 2, -1])
    each = []
    for number in range(2):
        own = objective.of_member(number)
        assert (own.num_members, own.head) == (1, FACTOR)
        assert torch.equal(own.outcomes.raw_gaps[0], objective.outcomes.raw_gaps[number])
        side = [raw[:, 4 * number : 4 * number + 4] for raw in (a, b)]
        each.append(own.training_loss(*side, labels))
        assert own.annotators.names == objective.annotators.names
    np.testing.assert_allclose(
        objective.training_loss(a, b, labels).detach(),
        torch.stack(each).mean(0).detach(),
        rtol=1e-9,
    )
    assert objective.prior().item() == pytest.approx(
        sum(objective.of_member(number).prior().item() for number in range(2)) / 2, rel=1e-6
    )
    # members see pairs as often as they are told
    weight = torch.tensor([[2.0, 0.0], [0.0, 0.0], [1.0, 1.0]]).double()
    found = objective.training_loss(a, b, labels, weight).detach()
    expected = (weight * torch.stack(each, -1)).mean(-1).detach()
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    plain = Objective(ENSEMBLE).training_loss(a, b, labels, weight)
    assert plain[1].item() == 0
    # a loss rests on the outputs of one member only
    raw = a.clone().requires_grad_()
    objective.training_loss(raw, b, labels, weight)[0].backward()
    assert raw.grad[0, :4].abs().min().item() > 0
    assert raw.grad[0, 4:].abs().max().item() == 0


def test_what_members_learned_apart_is_taken_over():
    source = with_annotators(ENSEMBLE, outcomes=Outcomes(5, 2), anchor_weight=0.5)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.normal_()
    target = with_annotators(ENSEMBLE, outcomes=Outcomes(5, 2), anchor_weight=0.5)
    target.take_members([source.of_member(number) for number in range(2)])
    for ours, theirs in zip(target.parameters(), source.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    # networks of one head, whose outputs are averaged, leave the mean of what they learned
    one = with_annotators(FACTOR, outcomes=Outcomes(5), anchor_weight=0.5)
    parts = [one.of_member(number) for number in range(2)]
    with torch.no_grad():
        for parameter in parts[1].parameters():
            parameter += 1
    before = [parameter.clone() for parameter in one.parameters()]
    one.take_members(parts)
    for parameter, start in zip(one.parameters(), before, strict=True):
        np.testing.assert_allclose(parameter.detach(), start.detach() + 0.5, rtol=1e-6)


@pytest.mark.parametrize("head", [FACTOR, ENSEMBLE], ids=["factor", "ensemble"])
def test_rewards_of_an_annotator_compare_as_the_objective_predicts(head):
    objective = with_annotators(head)
    a, b = draw(head, 4, 8)
    rewards = [head.distribution(raw) for raw in (a, b)]
    for name, number in (("bob", 1), ("nobody", -1), (None, -1)):
        first, second = (objective.rewards_of(reward, name) for reward in rewards)
        labels = shares(*[1.0] * 4, annotator=[number] * 4)
        expected = objective.log_prob_preferred(a, b, labels).detach()
        np.testing.assert_allclose(first.log_prob_greater(second), expected, rtol=1e-6)
        assert first.batch_shape == (4,)
    np.testing.assert_allclose(
        objective.rewards_of(rewards[0], None).variance, rewards[0].variance, rtol=1e-9
    )


def test_population_is_the_mean_over_those_who_are_known():
    objective = with_annotators(ENSEMBLE)
    a, b = draw(ENSEMBLE, 4, 9)
    each = [
        objective.log_prob_preferred(a, b, shares(*[1.0] * 4, annotator=[number] * 4)).exp()
        for number in range(3)
    ]
    found = objective.population_log_prob_preferred(a, b).exp()
    np.testing.assert_allclose(found.detach(), (sum(each) / 3).detach(), rtol=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Objective(FACTOR, anchor_weight=-1.0), "anchor_weight is -1.0"),
        (lambda: Objective(FACTOR, anchor_weight=math.inf), "anchor_weight is inf"),
        (lambda: Objective(FACTOR, Outcomes(3, 2)), "another number of members"),
        (
            lambda: Objective(PLAIN["base"], annotators=AnnotatorEmbeddings(["a"], 1)),
            r"need a factor head with as many factors as their embeddings \(1\)",
        ),
        (lambda: Objective(FACTOR, annotators=AnnotatorEmbeddings(["a"], 3)), r"\(3\), not Factor"),
        (lambda: Objective(ENSEMBLE, annotators=AnnotatorEmbeddings(["a"], 2)), "as many factors"),
        (
            lambda: Objective(FACTOR).rewards_of(FACTOR.distribution(torch.zeros(1, 4)), "ann"),
            "knows no annotators",
        ),
        (
            lambda: Objective(FACTOR).population_log_prob_preferred(*torch.zeros(2, 1, 4)),
            "no population",
        ),
    ],
)
def test_what_cannot_work_says_why(call, message):
    with pytest.raises(ConfigError, match=message):
        call()
