"""New people: a few judgements move their posterior, and nothing else."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from hidden_context import heads
from hidden_context.errors import ConfigError
from hidden_context.likelihood import (
    CovariateCoding,
    Labels,
    LikelihoodOptions,
    adapt,
    make_likelihood,
)
from likelihood.making import ENSEMBLE, FACTOR, draw, moved, pairs, ratings, with_annotators


def trained(head=FACTOR, **options):
    """A likelihood with tastes and readiness, as training may have left it."""
    return moved(with_annotators(head, levels=3, habits=("readiness",), **options).double())


@pytest.mark.parametrize("head", [FACTOR, ENSEMBLE], ids=lambda head: head.type)
def test_without_judgements_a_new_person_is_somebody_of_the_population(head):
    old = trained(head)
    raw, labels = draw(head, 3), pairs([1, 0.5, 0], [0, 0, 0])
    new = adapt(old, raw, Labels.of_pairs(torch.zeros(0)), ["zoe"])
    expected = old.outcome_log_probs(raw, labels.judged_by(None))
    torch.testing.assert_close(new.outcome_log_probs(raw, labels), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("head", [FACTOR, ENSEMBLE], ids=lambda head: head.type)
def test_judgements_move_the_person_who_gave_them_and_nothing_that_was_learned(head):
    old = trained(head)
    before = {name: values.clone() for name, values in old.state_dict().items()}
    raw = draw(head, 6)
    new = adapt(old, raw, pairs([1, 1, 0, 1, 0.5, 0.5], [0, 0, 0, 0, 0, 0]), ["zoe", "yan"])
    assert all(torch.equal(values, before[name]) for name, values in old.state_dict().items())
    (zoe, yan), (zoe_scale, yan_scale) = new.posterior(torch.tensor([0, 1]))
    assert zoe.abs().max() > 0.05
    assert yan.abs().max() < 1e-6
    assert bool((zoe_scale <= yan_scale + 1e-6).all())
    labels = pairs([1, 1, 0, 1, 0.5, 0.5], [0, 0, 0, 0, 0, 0])
    own, other = (new(raw, labels.judged_by(number)).sum() for number in (0, 1))
    assert own + new.prior() < other
    assert not new.training
    assert not any(p.requires_grad for p in new.parameters())


def test_adapting_finds_what_training_found_of_the_same_judgements():
    """The posterior of a person is the same whether training or adapting computes it."""
    old = trained()
    raw, labels = draw(FACTOR, 8), pairs([1, 0, 1, 1, 0.5, 0, 0, 1], [0] * 8)
    new = adapt(old, raw, labels, ["zoe"])

    def bound(likelihood, number: int) -> Tensor:
        return likelihood(raw, labels.judged_by(number)).sum()

    # the bound of the adapted person is below that of everybody whom training has left somewhere
    cost = bound(new, 0) + new.prior()
    for number in range(3):
        alone = dataclasses.replace(new.options, names=("x",))
        copied = make_likelihood(FACTOR, alone).double()
        copied.load_state_dict(
            {
                name: values[number : number + 1] if values.dim() and len(values) == 3 else values
                for name, values in old.state_dict().items()
            }
        )
        assert cost < bound(copied, 0) + copied.prior()


def test_many_people_at_once_are_the_people_one_at_a_time():
    old, raw = trained(), draw(FACTOR, 6)
    labels = pairs([1, 0, 1, 0.5, 0, 1], [0, 0, 0, 1, 1, 1])
    both = adapt(old, raw, labels, ["a", "b"]).posterior(torch.tensor([0, 1]))[0]
    first = adapt(old, raw[:6], pairs([1, 0, 1], [0, 0, 0]), ["a"]).posterior(torch.tensor([0]))[0]
    torch.testing.assert_close(both[:1], first, rtol=0, atol=0.02)


def test_ratings_adapt_a_persons_style():
    old = moved(with_annotators(rating_weight=1.0, styles=True).double())
    raw = draw(FACTOR, 4)
    means = old.head.distribution(raw).mean
    said = ratings(range(8), (means + 2).tolist(), [0] * 8)
    labels = dataclasses.replace(Labels.of_pairs(torch.zeros(0).double()), ratings=said)
    new = adapt(old, raw, labels, ["high"])
    assert 0.5 < new.ratings.styles.level.item() < 2.5


def test_covariates_give_a_new_person_the_start_of_people_like_them():
    people = [{"group": "x"}] * 6 + [{"group": "y"}] * 6
    coding = CovariateCoding.of(people)
    who = {"inference": "variational", "names": tuple(map(str, range(12))), "covariates": coding}
    options = LikelihoodOptions(levels=3, habits=("readiness",), **who)
    old = make_likelihood(FACTOR, options, coding.encode(people)).double()
    with torch.no_grad():
        old.covariates.coefficients[:, 0] = torch.tensor([0.5, -0.5])
        old.covariates.coefficients[:, 2] = torch.tensor([0.2, -0.2])
    nothing, known = Labels.of_pairs(torch.zeros(0)), [{"group": "x"}, {"group": "y"}, {}]
    new = adapt(old, draw(FACTOR, 1), nothing, ["p", "q", "r"], known)
    place = torch.arange(3)
    # x and y are half each, so that x is +1 in its own column and −1 in the other's
    assert new.posterior(place)[0][:, 0].tolist() == pytest.approx([1, -1, 0])
    assert new.habit_posterior(place)[0][:, 0].tolist() == pytest.approx([0.4, -0.4, 0])
    assert old.prior() > make_likelihood(FACTOR, options, coding.encode(people)).prior()


def test_what_cannot_be_adapted_is_refused():
    old, raw = trained(), draw(FACTOR, 1)
    with pytest.raises(ConfigError, match="trained without annotators"):
        adapt(make_likelihood(FACTOR), raw, pairs([1], [0]), ["a"])
    with pytest.raises(ConfigError, match="without covariates"):
        adapt(old, raw, pairs([1], [0]), ["a"], [{"age": 3.0}])
    with pytest.raises(ConfigError, match="annotator index 1, but names"):
        adapt(old, raw, pairs([1], [1]), ["a"])
    with pytest.raises(ConfigError, match="distinct"):
        adapt(old, raw, pairs([1], [0]), ["a", "a"])


def test_a_base_head_adapts_habits_alone():
    base = heads.make("base")
    options = LikelihoodOptions(
        levels=3, inference="variational", taste=False, habits=("readiness",), names=("a",)
    )
    old = make_likelihood(base, options).double()
    new = adapt(old, torch.zeros((20, 1)).double(), pairs([0.5] * 10, [0] * 10), ["tied"])
    assert new.habit_posterior(torch.tensor([0]))[0].item() > 0.2
