"""A linear probe with annotators: tastes are found again, and the population stays right."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from hidden_context import heads
from hidden_context.baselines import LogisticRegression, fit_linear
from hidden_context.errors import DivergedError
from hidden_context.heads.factor import FactorHead
from hidden_context.likelihood import HeadLikelihood, Labels, LikelihoodOptions, make_likelihood
from hidden_context.training import TrainConfig
from hidden_context.training.frozen.features import FeatureSet
from hidden_context.training.frozen.fit import compare_with_baselines
from hidden_context.training.frozen.people import fit_with_annotators
from hidden_context.training.frozen.probe import train_probe
from hidden_context.training.frozen.starts import Beside, LinearStart, silence
from support.builders import preference_rows, train_config

KINDS = ["base", "mean_and_variance", "categorical", "factor", "mixture", "quantile"]


def linear_world(count: int, seed: int, width: int = 12, curved: bool = False) -> FeatureSet:
    """Pairs judged once each by a reward that is linear, or one that no line shows."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(2 * count, width, generator=generator)
    reward = 3 * (features[:, 0].abs() - 0.8) if curved else features[:, 0] - features[:, 1]
    chance = torch.sigmoid(reward[::2] - reward[1::2])
    share = (torch.rand(count, generator=generator) < chance).float()
    return FeatureSet(features, Labels.of_pairs(share))


def folds_of(count: int, members: int) -> list[torch.Tensor]:
    return [torch.arange(count) % 5 == member for member in range(members)]


def config_of(**options):
    defaults = {"probe_members": 3, "probe_batch_size": 64, "probe_epochs": 12}
    return train_config("x", "y", **(defaults | options))


def regression_of(probe, train: FeatureSet):
    pairs = train.voted_pairs(probe.standardised(train.features), train.labels.weight)
    return fit_linear("logistic", pairs)


@pytest.mark.parametrize("kind", KINDS)
def test_every_head_starts_from_the_regression_s_predictions(kind):
    """With no epoch that helps, the probe predicts what logistic regression predicts."""
    train, test = linear_world(300, 1), linear_world(200, 2)
    head = heads.make(kind)
    if not head.can_average:
        head = heads.make("ensemble", member=head, num_members=3, prior_scale=0.0)
    likelihood = make_likelihood(head)
    # steps so large that every epoch is worse than none
    config = config_of(probe_learning_rate=2.0, probe_epochs=2, probe_dropout=0.0)
    probe, history = train_probe(config, likelihood, train, held_out=folds_of(300, 3))
    starts = [entry["validation_loss"] for entry in history if entry["epoch"] == 0]
    assert len(starts) == 3
    assert min(entry["validation_loss"] for entry in history) in starts
    fit = regression_of(probe, train)
    level = probe.standardised(test.features).double().numpy() @ fit.weights
    expected = 1 / (1 + np.exp(level[1::2] - level[::2]))
    with torch.no_grad():
        raw, said = probe(test.features), Labels.of_pairs(torch.ones(200))
        found = likelihood.log_prob_first(raw, said).exp()
    tolerance = {"base": 1e-4, "categorical": 0.03}.get(kind, 0.015)
    assert np.abs(found.numpy() - expected).max() < tolerance


def test_the_network_learns_what_a_line_cannot_show():
    train, test = (linear_world(n, n, curved=True) for n in (1200, 400))
    config = config_of(probe_learning_rate=5e-3, probe_weight_decay=0.05, probe_epochs=30)
    likelihood = HeadLikelihood(heads.make("base"))
    probe, history = train_probe(config, likelihood, train, held_out=folds_of(1200, 3))
    found = compare_with_baselines(likelihood, probe, train, test)
    assert found["logistic"]["loss"] > 0.65
    assert found["probe"]["loss"] < found["logistic"]["loss"] - 0.15
    nobody = FeatureSet(train.features, Labels.of_pairs(torch.zeros(0)))
    assert compare_with_baselines(likelihood, probe, train, nobody) == {}
    for member in range(3):
        curve = [e["validation_loss"] for e in history if e["member"] == member]
        assert curve.index(min(curve)) > 0


