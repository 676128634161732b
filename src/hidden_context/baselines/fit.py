r"""Four baselines that predict votes: a constant, length, logistic regression and ridge.

A pair is seen as the difference of its responses, and no baseline has an intercept: exchanging the
sides of a pair exchanges its two probabilities, :math:`P(a \succ b) + P(b \succ a) = 1`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final, Literal

import numpy as np

from hidden_context.baselines.linear import LogisticRegression, RidgeRegression
from hidden_context.baselines.pairs import FOLDS, VotedPairs
from hidden_context.statistics.agreement import auroc, contested
from hidden_context.statistics.checks import Floats
from hidden_context.statistics.votes.losses import cross_entropy

PENALTIES: Final = tuple(10.0 ** (-step / 2) for step in range(-2, 11))
"""Penalties per vote that are tried, from the strongest, 10, to the weakest, 10⁻⁵."""

# The search ends after this many penalties in a row without a better held-out loss.
_PATIENCE: Final = 2
# Shares that ridge regression predicts are cut at this distance from 0 and 1.
_LEAST_SHARE: Final = 0.02
# Keeps the weight of length finite where all votes follow it.
_LENGTH_PENALTY: Final = 1e-4
# a pair with a single vote cannot be contested
_FEWEST_VOTES: Final = 2

Name = Literal["constant", "length", "logistic", "ridge"]
_REGRESSIONS: Final[dict[str, type[LogisticRegression | RidgeRegression]]] = {
    "logistic": LogisticRegression,
    "ridge": RidgeRegression,
}


@dataclasses.dataclass(frozen=True, eq=False)
class Baseline:
    """A fitted baseline.

    Attributes:
        name: ``constant``, ``length``, ``logistic`` or ``ridge``.
        weights: Weight of each feature, of shape ``(D,)``; of ``length`` its one weight, of
            ``constant`` none. In nats per unit, of ``ridge`` in shares of votes per unit.
        penalty: The penalty per vote that was chosen; None where none was.
        held_out: Loss in nats per held-out vote by penalty, over all folds; empty where no penalty
            was chosen.
    """

    name: Name
    weights: Floats
    penalty: float | None = None
    held_out: dict[float, float] = dataclasses.field(default_factory=dict)

    def log_prob_first(self, pairs: VotedPairs) -> Floats:
        """Return log-probabilities of preferring the first response, in nats, of shape ``(C,)``."""
        return self.log_probs(pairs)[0]

    def log_probs(self, pairs: VotedPairs) -> tuple[Floats, Floats]:
        """Return log-probabilities of the first and second response, each of shape ``(C,)``."""
        if self.name == "constant":
            score = np.zeros(len(pairs))
        elif self.name == "length":
            score = pairs.length_difference * self.weights
        else:
            level = pairs.features @ self.weights
            score = level[pairs.first] - level[pairs.second]
        if self.name == "ridge":
            lean = np.clip(score, _LEAST_SHARE - 0.5, 0.5 - _LEAST_SHARE)
            return np.log(0.5 + lean), np.log(0.5 - lean)
        return -np.logaddexp(0, -score), -np.logaddexp(0, score)


def fit_baselines(train: VotedPairs, folds: int = FOLDS, seed: int = 0) -> dict[str, Baseline]:
    """Fit all baselines.

    Args:
        train: The pairs to learn from.
        folds: Number of folds of groups by which penalties are chosen.
        seed: Seed of the folds.

    Returns:
        The baselines by name, simplest first.
    """
    # length alone, in units of its spread
    spread = float(train.lengths.std()) or 1.0
    length = dataclasses.replace(train, features=train.lengths[:, None] / spread)
    weights = LogisticRegression(length).fit(_LENGTH_PENALTY) / spread
    return {
        "constant": Baseline("constant", np.zeros(0)),
        "length": Baseline("length", weights),
        "logistic": fit_linear("logistic", train, folds, seed),
        "ridge": fit_linear("ridge", train, folds, seed),
    }


def fit_linear(
    name: Literal["logistic", "ridge"], train: VotedPairs, folds: int = FOLDS, seed: int = 0
) -> Baseline:
    """Fit logistic or ridge regression at the penalty that predicts held-out votes best.

    Args:
        name: Kind of regression.
        train: The pairs to learn from.
        folds: Number of folds of groups.
        seed: Seed of the folds.

    Returns:
        The baseline. Where the pairs cannot be divided, its penalty is the strongest.
    """
    regression = _REGRESSIONS[name]
    parts = [
        (train.take(learn), train.take(held_out)) for learn, held_out in train.folds(folds, seed)
    ]
    fits = [regression(learn) for learn, _ in parts]
    losses: dict[float, float] = {}
    best = PENALTIES[0]
    for number, penalty in enumerate(PENALTIES if parts else ()):
        total = votes = 0.0
        for fit, (_, held_out) in zip(fits, parts, strict=True):
            first, second = Baseline(name, fit.fit(penalty)).log_probs(held_out)
            loss = -held_out.share * first - (1 - held_out.share) * second
            total, votes = total + float(loss @ held_out.votes), votes + float(held_out.votes.sum())
        losses[penalty] = total / votes
        best = min(losses, key=losses.__getitem__)
        if number - PENALTIES.index(best) >= _PATIENCE:
            break
    return Baseline(name, regression(train).fit(best), best, losses)


def vote_metrics(first: Floats, second: Floats, pairs: VotedPairs) -> dict[str, float]:
    """Measure predicted probabilities against votes.

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
    """Return the probability that a contested pair outscores an uncontested pair; ties count ½.

    Args:
        score: Higher for pairs that are held to be contested, of shape ``(C,)``.
        pairs: The pairs; a pair of fewer than two votes is left out.

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
