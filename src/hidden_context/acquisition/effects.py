"""Logistic regression with normal priors whose posterior is a normal: means and variances.

Items are rows with features of their texts, and with effects of what several items have in common
(a response that was compared with many others, a group). Only what is used by the rows is stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import linalg
from scipy.sparse import csr_array, diags_array
from scipy.special import expit

from hidden_context.statistics.checks import Floats

_TOLERANCE: Final = 1e-6
_ROWS: Final = 4096


@dataclass(frozen=True, eq=False)
class Design:
    """Features of I items.

    Attributes:
        texts: Features of the texts, of shape ``(I, T)``.
        effects: Which effects are in which item, with their sign, sparse, ``(I, E)``.
    """

    texts: Floats
    effects: csr_array

    @property
    def columns(self) -> int:
        """Number T + E of weights."""
        return int(self.texts.shape[1] + self.effects.shape[1])

    def times(self, weights: Floats) -> Floats:
        """Scores of shape ``(I,)``."""
        cut = self.texts.shape[1]
        return np.asarray(self.texts @ weights[:cut] + self.effects @ weights[cut:])

    def sums(self, values: Floats) -> Floats:
        """Sum the items' features, each times a value, of shape ``(T + E,)``."""
        return np.concatenate([self.texts.T @ values, self.effects.T @ values])

    def products(self, weight: Floats) -> Floats:
        """Weighted products of the features, of shape ``(T + E, T + E)``."""
        used = np.flatnonzero(weight > 0)
        texts, effects = self.texts[used], self.effects[used]
        weighed = weight[used, None] * texts
        cross = np.asarray(effects.T @ weighed)
        own = np.asarray((effects.T @ diags_array(weight[used]) @ effects).toarray())
        return np.block([[texts.T @ weighed, cross.T], [cross, own]])

    def variances(self, covariance: Floats) -> Floats:
        """Variances of the scores by a covariance of the weights, of shape ``(I,)``."""
        found = np.empty(len(self.texts))
        cut = self.texts.shape[1]
        for start in range(0, len(found), _ROWS):
            part = slice(start, start + _ROWS)
            texts, effects = self.texts[part], self.effects[part]
            product = texts @ covariance[:cut] + effects @ covariance[cut:]
            by_texts = (product[:, :cut] * texts).sum(1)
            by_effects = np.asarray(effects.multiply(product[:, cut:]).sum(axis=1)).reshape(-1)
            found[part] = by_texts + by_effects
        return found


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of I items: the log-odds of one answer against the others.

    Attributes:
        mean: With all votes, of shape ``(I,)``.
        others: Without the item's own votes, of shape ``(I,)``.
        others_variance: Variance of that, of shape ``(I,)``.
        evidence: Log-probability of all votes under the priors, by Laplace's method, in nats.
    """

    mean: Floats
    others: Floats
    others_variance: Floats
    evidence: float


def fit_scores(design: Design, yes: Floats, no: Floats, precision: Floats) -> Scores:
    r"""Fit log-odds of votes, with and without each item's own votes.

    Weights are normal with mean 0 and the precisions given; their posterior is taken for a normal
    around its mode, found by Newton's method. An item with information w = n p (1 − p), slope
    g = yes − n p and variance v would have without its own votes

    .. math:: v' = \frac{v}{1 - w v}, \qquad s' = s - v' g

    Args:
        design: The features.
        yes: Votes for the answer, of shape ``(I,)``.
        no: Votes against it, of shape ``(I,)``.
        precision: Of the weights, of shape ``(T + E,)``.

    Returns:
        The scores.
    """
    votes = yes + no
    weights, factor = np.zeros(design.columns), None
    loss, score = _loss(design, weights, yes, votes, precision)
    for _ in range(25):
        chance = expit(score)
        slope = design.sums(votes * chance - yes) + precision * weights
        curve = design.products(votes * chance * (1 - chance))
        curve[np.diag_indices_from(curve)] += precision
        factor = linalg.cho_factor(curve, overwrite_a=True, check_finite=False)
        step = linalg.cho_solve(factor, slope)
        ends = step @ slope < _TOLERANCE * max(float(votes.sum()), 1.0)
        while True:
            moved = _loss(design, weights - step, yes, votes, precision)
            if moved[0] <= loss + _TOLERANCE:
                break
            step = step / 2
        weights, (loss, score) = weights - step, moved
        if ends:
            break
    chance = expit(score)
    assert factor is not None
    variance = design.variances(linalg.cho_solve(factor, np.eye(len(weights))))
    spread = np.maximum(1 - votes * chance * (1 - chance) * variance, 0.1)
    without = variance / spread
    log_det = 2 * np.log(np.diag(factor[0])).sum() - np.log(precision).sum()
    return Scores(
        mean=score,
        others=score - without * (yes - votes * chance),
        others_variance=without,
        evidence=float(-loss - log_det / 2),
    )


def _loss(
    design: Design, weights: Floats, yes: Floats, votes: Floats, precision: Floats
) -> tuple[float, Floats]:
    score = design.times(weights)
    nats = votes @ np.logaddexp(0, score) - yes @ score
    return float(nats + (precision * weights) @ weights / 2), score
