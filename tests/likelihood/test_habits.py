"""Annotators' sharpness, readiness to tie and position: closed forms, symmetry, recovery."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

from hidden_context import heads
from hidden_context.errors import ConfigError
from hidden_context.heads import Head
from hidden_context.likelihood import (
    HABITS,
    Labels,
    LikelihoodOptions,
    make_likelihood,
)
from hidden_context.likelihood.single import members_of
from likelihood.making import ENSEMBLE, FACTOR, NAMES, draw, minimise, moved, pairs

BASE = heads.make("base")
NORMAL = heads.make("mean_and_variance", likelihood="probit")
ALL = tuple(HABITS)


def likelihood(head: Head, *habits: str, seed: int | None = 0, **options: Any) -> Any:
    """A likelihood of three annotators with habits, everything moved off its start."""
    options = {"levels": 3, "inference": "variational", "names": NAMES, **options}
    made = make_likelihood(
        head, LikelihoodOptions(habits=habits, taste=head.num_factors > 0, **options)
    ).double()
    return made if seed is None else moved(made, seed)


def put(values: Tensor | None, *rows: float) -> None:
    with torch.no_grad():
        values.copy_(torch.tensor(rows, dtype=values.dtype).reshape(values.shape))


@pytest.mark.parametrize("head", [BASE, NORMAL, FACTOR, ENSEMBLE], ids=lambda head: head.type)
def test_answers_sum_to_one_and_are_what_is_predicted(head):
    own, raw = likelihood(head, *ALL), draw(head, 4)
    labels = pairs([1, 0.5, 0, 1], [0, 1, 2, -1])
    answers = own.outcome_log_probs(raw, labels)
    torch.testing.assert_close(answers.exp().sum(-1), torch.ones(4).double())
    said = own.predict(raw, labels)
    torch.testing.assert_close(said.forward[[0, 3]], answers[[0, 3], 0])
    torch.testing.assert_close(said.forward[1], answers[1, 1])
    torch.testing.assert_close(said.backward[2], answers[2, 2])


def test_a_known_annotator_has_the_closed_form_of_their_habits():
    own = likelihood(BASE, *ALL, seed=None)
    put(own.habits.location, *(0.4, 0.7, -0.2), *(0, 0, 0), *(0, 0, 0))
    put(own.habits.log_scale, *[-40.0] * 9)
    put(own.habits.position_mean, 0.1)
    raw = torch.tensor([[1.3], [0.4]]).double()
    threshold = own.outcomes.thresholds[0].item() * math.exp(0.7)
    noise = stats.logistic(loc=0.9 - 0.2 + 0.1, scale=math.exp(-0.4))
    expected = [noise.sf(threshold), noise.cdf(threshold) - noise.cdf(-threshold)]
    found = own.outcome_log_probs(raw, pairs([1], [0])).exp()[0].tolist()
    assert found == pytest.approx([*expected, noise.cdf(-threshold)], rel=1e-6)


def test_somebody_unknown_is_averaged_over_the_prior():
    own = likelihood(NORMAL, "sharpness", "readiness", seed=None)
    put(own.habits.log_prior_scale, math.log(0.3), math.log(0.4))
    raw = torch.tensor([[0.8, 0.2], [0.1, -0.3]]).double()
    difference = own.head.distribution(raw[:1]).difference(own.head.distribution(raw[1:]))
    threshold = own.outcomes.thresholds[0].item()

    def density(readiness: float, sharpness: float) -> float:
        width = float(difference.scale) * math.exp(-sharpness)
        above = stats.norm.sf((threshold * math.exp(readiness) - float(difference.mean)) / width)
        weight = stats.norm.pdf(sharpness / 0.3) / 0.3 * stats.norm.pdf(readiness / 0.4) / 0.4
        return float(above * weight)

    expected = integrate.dblquad(density, -2.5, 2.5, -3, 3)[0]
    found = own.outcome_log_probs(raw, pairs([1])).exp()[0, 0].item()
    assert found == pytest.approx(expected, abs=2e-4)


def test_the_bound_is_below_the_prediction():
    own, raw = likelihood(FACTOR, *ALL), draw(FACTOR, 5)
    labels = pairs([1, 0.5, 0, 1, 0], [0, 1, 2, 0, 1])
    assert bool((own(raw, labels) > own.negative_log_likelihood(raw, labels)).all())


def test_exchanging_the_responses_exchanges_the_answers_unless_the_position_counts():
    raw = draw(FACTOR, 3)
    labels = pairs([1, 1, 1], [0, 1, -1])
    without = likelihood(FACTOR, "sharpness", "readiness")
    mirrored = without.outcome_log_probs(raw, labels.swapped())
    torch.testing.assert_close(without.outcome_log_probs(raw, labels), mirrored.flip(-1))
    place = likelihood(FACTOR, "position")
    put(place.habits.position_mean, 1.0)
    put(place.habits.location, 0, 0, 0)
    equal = Labels.of_pairs(torch.ones(1), torch.tensor([0]))
    same = torch.zeros((2, FACTOR.num_outputs)).double()
    first, _, second = place.outcome_log_probs(same, equal).exp()[0].tolist()
    assert first > second
    # whom they prefer is asked of the responses, wherever they stood
    assert place.log_prob_first(same, equal).exp().item() == pytest.approx(0.5)


def test_a_sharper_annotator_prefers_the_better_response_more_often():
    own = likelihood(NORMAL, "sharpness", seed=None, levels=2)
    put(own.habits.location, 1.0, 0.0, -1.0)
    raw = torch.tensor([[1.0, 0.0], [0.0, 0.0]]).double().repeat(3, 1)
    chances = own.log_prob_first(raw, pairs([1, 1, 1], [0, 1, 2])).exp().tolist()
    assert chances[0] > chances[1] > chances[2] > 0.5


@pytest.mark.parametrize(
    ("head", "options", "message"),
    [
        (BASE, {"habits": ("readiness",), "levels": 2}, "needs ties"),
        (BASE, {"habits": ("mood",)}, "choose among"),
        (BASE, {"habits": ("position", "position")}, "each once"),
        (BASE, {"habits": ("position",), "inference": None}, "but it is None"),
        (heads.make("categorical"), {"habits": ("sharpness",)}, "no noise"),
    ],
)
def test_habits_that_nothing_could_show_are_refused(head, options, message):
    given = {"levels": 3, "inference": "variational", "taste": False, **options}
    with pytest.raises(ConfigError, match=message):
        make_likelihood(head, LikelihoodOptions(**given))


def test_without_habits_there_is_no_posterior_of_them():
    with pytest.raises(ConfigError, match="no habits"):
        make_likelihood(BASE).habit_posterior(torch.tensor([0]))


def test_known_habits_and_their_scales_are_found_again():
    """300 people, 40 votes each: readiness and position with their scales, nothing imagined."""
    generator = torch.Generator().manual_seed(1)
    people, votes = 300, 40
    who = torch.arange(people).repeat_interleave(votes)
    ready = 0.6 * torch.randn(people, generator=generator)
    place = 0.5 + 0.8 * torch.randn(people, generator=generator)
    gap = torch.randn(people * votes, generator=generator)
    noise = torch.logit(torch.rand(people * votes, generator=generator).clamp(1e-6, 1 - 1e-6))
    difference = gap + place[who] + noise
    width = 0.7 * ready.exp()[who]
    said = 0.5 + 0.5 * ((difference > width).float() - (difference < -width).float())
    labels = Labels.of_pairs(said, who)
    raw = torch.stack([gap, torch.zeros_like(gap)], 1).reshape(-1, 1)
    names = tuple(map(str, range(people)))
    options = LikelihoodOptions(
        levels=3, inference="variational", taste=False, habits=ALL, names=names
    )
    own = make_likelihood(BASE, options)

    def loss() -> Tensor:
        return (own(raw, labels).sum() + own.prior()) / len(said)

    minimise(loss, own.parameters(), max_iter=60)
    (head,) = members_of(own)
    sharpness, readiness, position = head.habits.prior_scale.tolist()
    assert sharpness < 0.25  # nobody differs in it
    assert readiness == pytest.approx(0.6, abs=0.1)
    assert position == pytest.approx(0.8, abs=0.12)
    assert head.habits.position_mean.item() == pytest.approx(0.5, abs=0.12)
    found = head.habits.location.detach()
    for column, truth in ((1, ready), (2, place)):
        together = torch.stack([found[:, column], truth])
        assert torch.corrcoef(together)[0, 1].item() > 0.85


def test_labels_of_nobody_known_are_learned_by_the_population():
    own, raw = likelihood(BASE, "readiness"), draw(BASE, 2)
    labels = pairs([1, 0.5], [0, -1])
    mixed = own(raw, labels)
    alone = own(raw, dataclasses.replace(labels.judged_by(None)))
    torch.testing.assert_close(mixed[1], alone[1])
    torch.testing.assert_close(alone, own.negative_log_likelihood(raw, labels.judged_by(None)))


@pytest.mark.parametrize("levels", [2, 3])
@pytest.mark.parametrize(
    "head", [NORMAL, heads.make("ensemble", member=NORMAL, num_members=2)], ids=["one", "two"]
)
def test_answers_at_nodes_average_to_the_population(head, levels):
    own, raw, labels = likelihood(head, "sharpness", levels=levels), draw(head, 5), pairs([1.0] * 5)
    answers, weights = own.answer_nodes(raw, labels)
    assert float(weights.sum()) == pytest.approx(1)
    assert torch.allclose(answers.exp().sum(-1), torch.ones(answers.shape[:-1]).double())
    mean = torch.einsum("n,cnk->ck", weights.to(answers), answers.exp())
    assert torch.allclose(mean, own.outcome_log_probs(raw, labels).exp(), atol=1e-6)
    assert bool((mean[:, 1] > 0).all()) == (levels == 3)