def test_members_start_without_what_they_hold_out():
    """Each member's own start is a regression on its part; the probe keeps that of all pairs."""
    train = linear_world(200, 3)
    likelihood = HeadLikelihood(heads.make("base"))
    config = config_of(probe_learning_rate=2.0, probe_epochs=1)
    probe, history = train_probe(config, likelihood, train, held_out=folds_of(200, 3))
    fit = regression_of(probe, train)
    assert probe.slope[0].tolist() == pytest.approx((fit.weights).tolist(), abs=1e-4)
    for member, start in enumerate(e for e in history if e["epoch"] == 0):
        learns = torch.arange(200) % 5 != member
        standardised = probe.standardised(train.features)
        judged = learns.nonzero().squeeze(-1)
        rest = train.voted_pairs(standardised, train.labels.weight, judged)
        assert len(rest) == len(judged)
        level = standardised.double().numpy() @ LogisticRegression(rest).fit(fit.penalty)
        score = level[::2] - level[1::2]
        nats = np.logaddexp(0, score) - train.labels.vote_share.numpy() * score
        assert start["loss"] == pytest.approx(nats[learns.numpy()].mean(), rel=1e-4)
        assert start["validation_loss"] == pytest.approx(nats[~learns.numpy()].mean(), rel=1e-4)


def test_thresholds_are_fitted_to_the_start():
    train = linear_world(200, 5)
    train.labels.comparisons.preference[torch.arange(200) % 3 == 0] = 0.5
    config = config_of(probe_learning_rate=2.0, probe_epochs=1, objective_learning_rate=1e-9)
    likelihood = HeadLikelihood(heads.make("base"), LikelihoodOptions(levels=3))
    train_probe(config, likelihood, train, held_out=folds_of(200, 3))
    # a third of all answers are ties, where responses are mostly close
    assert 0.4 < float(likelihood.outcomes.thresholds.detach()) < 2


def test_a_silent_network_wakes_as_it_was():
    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))
    both = Beside(network, torch.ones(1, 3), torch.zeros(1))
    features = torch.randn(4, 3)
    before = both(features)
    kept = silence(network)
    assert torch.allclose(both(features)[:, 0], features.sum(1))
    network[-1].load_state_dict(kept)
    assert torch.equal(both(features), before)


def test_votes_on_the_same_texts_are_added_up():
    labels = Labels.of_pairs(torch.tensor([1.0, 0.0, 0.5, 1.0]))
    features = torch.tensor([[1.0], [2.0], [2.0], [1.0], [1.0], [2.0], [5.0], [5.0]])
    groups, weight = torch.zeros(8, dtype=torch.long), torch.tensor([1.0, 1.0, 2.0, 1.0])
    data = FeatureSet(features, labels, groups=groups)
    found = data.voted_pairs(features, weight)
    # votes for, against and for both add up: 1 and 1 of the first two for text 1, half of two more;
    # two texts that are the same are one response, which cannot be compared with itself
    assert (len(found), found.votes.tolist()) == (1, [4.0])
    level = found.features[[found.first[0], found.second[0]], 0]
    assert found.share[0] == (0.75 if level[0] < level[1] else 0.25)
    assert data.voted_pairs(features, torch.zeros(4)) is None


@pytest.mark.parametrize("head", ["base", "factor"])  # members of one reward, and an ensemble
def test_a_run_reports_baselines(fit, tmp_path, head):
    rows, test = preference_rows(80, seed=1, words=2), preference_rows(40, seed=2, words=2)
    options = {"freeze_backbone": True, "probe_members": 2, "probe_epochs": 3, "quiet": True}
    options["reward_model_type"] = head
    result = fit(rows, test, **options)
    assert list(result.baselines) == ["constant", "length", "logistic", "ridge", "probe"]
    written = json.loads((tmp_path / "metrics.json").read_text())["baselines"]
    assert written == {name: pytest.approx(values) for name, values in result.baselines.items()}
    assert result.baselines["constant"]["loss"] == pytest.approx(math.log(2))
    assert result.baselines["probe"]["loss"] == pytest.approx(result.metrics["loss"], abs=1e-5)
    assert result.baselines["probe"]["accuracy"] == pytest.approx(result.metrics["accuracy"])
    assert fit(rows, test, into="b", baselines=False, **options).baselines == {}


# ---- A linear probe with annotators: tastes are found again, and the population stays right


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
    labels = Labels.of_pairs((level + 0.6 * noise > 0).float(), who)
    labels = labels.with_comparisons(first=2 * example, second=2 * example + 1, example=example)
    offsets = torch.arange(0, 2 * examples + 1, 2)
    return FeatureSet(features, dataclasses.replace(labels, offsets=offsets)), taste


