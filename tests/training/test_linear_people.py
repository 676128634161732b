"""A linear probe with annotators: tastes are found again, and the population stays right."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from hidden_context import heads
from hidden_context.errors import DivergedError
from hidden_context.heads.factor import FactorHead
from hidden_context.likelihood import Labels, LikelihoodOptions, make_likelihood
from hidden_context.training import TrainConfig
from hidden_context.training.features import FeatureSet
from hidden_context.training.linear_people import fit_with_annotators
from hidden_context.training.linear_start import LinearStart
from hidden_context.training.probe import train_probe

PEOPLE, WIDTH = 40, 6
NAMES = tuple(map(str, range(PEOPLE)))
HEAD = heads.make("factor", num_factors=1)


def world(examples: int, seed: int, votes: int = 8) -> tuple[FeatureSet, Tensor]:
    """Everybody wants feature 0; feature 1 divides the people, half of whom hate it."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(2 * examples, WIDTH, generator=generator)
    taste = torch.linspace(-1.5, 1.5, PEOPLE)
    example = torch.arange(examples).repeat_interleave(votes)
    who = torch.randint(PEOPLE, (examples * votes,), generator=generator)
    gap = features[0::2] - features[1::2]
    level = 0.8 * gap[example, 0] + taste[who] * gap[example, 1]
    noise = torch.logit(torch.rand(len(who), generator=generator).clamp(1e-6, 1 - 1e-6))
    said = (level + 0.6 * noise > 0).float()
    labels = Labels.of_pairs(said, who)
    compared = dataclasses.replace(
        labels.comparisons, first=2 * example, second=2 * example + 1, example=example
    )
    offsets = torch.arange(0, 2 * examples + 1, 2)
    return FeatureSet(features, Labels(compared, labels.ratings, offsets)), taste


def config(**options: object) -> TrainConfig:
    return TrainConfig(reward_model_type="factor", probe_members=1, **options)  # type: ignore[arg-type]


def options(**more: object) -> LikelihoodOptions:
    return LikelihoodOptions(inference="variational", names=NAMES, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def trained():
    train, taste = world(300, seed=1)
    likelihood = make_likelihood(HEAD, options())
    probe, history = train_probe(config(), likelihood, train)
    return probe, likelihood, history, taste


def test_tastes_and_what_they_are_about_are_found_again(trained):
    probe, likelihood, history, taste = trained
    location, _ = likelihood.posterior(torch.arange(PEOPLE))
    together = torch.corrcoef(torch.stack([location[:, 0].detach(), taste]))
    assert abs(together[0, 1].item()) > 0.95
    mean, loading, _ = probe.slope
    assert int(mean.abs().argmax()) == 0
    assert int(loading.abs().argmax()) == 1
    assert history[-1]["loss"] < history[0]["loss"]


def test_known_annotators_are_predicted_better_than_the_population_and_it_not_worse_than_a_line(
    trained,
):
    probe, likelihood, _, _ = trained
    test, _ = world(200, seed=2)
    raw = probe(test.features)
    own = likelihood.negative_log_likelihood(raw, test.labels).mean().item()
    population = likelihood.negative_log_likelihood(raw, test.labels.judged_by(None)).mean().item()
    assert own < population - 0.1
    base = make_likelihood(heads.make("base"))
    line, _ = train_probe(config(), base, world(300, seed=1)[0])
    plain = base.negative_log_likelihood(line(test.features), test.labels).mean().item()
    assert population < plain + 0.005


def test_contexts_have_the_mean_and_the_variance_of_their_prior(trained):
    location, scale = (part.detach() for part in trained[1].posterior(torch.arange(PEOPLE)))
    assert location.mean().item() == pytest.approx(0, abs=1e-5)
    assert (location.square() + scale.square()).mean().item() == pytest.approx(1, abs=1e-4)


def test_counting_contexts_from_elsewhere_changes_no_rewards():
    raw, z = torch.randn(5, 4), torch.randn(5, 2)
    head = heads.make("factor", num_factors=2)
    assert isinstance(head, FactorHead)
    mean, unit = torch.tensor([0.3, -2.0]), torch.tensor([0.5, 3.0])
    moved = head.distribution(head.with_context_at(raw, mean, unit)).given((z - mean) / unit)
    torch.testing.assert_close(moved.mean, head.distribution(raw).given(z).mean)
    torch.testing.assert_close(moved.variance, head.distribution(raw).given(z).variance)


def test_a_base_head_learns_habits_once_for_all_members():
    train, _ = world(100, seed=3)
    ties = dataclasses.replace(
        train.labels.comparisons,
        preference=torch.where(
            train.labels.comparisons.annotator < PEOPLE // 2,
            torch.tensor(0.5),
            train.labels.comparisons.preference,
        ),
    )
    train = dataclasses.replace(train, labels=dataclasses.replace(train.labels, comparisons=ties))
    likelihood = make_likelihood(
        heads.make("base"), options(levels=3, taste=False, habits=("readiness",))
    )
    settings = dataclasses.replace(config(), reward_model_type="base", probe_members=3)
    probe, history = train_probe(settings, likelihood, train)
    assert {entry["member"] for entry in history} == {0.0}
    assert probe.slope.shape == (1, WIDTH)
    readiness = likelihood.habit_posterior(torch.arange(PEOPLE))[0].flatten()
    assert readiness[: PEOPLE // 2].min() > readiness[PEOPLE // 2 :].max()


def test_members_of_an_ensemble_have_slopes_of_their_own():
    train, _ = world(60, seed=4)
    head = heads.make("ensemble", member=HEAD, num_members=2)
    settings = dataclasses.replace(config(), probe_members=2)
    draws = torch.poisson(torch.ones(60, 2), torch.Generator().manual_seed(0))
    probe, _ = train_probe(settings, make_likelihood(head, options()), train, draws=draws)
    assert probe.slope.shape == (6, WIDTH)
    assert not torch.allclose(probe.slope[:3], probe.slope[3:])


def test_a_loss_that_is_not_finite_stops_training():
    train, _ = world(20, seed=5)
    likelihood = make_likelihood(HEAD, options())
    pairs = train.voted_pairs(train.features, train.labels.weight)
    assert pairs is not None
    start = LinearStart(HEAD, pairs)
    start.start = start.start + torch.nan
    with pytest.raises(DivergedError, match="not finite"):
        fit_with_annotators(config(), likelihood, train, start)


def test_people_who_agree_on_nothing_still_have_tastes():
    """The regression of all votes says nothing, and so has no unit."""
    train, taste = world(150, seed=6)
    pairs = train.voted_pairs(train.features, train.labels.weight)
    assert pairs is not None
    start = LinearStart(HEAD, pairs)
    start.along, start.baseline = (
        torch.zeros(3),
        dataclasses.replace(start.baseline, weights=0 * start.baseline.weights, penalty=1e-3),
    )
    likelihood = make_likelihood(HEAD, options())
    fit_with_annotators(config(), likelihood, train, start)
    location = likelihood.posterior(torch.arange(PEOPLE))[0][:, 0].detach()
    assert abs(torch.corrcoef(torch.stack([location, taste]))[0, 1].item()) > 0.9
