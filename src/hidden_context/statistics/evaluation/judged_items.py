"""From judged pairs to items with their votes and what a model predicts of them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hidden_context.likelihood import Labels, Likelihood
from hidden_context.statistics.checks import Booleans, Codes, Floats, numbered
from hidden_context.statistics.evaluation.new_annotators import new_annotators
from hidden_context.statistics.evaluation.predictions import (
    VotePredictions,
    predict_votes,
    table_of,
)
from hidden_context.statistics.evaluation.results import VoteMetrics
from hidden_context.statistics.evaluation.vote_metrics import vote_metrics
from hidden_context.statistics.votes.table import VoteTable


@dataclass(frozen=True, eq=False)
class JudgedItems:
    """Items with a vote.

    Attributes:
        table: The votes on I items.
        predictions: What a model says of them.
        cluster: Number of each item's prompt, ``(I,)``.
        length: Difference in length of its responses, ``(I,)``; None where one is not known.
        example: Which example each item was first judged in, ``(I,)``.
        likelihood: The model's likelihood.
        raw: Raw outputs of the pairs, ``(R, K)``.
        labels: Their labels, by the numbers of the likelihood.
    """

    table: VoteTable
    predictions: VotePredictions
    cluster: Codes
    length: Floats | None
    example: Codes
    likelihood: Likelihood
    raw: Tensor
    labels: Labels

    def metrics(self, *, level: float, resamples: int, seed: int) -> VoteMetrics:
        """Hold the predictions against the votes (see ``vote_metrics``, ``new_annotators``)."""
        resampling: dict[str, Any] = {"level": level, "resamples": resamples, "seed": seed}
        held = (self.table, self.predictions, self.cluster)
        found = vote_metrics(*held, self.length, **resampling)
        new = new_annotators(self.likelihood, self.raw, self.labels, *held, **resampling)
        return dataclasses.replace(found, new_annotators=new)


def judged_items(
    likelihood: Likelihood,
    raw: Tensor,
    labels: Labels,
    who: Tensor,
    *,
    item: Codes,
    turned: Booleans,
    cluster: Codes,
    length: Floats,
) -> JudgedItems | None:
    """Collect the items that were compared.

    Args:
        likelihood: The likelihood. An annotator whom it knows is predicted as such.
        raw: Raw outputs of the E examples' responses, of shape ``(R, K)``.
        labels: Labels of E examples, with V comparisons, by the numbers of the likelihood.
        who: Number of each comparison's annotator among all who are named, −1 for nobody, ``(V,)``.
        item: Number of each example's item: examples of the same two texts are one, ``(E,)``.
        turned: Which examples have their item's sides the other way round, ``(E,)``.
        cluster: Number of each example's prompt, ``(E,)``.
        length: Lengths of each example's two responses, ``(E, 2)``; NaN where not known.

    Returns:
        The items; None where several people judged no item, and the model knows none of those who
        judged one: then votes say no more than the usual loss.
    """
    compared = torch.zeros(len(labels), dtype=torch.bool)
    compared[labels.comparisons.example] = True
    if not bool(compared.any()):
        return None
    table = table_of(labels.without_ratings(), numbered(item, len(item)), turned, who)
    known = likelihood.knows_annotators and bool((labels.comparisons.annotator >= 0).any())
    if not (known or table.counts.judged.any()):
        return None
    own = labels.without_ratings().select(compared)
    raw = raw[compared.repeat_interleave(labels.offsets.diff())]
    examples = np.flatnonzero(compared.numpy())
    codes = numbered(item[examples], len(examples))
    first = np.unique(codes, return_index=True)[1]
    turned = turned[examples]
    difference = length[examples[first], 0] - length[examples[first], 1]
    return JudgedItems(
        table_of(own, codes, turned, who),
        predict_votes(likelihood, raw, own, codes, turned),
        cluster[examples[first]],
        None if np.isnan(difference).any() else difference,
        examples[first],
        likelihood,
        raw,
        own,
    )
