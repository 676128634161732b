"""How well a reward model recovers what comparisons identify: pure functions of arrays.

Arguments are array-likes of numbers, tensors included; results are floats. Probabilities are of
P(chosen ≻ rejected) per pair, rewards and variances per response.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from hidden_context.errors import ConfigError
from hidden_context.statistics import agreement
from hidden_context.statistics.evaluation.judgement_metrics import explained_variance

Floats = NDArray[np.float64]


class RankingRecovery(NamedTuple):
    """How well scores order a fixed set of kinds of answer.

    Attributes:
        exact: Whether the kinds' mean scores stand in the true order, without ties.
        share: Share of prompts whose own scores do.
    """

    exact: bool
    share: float


def probability_error(predicted: ArrayLike, true: ArrayLike) -> float:
    """Return the mean of |predicted − true|."""
    predicted, true = _pair(predicted, true)
    return float(np.abs(predicted - true).mean())


def r_squared_error(
    mean: ArrayLike, variance: ArrayLike, true_mean: ArrayLike, true_variance: ArrayLike
) -> float:
    """Return |r² − true r²| with ``r² = Var[μ] / (Var[μ] + E[σ²])`` over responses.

    Args:
        mean: Learned mean rewards.
        variance: Learned variances, in the square of the unit of ``mean``.
        true_mean: True mean utilities, in any unit of their own.
        true_variance: True variances in that unit's square.

    Returns:
        A number in [0, 1]; NaN where one side does not vary at all.
    """
    learned, true = (
        explained_variance(torch.from_numpy(means), torch.from_numpy(variances))
        for means, variances in (_pair(mean, variance), _pair(true_mean, true_variance))
    )
    return abs(learned - true)


def variance_rank_correlation(predicted: ArrayLike, true: ArrayLike) -> float:
    """Return Spearman's correlation of variances, NaN where one side is constant."""
    predicted, true = _pair(predicted, true)
    if np.ptp(predicted) == 0 or np.ptp(true) == 0:
        return float("nan")
    return float(stats.spearmanr(predicted, true).statistic)


def disagreement_auroc(score: ArrayLike, true_share: ArrayLike) -> float:
    """Return how well a score tells contested pairs from others.

    Args:
        score: Learned disagreement per pair, higher where more is expected, shape ``(N,)``.
        true_share: Share of the population that prefers one response, shape ``(N,)``.

    Returns:
        AUROC of pairs whose share lies in [0.35, 0.65] against the rest, ties counted ½.
    """
    score, share = _pair(score, true_share)
    return agreement.auroc(score, agreement.contested(share))


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

    Raises:
        ConfigError: If there are no bins, or predictions lie outside [0, 1].
    """
    predicted, target = _pair(predicted, target)
    if bins < 1 or not bool(((predicted >= 0) & (predicted <= 1)).all()):
        raise ConfigError(f"{bins} bins: 1 or more are needed, of probabilities in [0, 1].")
    predicted = np.concatenate([predicted, 1 - predicted])
    target = np.concatenate([target, 1 - target])
    # 1 − p rounds; what is equal but for that must not be parted by an edge
    place = predicted.round(9)
    edges = np.unique(np.quantile(place, np.linspace(0, 1, bins + 1)[1:-1], method="inverted_cdf"))
    number = np.searchsorted(edges.round(9), place, side="right")
    gaps = np.bincount(number, weights=predicted - target, minlength=len(edges) + 1)
    return float(np.abs(gaps).sum() / len(predicted))


def brier(predicted: ArrayLike, label: ArrayLike) -> float:
    """Return the mean of (predicted − label)²; labels may be shares."""
    predicted, label = _pair(predicted, label)
    return float(((predicted - label) ** 2).mean())


def mean_nll(predicted: ArrayLike, label: ArrayLike) -> float:
    """Return the mean cross-entropy in nats, ``−y log p − (1 − y) log(1 − p)``.

    Args:
        predicted: Learned probabilities of shape ``(N,)``.
        label: Labels 0 and 1, or shares between, of shape ``(N,)``.

    Returns:
        Nats per pair; infinite where a sure prediction fails.
    """
    predicted, label = _pair(predicted, label)
    with np.errstate(divide="ignore"):
        logs = np.stack([np.log(predicted), np.log1p(-predicted)])
    weights = np.stack([label, 1 - label])
    # 0 · log 0 counts nothing
    terms = np.multiply(weights, logs, where=weights > 0, out=np.zeros_like(logs))
    return float(-terms.sum(0).mean())


def ranking_recovery(
    scores: ArrayLike, kinds: Sequence[str], true_order: Sequence[str]
) -> RankingRecovery:
    """Return whether scores put kinds of answer in their true order.

    Args:
        scores: One score per prompt and kind, shape ``(N, K)``.
        kinds: Names of the K columns.
        true_order: The same names from best to worst.

    Returns:
        Whether the mean scores are in that order, and the share of prompts that are; ties are not.

    Raises:
        ConfigError: If names or shapes do not fit, or there are no prompts.
    """
    scores = _floats(scores)
    if scores.ndim != 2 or not len(scores) or scores.shape[1] != len(kinds):
        raise ConfigError(f"scores of shape (N, {len(kinds)}) are needed, not {scores.shape}.")
    if sorted(kinds) != sorted(true_order):
        raise ConfigError(f"{', '.join(true_order)} are not the kinds {', '.join(kinds)}.")
    columns = [list(kinds).index(name) for name in true_order]

    def falling(values: Floats) -> NDArray[np.bool_]:
        return np.asarray((np.diff(values[..., columns], axis=-1) < 0).all(-1))

    return RankingRecovery(bool(falling(scores.mean(0))), float(falling(scores).mean()))


def ratio_interval(part: Floats, whole: Floats, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of Σ part / Σ whole, resampling the rows of both.

    Args:
        part: Numerators of shape ``(N,)``.
        whole: Denominators of that shape.
        seed: Seed of the resampling.

    Returns:
        Low and high end.
    """

    def ratio(part: Floats, whole: Floats, axis: int = -1) -> Floats:
        return part.sum(axis) / whole.sum(axis)

    found = stats.bootstrap(
        (part, whole),
        ratio,
        paired=True,
        n_resamples=2000,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def _floats(values: ArrayLike) -> Floats:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    return np.asarray(values, dtype=np.float64)


def _pair(first: ArrayLike, second: ArrayLike) -> tuple[Floats, Floats]:
    a, b = _floats(first), _floats(second)
    if a.shape != b.shape or a.size == 0:
        raise ConfigError(
            f"two equally long, non-empty arrays are needed; got shapes {a.shape} and {b.shape}."
        )
    return a, b
