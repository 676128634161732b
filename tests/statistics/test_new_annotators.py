"""New annotators of a world whose truth the model knows, but not them."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from hidden_context import heads
from hidden_context.likelihood import Labels, LikelihoodOptions, make_likelihood
from hidden_context.statistics import new_annotators as module
from hidden_context.statistics.judged_items import judged_items

FACTOR = heads.make("factor", num_factors=1)
BEFORE = math.log(math.expm1(0.5))
ITEMS, PEOPLE, VOTES = 120, 30, 10


def world(levels=2, known=(), seed=0, **options):
    """Items of which people with contexts judge some; a model that knows some of the people."""
    generator = np.random.default_rng(seed)
    loading, context = 2 * generator.normal(size=ITEMS), generator.normal(size=PEOPLE)
    item = np.repeat(np.arange(ITEMS), VOTES)
    who = np.concatenate([generator.choice(PEOPLE, VOTES, replace=False) for _ in range(ITEMS)])
    reward = loading[item] * context[who] + math.sqrt(0.5) * generator.normal(size=len(item))
    share = 0.5 + 0.5 * np.sign(reward) * (np.abs(reward) > (0.5 if levels == 3 else 0))
    likelihood = make_likelihood(
        FACTOR,
        LikelihoodOptions(
            levels=levels, inference="variational", names=tuple(map(str, known)), **options
        ),
    )
    if levels == 3:
        with torch.no_grad():
            likelihood.outcomes.raw_gaps.fill_(math.log(math.expm1(0.5)))
    raw = np.zeros((ITEMS, 2, 3))
    raw[:, 0, 1], raw[:, :, 2] = loading, BEFORE
    pairs = Labels.of_pairs(torch.ones(ITEMS))
    place, said = torch.from_numpy(item), torch.from_numpy(share)
    number = torch.tensor([likelihood.names.index(name) for name in who])
    compared = dataclasses.replace(
        pairs.comparisons,
        first=2 * place,
        second=2 * place + 1,
        preference=said,
        strength=torch.full_like(said, torch.nan),
        margin=torch.zeros_like(said),
        annotator=number,
        weight=torch.ones_like(said),
        votes=torch.ones_like(said),
        example=place,
    )
    labels = dataclasses.replace(pairs, comparisons=compared)
    turned = np.arange(ITEMS) % 3 == 0
    return judged_items(
        likelihood,
        torch.from_numpy(raw.reshape(-1, 3)),
        labels,
        torch.from_numpy(who),
        item=np.arange(ITEMS),
        turned=turned,
        cluster=np.arange(ITEMS),
        length=np.full((ITEMS, 2), np.nan),
    )


def metrics(items):
    return items.metrics(level=0.95, resamples=200, seed=0)


@pytest.mark.parametrize("levels", [2, 3])
def test_new_people_are_known_after_a_few_votes(levels):
    found = metrics(world(levels)).new_annotators
    assert found.way == ("three_way" if levels == 3 else "two_way")
    five, ten = found.points[:2]
    assert (five.shown, ten.shown) == (5, 10)
    assert five.annotators == PEOPLE
    assert five.difference.high < -0.05
    assert ten.after < five.after
    # nothing is shown at first: the population's loss
    loss = metrics(world(levels)).loss[0]
    population = loss.three_way if levels == 3 else loss.two_way
    assert five.before == pytest.approx(population.estimate, abs=0.02)


def test_people_who_are_known_are_not_new():
    items = world(known=range(20))
    found = metrics(items)
    assert found.known == 20
    assert all(point.annotators <= 10 for point in found.new_annotators.points)
    assert metrics(world(known=range(28))).new_annotators is None


def test_of_very_many_some_are_drawn(monkeypatch):
    monkeypatch.setattr(module, "MOST", 7)
    found = metrics(world()).new_annotators
    assert found.points[0].annotators == 7


def test_a_model_that_learned_no_annotators_learns_no_new_ones():
    items = world()
    plain = dataclasses.replace(items, likelihood=make_likelihood(FACTOR))
    assert metrics(plain).new_annotators is None
