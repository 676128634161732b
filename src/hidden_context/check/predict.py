"""Predictions of held-out votes: each item by models fitted without its group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from hidden_context.baselines.pairs import group_folds
from hidden_context.check.features import Features, fit_share
from hidden_context.check.items import NOBODY, Items
from hidden_context.statistics.checks import Codes, Floats

if TYPE_CHECKING:
    from hidden_context.likelihood import Labels

FOLDS: Final = 4
LEAST: Final = 1e-4
"""No answer is predicted with a smaller probability."""
SCALED_FROM: Final = 2
"""Columns of a design from here on are of one scale: main directions, the strongest first."""
_MEMBERS: Final = 3
_STEPS: Final = 40
"""Steps of an epoch at least, where there are votes enough."""


@dataclass(frozen=True, eq=False)
class Forecast:
    """Predicted answers for I items, each by models that never saw its group.

    Attributes:
        answers: By model (``model``, ``linear``, ``length``, ``constant``) the probabilities of
            first, equal and second, each of shape ``(I, 3)``.
        values: By risk measure the values of the first and the second response, each of shape
            ``(I, 2)``; empty for ratings.
        folds: Number of folds.
    """

    answers: dict[str, Floats]
    values: dict[str, Floats]
    folds: int


def forecast(
    items: Items, features: Features, measures: Sequence[str], seed: int = 0
) -> Forecast | None:
    """Predict every item's answers by cross-fitting over groups.

    Where all items are of one group, folds are by item.

    Args:
        items: The items.
        features: Learns and computes the features of responses.
        measures: Risk measures by which pairs are to be compared.
        seed: Seed of folds and models.

    Returns:
        The forecast; None for fewer than 20 items, or where no item has a vote to learn from.
    """
    if len(items) < 20:
        return None
    folds = list(group_folds(np.stack([items.group, items.group], axis=1), FOLDS, seed))
    found: Forecast | None = None
    for learn, held_out in folds:
        fold = predict_fold(items, features, np.flatnonzero(learn), measures, seed)
        found = found or fold
        for old, new in ((found.answers, fold.answers), (found.values, fold.values)):
            for name, values in old.items():
                values[held_out] = new[name][held_out]
    return None if found is None else replace(found, folds=len(folds))


def predict_fold(
    items: Items, features: Features, learn: Codes, measures: Sequence[str], seed: int
) -> Forecast:
    r"""Fit all models on some items and predict all of them.

    Each model says how likely somebody answers ``equal``, and which side is better otherwise:

    .. math:: P(\text{first}) = (1 - e)\, p, \quad P(\text{equal}) = e, \quad
        P(\text{second}) = (1 - e)(1 - p)

    p is a logistic regression's of differences of features; for ``model`` it is the mean of that
    and a probe's. e is a logistic regression's of what does not change when the sides change
    places. A rated text is compared with a text that is the same for all items.

    Args:
        items: The items.
        features: Learns and computes the features of responses.
        learn: Items to learn from, indices.
        measures: Risk measures by which pairs are to be compared.
        seed: Seed of the models.

    Returns:
        The forecast of all items; it is of use for items that were not learned from.
    """
    design = design_of(items, features, learn)
    first, second = items.sides
    counts, groups = items.counts[learn], items.group[learn]
    sides = counts[:, [0, 2]] + counts[:, [1]] / 2
    equal = np.stack([counts[:, 1], counts[:, 0] + counts[:, 2]], axis=1)

    def leaning(columns: Floats) -> Floats:
        difference = columns[first] - columns[second]
        return fit_share(difference[learn], sides, groups, intercept=False)(difference)

    def ties(columns: Floats) -> Floats:
        one, other = columns[first], columns[second]
        both = np.concatenate([np.abs(one - other), one + other], axis=1)
        return fit_share(both[learn], equal, groups, intercept=True)(both)

    constant, length = design[:, :1], design[:, :2]
    tie_columns = ties(design[:, : 2 + 30])
    linear = leaning(design)
    better, values = _fit_probe(items, design, sides, learn, measures, seed)
    parts = {
        "model": ((better + linear) / 2, tie_columns),
        "linear": (linear, tie_columns),
        "length": (leaning(length), ties(length)),
        "constant": (leaning(constant), ties(constant)),
    }
    answers = {name: _answers(p, e, counts[:, 1].sum() > 0) for name, (p, e) in parts.items()}
    return Forecast(answers, values if items.are_pairs else {}, 0)


def design_of(items: Items, features: Features, learn: Codes) -> Floats:
    """Return features of R responses and of the text that ratings are compared with.

    The first column marks that text, the second is the length, the others are of one scale.

    Args:
        items: The items.
        features: Learns and computes the features of responses.
        learn: Items to learn from, indices.

    Returns:
        Features of shape ``(R + 1, D)``.
    """
    used = np.unique(np.concatenate([items.first[learn], items.second[learn]]))
    used = used[used != NOBODY]
    columns = features(used)
    columns = columns - columns[used].mean(0)
    size = np.sqrt(np.square(columns[used]).sum(1).mean())
    columns = columns * (np.sqrt(columns.shape[1]) / size if size > 0 else 0.0)
    length = items.length - items.length[used].mean()
    spread = length[used].std()
    length = length / spread if spread > 0 else np.zeros_like(length)
    design = np.zeros((len(items.responses) + 1, 2 + columns.shape[1]))
    design[:-1, 1], design[:-1, 2:] = length, columns
    design[-1, 0] = -1.0
    return design


def _answers(first: Floats, equal: Floats, has_ties: bool) -> Floats:
    equal = equal if has_ties else np.zeros_like(equal)
    answers = np.stack([(1 - equal) * first, equal, (1 - equal) * (1 - first)], axis=1)
    answers = np.maximum(answers, LEAST)
    return np.asarray(answers / answers.sum(1, keepdims=True))


def _fit_probe(
    items: Items, design: Floats, votes: Floats, learn: Codes, measures: Sequence[str], seed: int
) -> tuple[Floats, dict[str, Floats]]:
    """Train a probe with a mean-and-variance head on some items, and predict all of them.

    Args:
        items: The items.
        design: Features of the responses, of shape ``(R + 1, D)``.
        votes: Votes for the first and the second side of the items learned from, ``equal`` counted
            one half each way, of shape ``(S, 2)``.
        learn: Indices of the items to learn from, of shape ``(S,)``.
        measures: Names of risk measures.
        seed: Seed of the probe.

    Returns:
        For all items, the probability that the first side is better, of shape ``(I,)``; and by risk
        measure the values of both sides, each of shape ``(I, 2)``.
    """
    import torch

    from hidden_context import risk
    from hidden_context.likelihood import LikelihoodOptions, make_likelihood
    from hidden_context.training.config import TrainConfig
    from hidden_context.training.frozen.features import FeatureSet
    from hidden_context.training.frozen.probe import train_probe
    from hidden_context.training.labels import make_head

    total, (first, second) = votes.sum(1), items.sides
    config = TrainConfig(
        freeze_backbone=True,
        reward_model_type="mean_and_variance",
        probe_members=_MEMBERS,
        # small data get small batches, so that an epoch has enough steps to learn from
        probe_batch_size=int(np.clip(votes.sum() / _STEPS, 64, 2048)),
        probe_learning_rate=2e-3,
        seed=seed,
    )
    likelihood = make_likelihood(make_head(config), LikelihoodOptions())
    labels = labels_of(first[learn], second[learn], votes[:, 0] / total, len(design), votes=total)
    data = FeatureSet(torch.as_tensor(turned(design, seed), dtype=torch.float32), labels)
    fold = np.unique(items.group[learn], return_inverse=True)[1] % (_MEMBERS + 2)
    held_out = [torch.as_tensor(fold == member) for member in range(_MEMBERS)]
    with torch.random.fork_rng(devices=[]):
        probe, _ = train_probe(config, likelihood, data, held_out=held_out)
    with torch.inference_mode():
        raw = probe(data.features)
        one, other = raw[torch.as_tensor(first)], raw[torch.as_tensor(second)]
        probability = likelihood.head.log_prob_preferred(one, other).exp()
        rewards = likelihood.head.distribution(raw)
        values = {name: risk.parse(name)(rewards).double().numpy() for name in measures}
    both = {name: np.stack([each[first], each[second]], axis=1) for name, each in values.items()}
    return probability.double().numpy(), both


def turned(design: Floats, seed: int) -> Floats:
    """Turn the columns of one scale, so that a probe's standardising leaves the scale alone."""
    from scipy.stats import ortho_group

    free = design.shape[1] - SCALED_FROM
    if free < 2:
        return design
    turn = ortho_group.rvs(free, random_state=seed)
    return np.concatenate([design[:, :SCALED_FROM], design[:, SCALED_FROM:] @ turn], axis=1)