PEOPLE_CONFIG = TrainConfig(reward_model_type="factor", probe_members=1)


KNOWN = LikelihoodOptions(inference="variational", names=NAMES)


def test_tastes_are_found_again_and_the_population_is_predicted_like_by_a_line():
    train, taste = world(300, seed=1)
    likelihood = make_likelihood(HEAD, KNOWN)
    probe, history = train_probe(PEOPLE_CONFIG, likelihood, train)
    location, scale = (part.detach() for part in likelihood.posterior(torch.arange(PEOPLE)))
    assert abs(torch.corrcoef(torch.stack([location[:, 0], taste]))[0, 1].item()) > 0.95
    mean, loading, _ = probe.slope
    assert int(mean.abs().argmax()) == 0
    assert int(loading.abs().argmax()) == 1
    assert history[-1]["loss"] < history[0]["loss"]
    # contexts have the mean and the variance of their prior
    assert location.mean().item() == pytest.approx(0, abs=1e-5)
    assert (location.square() + scale.square()).mean().item() == pytest.approx(1, abs=1e-4)
    # known annotators are predicted better than the population, and it not worse than by a line
    test, _ = world(200, seed=2)
    raw = probe(test.features)
    own = likelihood.negative_log_likelihood(raw, test.labels).mean().item()
    population = likelihood.negative_log_likelihood(raw, test.labels.judged_by(None)).mean().item()
    assert own < population - 0.1
    base = make_likelihood(heads.make("base"))
    line, _ = train_probe(PEOPLE_CONFIG, base, train)
    plain = base.negative_log_likelihood(line(test.features), test.labels).mean().item()
    assert population < plain + 0.005


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
    said = train.labels.comparisons
    said.preference[said.annotator < PEOPLE // 2] = 0.5
    habits = dataclasses.replace(KNOWN, levels=3, taste=False, habits=("readiness",))
    likelihood = make_likelihood(heads.make("base"), habits)
    probe, history = train_probe(TrainConfig(probe_members=3), likelihood, train)
    assert {entry["member"] for entry in history} == {0.0}
    assert probe.slope.shape == (1, WIDTH)
    readiness = likelihood.habit_posterior(torch.arange(PEOPLE))[0].flatten()
    assert readiness[: PEOPLE // 2].min() > readiness[PEOPLE // 2 :].max()


@pytest.mark.parametrize(("head", "options"), [(heads.make("base"), None), (HEAD, KNOWN)])
def test_members_of_an_ensemble_have_slopes_of_their_own(head, options):
    """By what each of them draws, without annotators or with them."""
    train = linear_world(120, 4) if options is None else world(120, seed=4)[0]
    ensemble = heads.make("ensemble", member=head, num_members=2, prior_scale=0.0)
    draws = torch.ones(120, 2)
    draws[60:, 1] = 0
    likelihood = make_likelihood(ensemble, options)
    probe, _ = train_probe(config_of(probe_members=2), likelihood, train, draws=draws)
    both, half = probe.slope.chunk(2)
    assert float((both - half).norm()) > 0.05
    assert probe.start.shape == (2 * head.num_outputs,)


def started(train: FeatureSet) -> LinearStart:
    pairs = train.voted_pairs(train.features, train.labels.weight)
    assert pairs is not None
    return LinearStart(HEAD, pairs)


def test_a_loss_that_is_not_finite_stops_training():
    train, _ = world(20, seed=5)
    start = started(train)
    start.start = start.start + torch.nan
    with pytest.raises(DivergedError, match="not finite"):
        fit_with_annotators(PEOPLE_CONFIG, make_likelihood(HEAD, KNOWN), train, start)


def test_people_who_agree_on_nothing_still_have_tastes():
    """The regression of all votes says nothing, and so has no unit."""
    train, taste = world(150, seed=6)
    start = started(train)
    start.along = torch.zeros(3)
    weights = 0 * start.baseline.weights
    start.baseline = dataclasses.replace(start.baseline, weights=weights, penalty=1e-3)
    likelihood = make_likelihood(HEAD, KNOWN)
    fit_with_annotators(PEOPLE_CONFIG, likelihood, train, start)
    location = likelihood.posterior(torch.arange(PEOPLE))[0][:, 0].detach()
    assert abs(torch.corrcoef(torch.stack([location, taste]))[0, 1].item()) > 0.9
