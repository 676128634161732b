"""How well probabilities predict votes: loss, accuracy, Brier score, and contested pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from hidden_context.baselines.fit import Baseline
from hidden_context.baselines.pairs import VotedPairs
from hidden_context.statistics.agreement import auroc, contested
from hidden_context.statistics.checks import Floats
from hidden_context.statistics.votes.losses import cross_entropy

# of a single vote nothing can be contested
_FEWEST_VOTES: Final = 2


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
        "loss": float(np.average(cross_entropy(first, second, share), weights=votes)),
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
    """Measure fitted baselines on held-out pairs, by name."""
    return {name: vote_metrics(*fit.log_probs(test), test) for name, fit in baselines.items()}
