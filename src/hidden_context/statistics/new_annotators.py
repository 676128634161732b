"""Annotators whom training has not seen, predicted after a few of their votes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch
from torch import Tensor

from hidden_context.likelihood import Labels, Likelihood, adapt
from hidden_context.statistics.checks import Codes, Floats
from hidden_context.statistics.few_shot import Booleans, FewShotPoint, few_shot_curve
from hidden_context.statistics.interval import FEWEST
from hidden_context.statistics.vote_losses import three_way_losses, two_way_losses
from hidden_context.statistics.vote_predictions import VotePredictions, sides
from hidden_context.statistics.votes import VoteTable

MOST: Final = 500
"""New annotators that are looked at; of more, some drawn by seed."""


@dataclass(frozen=True)
class NewAnnotators:
    """New annotators after a few votes.

    Attributes:
        way: Whether losses are two- or three-way: the latter where the model has an answer "equal".
        points: By number of votes shown.
    """

    way: Literal["two_way", "three_way"]
    points: list[FewShotPoint]


def new_annotators(
    likelihood: Likelihood,
    raw: Tensor,
    labels: Labels,
    table: VoteTable,
    predictions: VotePredictions,
    cluster: Codes,
    *,
    level: float,
    resamples: int,
    seed: int,
) -> NewAnnotators | None:
    """Adapt a model to new annotators, and predict their votes on other prompts.

    Args:
        likelihood: The likelihood.
        raw: Raw outputs of shape ``(R, K)``.
        labels: Labels with V comparisons, by the numbers of the likelihood.
        table: The same votes on I items, with everybody who is named.
        predictions: What the model says of them.
        cluster: Number of each item's prompt, ``(I,)``.
        level: Confidence level.
        resamples: Of the bootstrap.
        seed: Of all draws.

    Returns:
        The curve; None where the model has learned nothing of annotators, or fewer than five new
        ones have votes enough.
    """
    people = _new(table, predictions, seed)
    if not likelihood.knows_annotators or int(people.max()) + 1 < FEWEST:
        return None
    said = labels.comparisons
    who = torch.from_numpy(people)
    everyone = dataclasses.replace(labels, comparisons=dataclasses.replace(said, annotator=who))
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

    points = few_shot_curve(
        losses,
        people,
        cluster[table.item],
        level=level,
        resamples=resamples,
        seed=seed,
    )
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
