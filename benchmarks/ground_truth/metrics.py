"""How well a reward model recovers what comparisons identify: pure functions of arrays.

Probabilities are of P(chosen ≻ rejected) per pair, rewards and variances per response.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from hidden_context.statistics.evaluation.judgement_metrics import explained_variance

Floats = NDArray[np.float64]


def r_squared_error(
    mean: ArrayLike, variance: ArrayLike, true_mean: ArrayLike, true_variance: ArrayLike
) -> float:
    """Return |r² − true r²| with ``r² = Var[μ] / (Var[μ] + E[σ²])`` over responses.

    Args:
        mean: Learned mean rewards.
        variance: Learned variances, in the square of the unit of ``mean``.
        true_mean: True mean utilities, in a unit of their own.
        true_variance: True variances in the square of that unit.

    Returns:
        A number in [0, 1]; NaN where one side does not vary at all.
    """
    learned, true = (
        explained_variance(*(torch.as_tensor(each, dtype=torch.float64) for each in both))
        for both in ((mean, variance), (true_mean, true_variance))
    )
    return abs(learned - true)


def calibration_error(predicted: ArrayLike, target: ArrayLike, bins: int = 10) -> float:
    """Return the expected calibration error of P(chosen ≻ rejected).

    Every pair counts in both orientations, so it does not matter which response is called chosen;
    with labels it must count so, since a chosen response was always preferred. Equal predictions
    share a bin.

    Args:
        predicted: Learned probabilities of shape ``(N,)``.
        target: True probabilities, or labels 0 and 1, of shape ``(N,)``.
        bins: Most bins, each of about equally many predictions.

    Returns:
        ``Σ_bins (share of predictions)·|mean predicted − mean target|``, in [0, 1].
    """
    both = np.stack([predicted, target]).astype(float)
    predicted, target = np.concatenate([both, 1 - both], axis=1)
    # 1 − p rounds; what is equal but for that must not be parted by an edge
    place = predicted.round(9)
    edges = np.unique(np.quantile(place, np.linspace(0, 1, bins + 1)[1:-1], method="inverted_cdf"))
    number = np.searchsorted(edges.round(9), place, side="right")
    gaps = np.bincount(number, weights=predicted - target, minlength=len(edges) + 1)
    return float(np.abs(gaps).sum() / len(predicted))


def ranking_recovery(
    scores: ArrayLike, kinds: Sequence[str], true_order: Sequence[str]
) -> tuple[bool, float]:
    """Return whether scores put kinds of answer in their true order; ties do not.

    Args:
        scores: One score per prompt and kind, shape ``(N, K)``.
        kinds: Names of the K columns.
        true_order: The same names from best to worst.

    Returns:
        Whether the kinds' mean scores stand in the true order, and the share of prompts whose own
        scores do.
    """
    values = np.asarray(scores, dtype=float)[:, [kinds.index(name) for name in true_order]]
    return bool((np.diff(values.mean(0)) < 0).all()), float((np.diff(values) < 0).all(1).mean())


def ratio_interval(part: Floats, whole: Floats, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of Σ part / Σ whole, resampling the rows of both.

    Args:
        part: Numerators of shape ``(N,)``.
        whole: Denominators of that shape.
        seed: Seed of the resampling.

    Returns:
        Low and high end.
    """
    found = stats.bootstrap(
        (part, whole),
        lambda part, whole, axis=-1: part.sum(axis) / whole.sum(axis),
        paired=True,
        n_resamples=2000,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)
