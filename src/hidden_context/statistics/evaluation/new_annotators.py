"""How much better the votes of new annotators are predicted after a few of their votes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch

from hidden_context.errors import ConfigError
from hidden_context.likelihood import adapt
from hidden_context.statistics.checks import Booleans, Codes, Floats, numbered, places
from hidden_context.statistics.evaluation.predictions import JudgedItems, VotePredictions, sides
from hidden_context.statistics.interval import FEWEST, VOTES, Interval, Resampling
from hidden_context.statistics.means import two_way_interval
from hidden_context.statistics.votes.losses import three_way_losses, two_way_losses
from hidden_context.statistics.votes.table import VoteTable

Losses = Callable[[Booleans], Floats]
"""Takes the votes shown, a mask ``(V,)``, to the loss of every vote ``(V,)``, in nats."""

SHOWN: Final = (5, 10, 20)
"""Numbers of votes that are shown."""
MOST: Final = 500
"""New annotators that are looked at; of more, some drawn by seed."""


@dataclass(frozen=True)
class FewShotPoint:
    """The loss on new annotators' votes, predicted after k of their other votes.

    Attributes:
        shown: k, the number of votes shown.
        annotators: Number of annotators with k votes to show, and votes on other groups to predict.
        votes: Number of votes predicted.
        before: Mean loss of these votes with nothing shown, in nats.
        after: Mean loss after k votes.
        difference: After − before, by groups of items and by annotators both.
    """

    shown: int
    annotators: int
    votes: int
    before: float
    after: float
    difference: Interval


@dataclass(frozen=True)
class NewAnnotators:
    """How well new annotators are predicted after a few of their votes.

    Attributes:
        way: Whether losses are two- or three-way; three-way if the model has an answer "equal".
        points: One point for each number of votes shown.
    """

    way: Literal["two_way", "three_way"]
    points: list[FewShotPoint]


def new_annotators(items: JudgedItems, resampling: Resampling) -> NewAnnotators | None:
    """Adapt a model to new annotators, and predict their votes on other prompts.

    Args:
        items: The items, with the votes of all named annotators and the model's predictions.
        resampling: How intervals are made; its seed is used for all draws.

    Returns:
        The curve; None if the model has learned nothing about annotators, or if fewer than five new
        annotators have enough votes.
    """
    likelihood, raw, labels = items.likelihood, items.raw, items.labels
    table, predictions = items.table, items.predictions
    people = _new(table, predictions, resampling.seed)
    if not likelihood.knows_annotators or int(people.max()) + 1 < FEWEST:
        return None
    everyone = labels.with_comparisons(annotator=torch.from_numpy(people))
    turned = predictions.turned
    losses_of = three_way_losses if predictions.has_equal else two_way_losses

    def losses(shown: Booleans) -> Floats:
        log_probs = predictions.population
        if shown.any():
            own, responses = everyone.take(torch.from_numpy(np.flatnonzero(shown)))
            names = [str(number) for number in range(int(people.max()) + 1)]
            adapted = adapt(likelihood, raw[responses], own, names)
            with torch.no_grad():
                found = adapted.outcome_log_probs(raw, everyone)
            log_probs = sides(found.double().numpy(), turned)
        return losses_of(log_probs, table.share)

    points = few_shot_curve(losses, people, items.cluster[table.item], resampling=resampling)
    way: Literal["two_way", "three_way"] = "three_way" if predictions.has_equal else "two_way"
    return NewAnnotators(way, points) if points else None


def _new(table: VoteTable, predictions: VotePredictions, seed: int) -> Codes:
    """Number the annotators whom the model has not learned, −1 for votes of others, ``(V,)``."""
    new = table.named & ~predictions.known
    names = np.unique(table.annotator[new])
    if len(names) > MOST:
        names = np.sort(np.random.default_rng(seed).choice(names, MOST, replace=False))
        new &= np.isin(table.annotator, names)
    found = np.full(len(table), -1)
    found[new] = np.searchsorted(names, table.annotator[new])
    return found


def few_shot_curve(
    losses: Losses,
    annotator: Codes,
    group: Codes,
    *,
    shown: Sequence[int] = SHOWN,
    resampling: Resampling = VOTES,
) -> list[FewShotPoint]:
    """Show a few votes of every new annotator, and predict their votes on other groups of items.

    Groups are split into two halves at random. Votes on either half are predicted after k votes on
    the other half, drawn at random, so no group is on both sides. At each k, the same votes are
    also predicted with no votes shown.

    Args:
        losses: How a model predicts every vote once it has seen some (see ``Losses``).
        annotator: Number of the new annotator who cast each vote; −1 leaves it out, ``(V,)``.
        group: Number of each vote's group of items, such as its prompt, ``(V,)``.
        shown: Numbers k of votes to show.
        resampling: How the two-way bootstrap is made; its seed also draws halves and votes shown.

    Returns:
        One point for each k for which at least five annotators have enough votes.

    Raises:
        ConfigError: If shapes differ.
    """
    annotator, group = np.asarray(annotator), numbered(group, len(annotator), "group")
    generator = np.random.default_rng(resampling.seed)
    half = generator.permutation(int(group.max()) + 1)[group] % 2
    order = generator.permutation(len(annotator))
    before = losses(np.zeros(len(annotator), dtype=bool))
    if before.shape != annotator.shape:
        raise ConfigError("a loss is needed for every vote.")
    points = []
    for count in shown:
        after = np.full(len(annotator), np.nan)
        for other in (0, 1):
            seen = _first(annotator, (half == other) & (annotator >= 0), order, count)
            able = np.isin(annotator, annotator[seen]) & (annotator >= 0) & (half != other)
            if able.any():
                after[able] = losses(seen)[able]
        here = np.isfinite(after)
        people = len(np.unique(annotator[here]))
        if people < FEWEST:
            continue
        votes = (after - before)[here], group[here], annotator[here]
        difference = two_way_interval(*votes, **vars(resampling))
        means = float(before[here].mean()), float(after[here].mean())
        points.append(FewShotPoint(count, people, int(here.sum()), *means, difference))
    return points


def _first(annotator: Codes, usable: Booleans, order: Codes, count: int) -> Booleans:
    """Mark the first usable votes, in a given order, of every annotator who has enough."""
    rows = order[usable[order]]
    who = annotator[rows]
    enough = np.bincount(who, minlength=1)[who] >= count
    found = np.zeros(len(annotator), dtype=bool)
    found[rows[(places(who) < count) & enough]] = True
    return found
