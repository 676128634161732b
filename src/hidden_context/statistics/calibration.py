"""Calibration and sharpness of predicted probabilities of preference.

The results must not depend on which response is called chosen, so every pair is turned to the side
that the model prefers. Its probability then lies in [½, 1], and its label is the share of
annotators who prefer that side too. A model without a preference (P = ½) is half right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.optimize import brentq

from hidden_context.errors import ConfigError
from hidden_context.statistics.checks import Codes, Floats, check_shares, equally_long, numbered
from hidden_context.statistics.interval import FEWEST, RESAMPLES, Interval, cluster_sums, wilson

BINS: Final = 10


@dataclass(frozen=True)
class ReliabilityBin:
    """The pairs of one bin of predicted probabilities of the preferred side.

    Attributes:
        low: Lower edge.
        high: Upper edge.
        n: Number of pairs.
        predicted: Mean predicted probability.
        observed: Mean label: the share of annotators who prefer that side.
        observed_low: Lower end of the interval of ``observed``.
        observed_high: Upper end.
    """

    low: float
    high: float
    n: int
    predicted: float
    observed: float
    observed_low: float
    observed_high: float


def oriented(probability: Floats, label: Floats) -> tuple[Floats, Floats]:
    """Turn every pair to the side that the model prefers.

    Args:
        probability: P(chosen ≻ rejected), of shape ``(N,)``.
        label: Share of annotators for the chosen response, in [0, 1], of shape ``(N,)``.

    Returns:
        Probabilities in [½, 1] and labels of the same side, both of shape ``(N,)``. Where the
        probability is exactly ½, the model prefers no side, and the label is ½.

    Raises:
        ConfigError: If shapes differ, there are no pairs, or numbers lie outside [0, 1].
    """
    probability, label = equally_long(probability, label)
    check_shares(probability, "probabilities")
    check_shares(label, "labels")
    side = np.sign(probability - 0.5)
    return np.abs(probability - 0.5) + 0.5, 0.5 + side * (label - 0.5)


def sharpness(probability: Floats) -> float:
    """Return the mean of (P − ½)²: how far predictions are from a coin toss.

    Args:
        probability: P(chosen ≻ rejected), of shape ``(N,)``, in either orientation.

    Returns:
        A number between 0 (always ½) and ¼ (always sure). Sharpness is good only if predictions
        are calibrated.

    Raises:
        ConfigError: If there are no pairs, or numbers lie outside [0, 1].
    """
    (probability,) = equally_long(probability)
    check_shares(probability, "probabilities")
    return float(np.mean((probability - 0.5) ** 2))


def reliability_bins(
    probability: Floats,
    label: Floats,
    bins: int = BINS,
    *,
    cluster: Codes | None = None,
    level: float = 0.95,
) -> list[ReliabilityBin]:
    r"""Compare predicted probabilities with labels, in equally wide bins of [½, 1].

    The interval of the observed share is Wilson's. With clusters, it uses the effective sample
    size, :math:`n_e = p(1 - p) / \widehat{\operatorname{Var}}\, p` with the variance by cluster, at
    most n. If all labels of a bin are the same, the sample size is the number of clusters. Soft
    labels vary less than the hard labels that Wilson's interval assumes, so their intervals are too
    wide rather than too narrow.

    Args:
        probability: P(chosen ≻ rejected), of shape ``(N,)``.
        label: Share of annotators for the chosen response, in [0, 1], of shape ``(N,)``.
        bins: Number of bins.
        cluster: Number of each pair's cluster, 0 or more, of shape ``(N,)``; None where pairs are
            independent.
        level: Confidence level.

    Returns:
        The bins that contain a pair, in rising order.

    Raises:
        ConfigError: If shapes differ, there are no pairs, numbers lie outside [0, 1], or
            ``bins`` is below 1.

    Source: Wilson (1927); the effective size as Korn and Graubard (1998) have it.
    """
    predicted, observed = oriented(probability, label)
    number = _bin_numbers(predicted, bins)
    codes = numbered(cluster, len(predicted))
    edges = np.linspace(0.5, 1.0, bins + 1)
    found = []
    for place in np.unique(number):
        here = number == place
        share = float(observed[here].mean())
        ends = wilson(share, _effective_size(observed[here], codes[here]), level)
        found.append(
            ReliabilityBin(
                low=float(edges[place]),
                high=float(edges[place + 1]),
                n=int(here.sum()),
                predicted=float(predicted[here].mean()),
                observed=share,
                observed_low=ends.low,
                observed_high=ends.high,
            )
        )
    return found


def expected_calibration_error(
    probability: Floats,
    label: Floats,
    bins: int = BINS,
    *,
    cluster: Codes | None = None,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    r"""Estimate the expected calibration error, with an interval by cluster.

    .. math:: \mathrm{ECE} = \sum_b \tfrac{n_b}{N} |\bar P_b - \bar y_b|

    over equally wide bins of [½, 1]. Noise alone makes the error positive: even a calibrated
    model's estimate is not 0. An ordinary bootstrap would add the same bias again. The interval
    instead contains every error ``κ · estimate`` (all gaps scaled alike) under which an estimate
    like this one is plausible. The gaps' noise is taken as normal, with its covariance by cluster.
    The interval reaches 0 exactly when the labels are compatible with a calibrated model.

    Args:
        probability: P(chosen ≻ rejected), of shape ``(N,)``.
        label: Share of annotators for the chosen response, in [0, 1], of shape ``(N,)``.
        bins: Number of bins.
        cluster: Number of each pair's cluster, 0 or more, of shape ``(N,)``; None where pairs are
            independent.
        level: Confidence level.
        resamples: Number of draws of the gaps' noise.
        seed: Seed of these draws.

    Returns:
        The estimate, in [0, 1], with its interval; no interval below five clusters.

    Raises:
        ConfigError: If shapes differ, there are no pairs, numbers lie outside [0, 1], or
            ``bins`` is below 1.
    """
    predicted, observed = oriented(probability, label)
    number = _bin_numbers(predicted, bins)
    places, number = np.unique(number, return_inverse=True)
    values = np.zeros((len(predicted), len(places) + 1))
    values[np.arange(len(predicted)), number] = predicted - observed
    values[:, -1] = 1.0
    sums = cluster_sums(values, numbered(cluster, len(predicted)))
    gaps = sums[:, :-1].sum(0) / len(predicted)
    estimate = float(np.abs(gaps).sum())
    count = len(sums)
    if count < FEWEST:
        return Interval.without_ends(estimate, level)
    pull = (sums[:, :-1] - sums[:, -1:] * gaps) / len(predicted)
    covariance = pull.T @ pull * count / (count - 1)
    noise = np.random.default_rng(seed).multivariate_normal(
        np.zeros(len(gaps)), covariance, size=resamples, method="eigh"
    )
    low, high = (_scaled_error(gaps, noise, (1 + side * level) / 2) for side in (1, -1))
    return Interval(estimate, low, min(high, 1.0), level, "bootstrap")


def _scaled_error(gaps: Floats, noise: Floats, quantile: float) -> float:
    """Return the error κ·Σ|gap| whose estimates have the found one at ``quantile``; 0 if none."""
    found = np.abs(gaps).sum()

    def at(scale: float) -> float:
        return float(np.quantile(np.abs(scale * gaps + noise).sum(1), quantile))

    if at(0.0) >= found:
        return 0.0
    high = 1.0
    while at(high) < found:  # Σ|κ·gap + e| ≥ κ·Σ|gap| − Σ|e| grows without bound
        high *= 2
    return float(brentq(lambda scale: at(scale) - found, 0.0, high) * found)


def _effective_size(label: Floats, cluster: Codes) -> float:
    share, count = label.mean(), len(np.unique(cluster))
    pull = np.bincount(cluster, weights=label - share) / len(label)
    variance = np.square(pull).sum() * count / max(count - 1, 1)
    if count == 1 or variance <= 1e-12:
        return float(count)
    return float(np.clip(share * (1 - share) / variance, 1.0, len(label)))


def _bin_numbers(predicted: Floats, bins: int) -> Codes:
    if bins < 1:
        raise ConfigError(f"bins is {bins}; it has to be 1 or more.")
    # 1 − p rounds: numbers that differ only by rounding must not fall into different bins
    place = np.floor(((predicted - 0.5) * 2 * bins).round(9)).astype(np.int64)
    return np.minimum(place, bins - 1)
