"""How well probabilities predict votes: nats, accuracy, Brier, and contested pairs found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from hidden_context.baselines.fit import Baseline
from hidden_context.baselines.pairs import VotedPairs
from hidden_context.statistics.agreement import auroc, contested
from hidden_context.statistics.checks import Floats

METRICS: Final = ("loss", "accuracy", "brier", "contested_auroc")
# of a single vote nothing can be contested
_FEWEST_VOTES: Final = 2


def vote_losses(first: Floats, second: Floats, share: Floats) -> Floats:
    """Nats per vote of each pair, of shape ``(C,)``; "equal" counts half a vote each way.

    Args:
        first: Log-probability of the first response, of shape ``(C,)``.
        second: Log-probability of the second, of shape ``(C,)``.
        share: Share of votes for the first, of shape ``(C,)``.
    """
    # a share of zero must remove a side even where its loss is infinite
    one = np.where(share > 0, -share * np.where(share > 0, first, 0), 0.0)
    return one + np.where(share < 1, -(1 - share) * np.where(share < 1, second, 0), 0.0)


def vote_metrics(first: Floats, second: Floats, pairs: VotedPairs) -> dict[str, float]:
    """Measure probabilities against votes.

    Args:
        first: Log-probability of each pair's first response, in nats, of shape ``(C,)``.
        second: Log-probability of the second, of shape ``(C,)``.
        pairs: The pairs and their votes.

    Returns:
        ``loss`` in nats per vote; ``accuracy``, the share of votes for the likelier response (equal
        probabilities and "equal" count half); ``brier``, the mean over votes of the square of the
        share's distance to P; and ``contested_auroc`` of P near ½, where some pair of two or more
        votes is contested and some is not.
    """
    share, votes = pairs.share, pairs.votes
    side = 0.5 + 0.5 * np.sign(first - second)
    probability = np.exp(first)
    metrics = {
        "loss": float(np.average(vote_losses(first, second, share), weights=votes)),
        "accuracy": float(np.average(share * side + (1 - share) * (1 - side), weights=votes)),
        "brier": float(np.average((probability - share) ** 2, weights=votes)),
    }
    found = contested_auroc(-np.abs(probability - 0.5), pairs)
    return metrics if np.isnan(found) else {**metrics, "contested_auroc": found}


def contested_auroc(score: Floats, pairs: VotedPairs) -> float:
    """Probability that a contested pair scores higher than another, ties counted ½.

    Args:
        score: Higher for pairs that are held to be contested, of shape ``(C,)``.
        pairs: The pairs; those of fewer than two votes are left out.

    Returns:
        In [0, 1]; NaN where all pairs are contested or none is.
    """
    enough = pairs.votes >= _FEWEST_VOTES
    if not enough.any():
        return float("nan")
    equal = None if pairs.equal is None else pairs.equal[enough]
    return auroc(score[enough], contested(pairs.share[enough], equal))


def baseline_metrics(
    baselines: Mapping[str, Baseline], test: VotedPairs
) -> dict[str, dict[str, float]]:
    """Measure fitted baselines on pairs that they did not learn from, by name."""
    return {name: vote_metrics(*fit.log_probs(test), test) for name, fit in baselines.items()}
