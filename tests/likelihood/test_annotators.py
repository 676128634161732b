"""What is known of each annotator: names, a posterior in the factors' space, covariates."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from hidden_context import heads
from hidden_context.errors import ConfigError
from hidden_context.likelihood import (
    HABITS,
    AnnotatorEmbeddings,
    AnnotatorHabits,
    AnnotatorNames,
    CovariateCoding,
    LikelihoodOptions,
    make_likelihood,
)
from hidden_context.likelihood.covariates import FEWEST_PEOPLE, Covariate
from likelihood.making import moved

NAMES = ["ann", "bob", "7"]
KINDS = {
    "contexts": lambda count, inference: AnnotatorEmbeddings(count, 2, inference),
    "habits": lambda count, inference: AnnotatorHabits(count, HABITS[1:], inference),
}
START = {"contexts": 1.0, "habits": 0.5}


def posterior(kind, inference="variational"):
    """Three people's contexts or habits, two of each, and the scale of their prior."""
    made = moved(KINDS[kind](3, inference).double())
    return made, made.prior_scale.detach()


@pytest.mark.parametrize("kind", KINDS)
def test_prior_is_the_divergence_of_the_posteriors_and_least_at_the_prior(kind):
    made, scale = posterior(kind)
    expected = kl_divergence(Normal(made.location, made.log_scale.exp()), Normal(0.0, scale))
    assert made.prior().item() == pytest.approx(expected.sum().item(), rel=1e-9)
    with torch.no_grad():
        made.location.zero_()
        made.log_scale.copy_(scale.log().expand_as(made.log_scale))
    made.prior().backward()
    assert made.prior().item() == pytest.approx(0, abs=1e-12)
    for learned in (made.location, made.log_scale):
        assert learned.grad.abs().max().item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_points_are_known_exactly_and_pay_their_squared_length(kind):
    made, prior = posterior(kind, "map")
    assert made.log_scale is None
    expected = 0.5 * (made.location / prior).square().sum().item()
    assert made.prior().item() == pytest.approx(expected, rel=1e-9)
    location, scale = made.posterior(torch.tensor([0, -1]))
    assert torch.equal(location[0], made.location[0])
    assert location[1].tolist() == [0, 0]
    assert scale.tolist() == [[0, 0], prior.tolist()]
    fixed = {name for name, one in made.named_parameters() if not one.requires_grad}
    assert fixed == ({"log_prior_scale"} if kind == "habits" else set())


@pytest.mark.parametrize("kind", KINDS)
def test_posterior_of_a_stranger_is_the_prior(kind):
    made, prior = posterior(kind)
    location, scale = made.posterior(torch.tensor([1, -1, 0]))
    assert location.shape == scale.shape == (3, 2)
    assert torch.equal(location[0], made.location[1])
    assert torch.equal(scale[2], made.log_scale[0].exp())
    assert (location[1].tolist(), scale[1].tolist()) == ([0, 0], prior.tolist())
    # and learns nothing from the label
    (location[1].sum() + scale[1].sum()).backward()
    assert made.location.grad.abs().max().item() == made.log_scale.grad.abs().max().item() == 0


@pytest.mark.parametrize("inference", ["variational", "map"])
@pytest.mark.parametrize("kind", KINDS)
def test_without_names_everyone_is_a_stranger(kind, inference):
    made = KINDS[kind](0, inference)
    location, scale = made.posterior(torch.tensor([-1, -1]))
    assert (location.tolist(), scale.tolist()) == ([[0, 0]] * 2, [[START[kind]] * 2] * 2)
    assert made.prior().item() == 0


def test_names_are_found_and_strangers_are_not():
    names = AnnotatorNames(NAMES, "objective")
    assert [names.index(name) for name in ("ann", "bob", "7", 7)] == [0, 1, 2, 2]
    assert [names.index(name) for name in ("cat", None, "")] == [-1, -1, -1]
    assert (len(names), names.names, names.column) == (3, ("ann", "bob", "7"), "objective")
    assert AnnotatorNames(NAMES).column == "annotator"
    nobody = AnnotatorNames(())
    assert (len(nobody), nobody.index("ann")) == (0, -1)


def test_start_is_set_by_the_seed_and_near_the_prior():
    first, again, other = (AnnotatorEmbeddings(3, 1, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.location, again.location)
    assert not torch.equal(first.location, other.location)
    many = AnnotatorEmbeddings(2000, 2)
    # scattered, so that loadings have something to pull at, and far from certain
    assert many.location.std().item() == pytest.approx(0.3, rel=0.05)
    assert many.log_scale.exp().unique().item() == pytest.approx(0.5)
    assert not math.isnan(many.prior().item())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: AnnotatorNames(["a", "b", "a"]), "must be distinct"),
        (lambda: AnnotatorEmbeddings(1, 0), "at least one factor"),
        (lambda: AnnotatorEmbeddings(1, 1, inference="mcmc"), "choose variational or map"),
    ],
)
def test_what_cannot_work_says_why(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


def test_a_quantity_is_standardised_over_the_people():
    coding = CovariateCoding.of([{"age": float(age)} for age in (20, 30, 40, 50, 60)])
    assert coding.columns == (Covariate("age", None, 40.0, math.sqrt(200)),)
    coded = coding.encode([{"age": 40.0}, {"age": 40 + math.sqrt(200)}, {}])
    torch.testing.assert_close(coded, torch.tensor([[0.0], [1.0], [0.0]]))


def test_each_answer_of_enough_people_has_a_column():
    people = [{"region": "north"}] * 6 + [{"region": "south"}] * 5 + [{"region": "west"}] * 2
    coding = CovariateCoding.of(people)
    assert [column.level for column in coding.columns] == ["north", "south"]
    coded = coding.encode(people)
    torch.testing.assert_close(coded.mean(0), torch.zeros(2), rtol=0, atol=1e-6)
    torch.testing.assert_close(coded.square().mean(0), torch.ones(2))


def test_no_group_below_five_people_and_nothing_that_does_not_vary_has_a_column():
    few = [{"sex": "f"}] * (FEWEST_PEOPLE - 1) + [{"sex": "m"}] * 20
    assert CovariateCoding.of(few).columns == ()
    same = [{"land": "x", "age": 3.0}] * 9
    assert CovariateCoding.of(same).columns == ()
    assert CovariateCoding.of(same).encode(same).shape == (9, 0)


AGES = CovariateCoding.of([{"age": float(age)} for age in range(6)])


def test_covariates_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="'age' is a quantity"):
        AGES.encode([{"age": "old"}])
    options = LikelihoodOptions(inference="variational", names=("a", "b"), covariates=AGES)
    with pytest.raises(ConfigError, match="shape"):
        make_likelihood(heads.make("factor"), options, torch.zeros((3, 1)))


def test_nobody_known_is_the_average_person():
    options = LikelihoodOptions(inference="variational", covariates=AGES)
    likelihood = make_likelihood(heads.make("factor"), options)
    assert likelihood.posterior(torch.tensor([-1]))[0].tolist() == [[0.0]]