def labels_of(
    first: Codes,
    second: Codes,
    share: Floats,
    responses: int,
    *,
    votes: Floats | None = None,
    annotator: Codes | None = None,
) -> Labels:
    """Make labels of comparisons between any two responses, one comparison an example.

    Args:
        first: Index of the first response, of shape ``(C,)``.
        second: Index of the second response, of shape ``(C,)``.
        share: Share of the votes for the first, of shape ``(C,)``.
        responses: Number R of responses.
        votes: How many votes each stands for, of shape ``(C,)``; None for one.
        annotator: Who cast it, of shape ``(C,)``; None where nobody is known.
    """
    import torch

    from hidden_context.likelihood import Labels

    who = None if annotator is None else torch.as_tensor(annotator)
    pairs = Labels.of_pairs(torch.as_tensor(share, dtype=torch.float32), who)
    total = torch.ones(len(first)) if votes is None else torch.as_tensor(votes).float()
    sides = {"first": torch.as_tensor(first), "second": torch.as_tensor(second)}
    compared = replace(pairs.comparisons, **sides, weight=total, votes=total)
    offsets = torch.zeros_like(pairs.offsets)
    offsets[-1] = responses  # an item's responses do not lie in one piece
    return replace(pairs, comparisons=compared, offsets=offsets)
