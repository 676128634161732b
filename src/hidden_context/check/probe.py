"""A probe of the project's own kind: a distribution of rewards, trained on votes of one fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from hidden_context.statistics.checks import Codes, Floats

if TYPE_CHECKING:
    from hidden_context.likelihood import Labels
    from hidden_context.training.config import TrainConfig

SCALED_FROM: Final = 2
"""Columns of a design from here on are of one scale: main directions, the strongest first."""
_MEMBERS: Final = 3
_STEPS: Final = 40
"""Steps of an epoch at least, where there are votes enough."""
_FEWEST_VOTES: Final = 64
_MOST_VOTES: Final = 2048


@dataclass(frozen=True, eq=False)
class ProbeForecast:
    """What a probe says of I items.

    Attributes:
        first: Probability that the first side is better, of shape ``(I,)``.
        values: By risk measure the values of both sides, each of shape ``(I, 2)``.
    """

    first: Floats
    values: dict[str, Floats]


def fit_probe(
    design: Floats,
    first: Codes,
    second: Codes,
    votes: Floats,
    groups: Codes,
    learn: Codes,
    measures: Sequence[str],
    seed: int,
) -> ProbeForecast:
    """Train a probe with a mean-and-variance head on some items and read all of them.

    Args:
        design: Features of the responses, of shape ``(R, D)``.
        first: Index of each item's first response, of shape ``(I,)``.
        second: Index of its second response, of shape ``(I,)``.
        votes: Votes for the first and the second side of the items learned from, ``equal`` counted
            one half each way, of shape ``(S, 2)``.
        groups: Their groups, of shape ``(S,)``.
        learn: Their indices, of shape ``(S,)``.
        measures: Names of risk measures.
        seed: Of the probe.

    Returns:
        What the probe says of all items.
    """
    import torch

    from hidden_context import risk
    from hidden_context.likelihood import LikelihoodOptions, make_likelihood
    from hidden_context.training.features import FeatureSet
    from hidden_context.training.labels import make_head
    from hidden_context.training.probe import train_probe

    config = _config(float(votes.sum()), seed)
    likelihood = make_likelihood(make_head(config), LikelihoodOptions())
    total = votes.sum(1)
    labels = labels_of(first[learn], second[learn], votes[:, 0] / total, len(design), votes=total)
    features = torch.as_tensor(turned(design, seed), dtype=torch.float32)
    fold = np.unique(groups, return_inverse=True)[1] % (_MEMBERS + 2)
    held_out = [torch.as_tensor(fold == member) for member in range(_MEMBERS)]
    with torch.random.fork_rng(devices=[]):
        data = FeatureSet(features, labels)
        probe, _ = train_probe(config, likelihood, data, held_out=held_out)
    with torch.inference_mode():
        raw = probe(features)
        one, other = raw[torch.as_tensor(first)], raw[torch.as_tensor(second)]
        probability = likelihood.head.log_prob_preferred(one, other).exp()
        rewards = likelihood.head.distribution(raw)
        values = {name: risk.parse(name)(rewards).double().numpy() for name in measures}
    return ProbeForecast(
        probability.double().numpy(),
        {name: np.stack([each[first], each[second]], axis=1) for name, each in values.items()},
    )


def turned(design: Floats, seed: int) -> Floats:
    """Turn the columns of one scale, so that a probe's standardising leaves the scale alone."""
    from scipy.stats import ortho_group

    free = design.shape[1] - SCALED_FROM
    if free < 2:
        return design
    turn = ortho_group.rvs(free, random_state=seed)
    return np.concatenate([design[:, :SCALED_FROM], design[:, SCALED_FROM:] @ turn], axis=1)


def _config(votes: float, seed: int) -> TrainConfig:
    """Give small data small batches, so that an epoch has steps enough to learn from."""
    from hidden_context.training.config import TrainConfig

    size = int(np.clip(votes / _STEPS, _FEWEST_VOTES, _MOST_VOTES))
    return TrainConfig(
        freeze_backbone=True,
        reward_model_type="mean_and_variance",
        probe_members=_MEMBERS,
        probe_batch_size=size,
        probe_learning_rate=2e-3,
        seed=seed,
    )


def labels_of(
    first: Codes,
    second: Codes,
    share: Floats,
    responses: int,
    *,
    votes: Floats | None = None,
    annotator: Codes | None = None,
) -> Labels:
    """Label comparisons of any two of some responses, each an example of its own.

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
    from hidden_context.likelihood.labels import UNKNOWN, Comparisons, no_ratings

    count = len(first)
    total = torch.ones(count) if votes is None else torch.as_tensor(votes, dtype=torch.float32)
    who = torch.full((count,), UNKNOWN) if annotator is None else torch.as_tensor(annotator)
    offsets = torch.zeros(count + 1, dtype=torch.long)
    offsets[-1] = responses  # an item's responses do not lie in one piece
    return Labels(
        Comparisons(
            first=torch.as_tensor(first),
            second=torch.as_tensor(second),
            preference=torch.as_tensor(share, dtype=torch.float32),
            strength=torch.full((count,), torch.nan),
            margin=torch.zeros(count),
            annotator=who,
            weight=total,
            votes=total,
            example=torch.arange(count),
        ),
        no_ratings(),
        offsets,
    )
