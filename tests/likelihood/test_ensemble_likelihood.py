"""The likelihood of an ensemble: its members' own, trained apart and averaged as probabilities."""

import dataclasses

import numpy as np
import pytest
import torch

from hidden_context import heads
from hidden_context.likelihood import (
    EnsembleLikelihood,
    HeadLikelihood,
    Labels,
    LikelihoodOptions,
    make_likelihood,
)
from likelihood.making import (
    ENSEMBLE,
    FACTOR,
    NAMES,
    comparisons,
    draw,
    moved,
    own_outputs,
    ratings,
)

WHO = {"inference": "variational", "names": NAMES, "habits": ("readiness", "sharpness")}
OPTIONS = LikelihoodOptions(levels=3, rating_weight=0.5, styles=True, seed=7, **WHO)
LABELS = Labels(
    comparisons(
        {"first": 0, "second": 1, "annotator": 0},
        {"first": 2, "second": 0, "annotator": 2, "preference": 0.5},
        {"first": 3, "second": 4, "annotator": -1, "preference": 0.3, "example": 1},
    ),
    ratings([1, 5], [0.5, -1.0], [1, -1], [0, 1]),
    torch.tensor([0, 3, 6]),
    torch.tensor([[2, 0], [1, 1]]),
)


def ensemble(options=OPTIONS, head=ENSEMBLE):
    return moved(make_likelihood(head, options), 3)


def each(likelihood, raw):
    """Members with their own raw outputs."""
    return list(zip(likelihood.members, own_outputs(likelihood.head, raw), strict=True))


def test_members_are_likelihoods_that_share_nothing():
    made = make_likelihood(ENSEMBLE, OPTIONS)
    assert isinstance(made, EnsembleLikelihood)
    assert len(made.members) == 2
    for number, member in enumerate(made.members):
        assert isinstance(member, HeadLikelihood)
        assert (member.head, member.options.seed) == (FACTOR, 7 + number)
        assert member.options == made.options
        assert member.names.names == made.names.names == NAMES
    first, second = (list(member.parameters()) for member in made.members)
    assert not {id(parameter) for parameter in first} & {id(parameter) for parameter in second}
    assert len(list(made.parameters())) == len(first) + len(second)
    # they start apart, each like a likelihood of its own seed
    assert not torch.equal(*(member.annotators.location for member in made.members))
    alone = HeadLikelihood(FACTOR, dataclasses.replace(OPTIONS, seed=8))
    for ours, theirs in zip(second, alone.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_loss_is_the_mean_of_the_members_own_by_their_draws():
    likelihood, raw = ensemble(), draw(ENSEMBLE, 3, 7)
    own = torch.stack([member(part, LABELS) for member, part in each(likelihood, raw)])
    assert own.shape == (2, 5)
    assert (own[0] - own[1]).abs().min().item() > 1e-3
    once = likelihood(raw, dataclasses.replace(LABELS, draws=None))
    np.testing.assert_allclose(once.detach(), own.mean(0).detach(), rtol=1e-12)
    # judgements 0, 1 and 3 are of example 0, which member 0 sees twice and member 1 never
    draws = torch.tensor([[2, 2, 1, 2, 1], [0, 0, 1, 0, 1]])
    found = likelihood(raw, LABELS)
    np.testing.assert_allclose(found.detach(), (draws * own).mean(0).detach(), rtol=1e-12)
    # a loss rests on the outputs of members that see it only
    outputs = raw.clone().requires_grad_()
    likelihood.zero_grad()
    likelihood(outputs, LABELS)[0].backward()
    assert outputs.grad[0, :4].abs().min().item() > 0
    assert outputs.grad[:, 4:].abs().max().item() == 0
    assert likelihood.members[0].annotators.location.grad[0].abs().min().item() > 0
    assert likelihood.members[1].annotators.location.grad.abs().max().item() == 0


def test_predictions_average_probabilities():
    likelihood, raw = ensemble(), draw(ENSEMBLE, 3, 8)
    found = likelihood.predict(raw, LABELS)
    own = [member.predict(part, LABELS) for member, part in each(likelihood, raw)]
    for name in ("forward", "backward", "ratings"):
        expected = torch.stack([getattr(part, name) for part in own]).exp().mean(0)
        np.testing.assert_allclose(
            getattr(found, name).exp().detach(), expected.detach(), rtol=1e-12
        )
    assert torch.equal(found.share, own[0].share)
    loss = likelihood.negative_log_likelihood(raw, LABELS).detach()
    once = likelihood.negative_log_likelihood(raw, dataclasses.replace(LABELS, draws=None))
    np.testing.assert_array_equal(loss, once.detach())  # draws play no part
    first = likelihood.log_prob_first(raw, LABELS).exp().detach()
    own = [m.log_prob_first(part, LABELS).exp().detach() for m, part in each(likelihood, raw)]
    np.testing.assert_allclose(first, sum(own) / 2, rtol=1e-12)


def test_prior_is_the_members_mean():
    likelihood = ensemble()
    own = [member.prior().item() for member in likelihood.members]
    assert own[0] != pytest.approx(own[1], rel=1e-3)
    assert likelihood.prior().item() == pytest.approx(sum(own) / 2, rel=1e-6)
    assert likelihood.prior().shape == ()


@pytest.mark.parametrize("method", ["posterior", "habit_posterior"])
def test_posteriors_have_a_row_for_each_member(method):
    likelihood, who = ensemble(), torch.tensor([1, -1, 2])
    found = getattr(likelihood, method)(who)
    for number, member in enumerate(likelihood.members):
        for part, own in zip(found, getattr(member, method)(who), strict=True):
            assert part.shape == (3, 2, 2)
            assert torch.equal(part[:, number], own)


@pytest.mark.parametrize("inference", ["variational", "map"])
def test_rewards_of_an_annotator_are_the_members_own(inference):
    head = heads.EnsembleHead(FACTOR, 2, location=(0.5, -1.0), scale=(2.0, 0.5))
    likelihood = ensemble(LikelihoodOptions(inference=inference, names=NAMES), head)
    raw = draw(head, 3, 9)
    rewards = head.distribution(raw)
    everybody = likelihood.rewards_by_annotator(rewards, [*NAMES, "nobody"])
    assert everybody.batch_shape == (4, 6)
    for number, name in enumerate([*NAMES, "nobody"]):
        found = likelihood.rewards_of(rewards, name)
        assert found.batch_shape == (6,)
        for place, (member, part) in enumerate(each(likelihood, raw)):
            own = member.rewards_of(FACTOR.distribution(part), name)
            for ours in (found, everybody[number]):
                np.testing.assert_allclose(ours.members[:, place].mean, own.mean, rtol=1e-12)
                np.testing.assert_allclose(
                    ours.members[:, place].variance, own.variance, rtol=1e-12
                )
    np.testing.assert_array_equal(likelihood.rewards_by_annotator(rewards).mean, everybody[:3].mean)
