"""Linear and logistic regression on pairs of responses, many of which share a response.

A pair's features are the difference of two rows of the responses' features. Thousands of pairs are
often made of some hundred responses, so the sums over pairs are taken on responses. This is some
tens of times faster than sums on a matrix of differences.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, special
from scipy.sparse import csr_array, diags_array

from hidden_context.baselines.pairs import VotedPairs
from hidden_context.statistics.checks import Codes, Floats

_MOST_STEPS: Final = 50
# Newton's method ends where a step would lower the loss by less, in nats per vote.
_TOLERANCE: Final = 1e-12


def distinct_rows(features: NDArray[np.floating]) -> tuple[Codes, Codes]:
    """Find the distinct rows of a matrix.

    Args:
        features: Matrix of shape ``(R, D)``.

    Returns:
        The index of one row of each of U kinds, of shape ``(U,)``; and the kind of each row, of
        shape ``(R,)``.
    """
    # one number for each row tells rows apart, up to rounding; rows that it confuses are noticed
    direction = np.sqrt(np.linspace(1, 2, features.shape[1]))
    _, rows, place = np.unique(features @ direction, return_index=True, return_inverse=True)
    place = place.reshape(-1)
    if not np.array_equal(features[rows][place], features):
        return np.arange(len(features)), np.arange(len(features))
    return rows, place


class _Linear:
    """Shared setup: features in as few dimensions as they span, and the responses of each pair."""

    def __init__(self, pairs: VotedPairs) -> None:
        count, rows = len(pairs), np.arange(len(pairs))
        used, place = np.unique(np.stack([pairs.first, pairs.second]), return_inverse=True)
        same, of = distinct_rows(np.asarray(pairs.features, dtype=np.float64)[used])
        used, (first, second) = used[same], of[place.reshape(2, count)]
        features = np.asarray(pairs.features, dtype=np.float64)[used]
        self.num_features = features.shape[1]
        # what both sides of all pairs have in common, such as the prompt's features, says nothing
        self.varies = np.array([(c[first] != c[second]).any() for c in features.T], dtype=bool)
        self.features, self.back = features[:, self.varies], None
        if self.features.shape[1] > len(used):
            left, spread, self.back = linalg.svd(self.features, full_matrices=False)
            self.features = left * spread
        ones, places = np.ones(count), np.concatenate([first, second])
        self.pairs = csr_array(
            (np.concatenate([ones, -ones]), (np.tile(rows, 2), places)), (count, len(used))
        )
        self.share, self.weight = pairs.share, pairs.votes / pairs.votes.sum()

    def _products(self, weight: Floats) -> Floats:
        """Return weighted products of the pairs' features, of shape ``(D, D)``."""
        laplacian = self.pairs.T @ diags_array(weight) @ self.pairs
        return self.features.T @ (laplacian @ self.features)

    def _sums(self, values: Floats) -> Floats:
        """Sum the pairs' features, each times a value, of shape ``(D,)``."""
        return self.features.T @ (self.pairs.T @ values)

    def _whole(self, weights: Floats) -> Floats:
        """Return the weights of all features."""
        found = np.zeros(self.num_features)
        found[self.varies] = weights if self.back is None else self.back.T @ weights
        return found


class LogisticRegression(_Linear):
    r"""Logistic regression of votes, without an intercept.

    It minimises :math:`\sum_i v_i\,[-s_i \log p_i - (1-s_i)\log(1-p_i)]/\sum_i v_i +
    \tfrac{\lambda}{2}\|w\|^2` by Newton's method, from the solution at the last penalty.
    """

    def __init__(self, pairs: VotedPairs) -> None:
        super().__init__(pairs)
        self.weights = np.zeros(self.features.shape[1])

    def fit(self, penalty: float) -> Floats:
        """Fit with a penalty λ in nats per vote, and return weights of shape ``(D,)``."""
        loss, score = self._loss(self.weights, penalty)
        for _ in range(_MOST_STEPS):
            chance = special.expit(score)
            slope = self._sums(self.weight * (chance - self.share)) + penalty * self.weights
            curve = self._products(self.weight * chance * (1 - chance))
            curve[np.diag_indices_from(curve)] += penalty
            step = linalg.solve(curve, slope, assume_a="pos")
            if step @ slope < _TOLERANCE:
                break
            loss, score = self._move(loss, step, penalty)
        return self._whole(self.weights)

    def _move(self, loss: float, step: Floats, penalty: float) -> tuple[float, Floats]:
        """Take a step, halved until it does not raise the loss."""
        while True:
            moved = self.weights - step
            found, score = self._loss(moved, penalty)
            if found <= loss + _TOLERANCE:
                self.weights = moved
                return found, score
            step = step / 2

    def _loss(self, weights: Floats, penalty: float) -> tuple[float, Floats]:
        score: Floats = self.pairs @ (self.features @ weights)
        nats = np.logaddexp(0, score) - self.share * score
        return float(self.weight @ nats + penalty / 2 * weights @ weights), score


class RidgeRegression(_Linear):
    r"""Linear regression of the vote share minus ½, without an intercept.

    It minimises :math:`\sum_i v_i\,(s_i - \tfrac12 - w\cdot x_i)^2/\sum_i v_i + \lambda\|w\|^2`.
    """

    def __init__(self, pairs: VotedPairs) -> None:
        super().__init__(pairs)
        self.curve, self.axes = linalg.eigh(self._products(self.weight))
        self.slope = self.axes.T @ self._sums(self.weight * (self.share - 0.5))

    def fit(self, penalty: float) -> Floats:
        """Fit with a penalty λ per vote, and return weights of shape ``(D,)``."""
        return self._whole(self.axes @ (self.slope / (self.curve.clip(min=0) + penalty)))
