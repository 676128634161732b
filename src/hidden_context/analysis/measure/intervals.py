"""Intervals by prompt of the numbers of a group of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hidden_context.analysis.measure.evidence import PairEvidence, ResponseEvidence
from hidden_context.statistics.explained import (
    explained_moments,
    explained_variance_of_sums,
    within_moments,
    within_variance_of_sums,
)
from hidden_context.statistics.interval import (
    Interval,
    Statistic,
    cluster_interval,
    cluster_sums,
    ratio,
)

Floats = NDArray[np.float64]

SHARE = (0.0, 1.0)


@dataclass(frozen=True)
class Resampling:
    """How intervals are made.

    Attributes:
        level: Confidence level.
        resamples: Of the bootstrap.
        seed: Of the bootstrap and of permutations.
    """

    level: float = 0.95
    resamples: int = 999
    seed: int = 0

    def interval(
        self, sums: Floats, statistic: Statistic, bounds: tuple[float, float] | None = None
    ) -> Interval:
        """Make the interval of a statistic of sums by prompt."""
        return cluster_interval(sums, statistic, bounds=bounds, **vars(self))

    def share(self, values: NDArray[Any], cluster: NDArray[np.int64]) -> Interval:
        """Make the interval by prompt of the mean of rows' values, each between 0 and 1."""
        sums = cluster_sums(np.stack([values, np.ones(len(values))], axis=1), cluster)
        return self.interval(sums, ratio, SHARE)


@dataclass(frozen=True, eq=False)
class Metric:
    """A statistic of sums of rows' values.

    Attributes:
        values: ``(N, q)``, the values of each pair or row of responses.
        statistic: Takes their totals to the number.
        bounds: Least and greatest value of the number; None where it has none.
    """

    values: Floats
    statistic: Statistic
    bounds: tuple[float, float] | None = SHARE


@dataclass(frozen=True, eq=False)
class Moments:
    """All metrics of N rows.

    Attributes:
        metrics: By name.
        cluster: ``(N,)``, number of each row's prompt.
    """

    metrics: dict[str, Metric]
    cluster: NDArray[np.int64]

    def intervals(self, rows: NDArray[np.bool_], resampling: Resampling) -> dict[str, Any]:
        """Make the interval of every metric over some rows; None where it is not defined."""
        cluster, found = self.cluster[rows], dict[str, Any]()
        for name, metric in self.metrics.items():
            sums = cluster_sums(metric.values[rows], cluster)
            interval = resampling.interval(sums, metric.statistic, metric.bounds)
            value = interval if np.isfinite(interval.estimate) else None
            place, _, measure = name.partition("/")
            if measure:
                found.setdefault(place, {})[measure] = value
            else:
                found[place] = value
        return found


def pair_moments(evidence: PairEvidence, cluster: NDArray[np.int64]) -> Moments:
    """Return the metrics of pairs.

    They are ``accuracy``, ``loss``, ``brier``, ``r2`` and ``r2_within`` (for rewards with a
    variance), and ``accuracy_at/{risk measure}``.
    """
    metrics = {
        "accuracy": _mean(evidence.right),
        "loss": _mean(evidence.loss, bounds=None),
        "brier": _mean(evidence.brier),
    }
    if evidence.has_variance:
        centred = evidence.mean - evidence.mean.mean()  # keeps digits where rewards lie far from 0
        first, second = (explained_moments(centred[:, i], evidence.variance[:, i]) for i in (0, 1))
        metrics["r2"] = Metric(first + second, explained_variance_of_sums)
        pairs = within_moments(evidence.difference, evidence.difference_variance)
        metrics["r2_within"] = Metric(pairs, within_variance_of_sums)
    at = {f"accuracy_at/{name}": _mean(right) for name, right in evidence.right_at.items()}
    return Moments(metrics | at, cluster)


def response_moments(
    evidence: ResponseEvidence, cluster: NDArray[np.int64], *, within: bool = True
) -> Moments:
    """Return the metrics of rows of responses.

    They are ``r2`` and ``r2_within`` (for rewards with a variance), and ``second_at_least/{risk
    measure}``.

    Args:
        evidence: Numbers of the responses of N rows.
        cluster: Number of each row's prompt, ``(N,)``.
        within: Whether the responses' variances are those of independent rewards, so that there is
            an r² within prompts.
    """
    metrics = {}
    if (evidence.variance > 0).any():
        moments = explained_moments(evidence.mean - evidence.mean.mean(), evidence.variance)
        by_row = [np.bincount(evidence.row, weights=v, minlength=len(cluster)) for v in moments.T]
        sums: Floats = np.array(by_row, dtype=np.float64).T
        metrics["r2"] = Metric(sums, explained_variance_of_sums)
        count, first, second, noise = sums.T
        if within and (count > 1).any():
            spread = np.maximum(second - first**2 / count, 0.0)
            values = np.stack([spread, count - 1, noise, count], axis=1)
            metrics["r2_within"] = Metric(values, _within_of_responses)
    rates = evidence.second_at_least or {}
    at = {f"second_at_least/{name}": _mean(values) for name, values in rates.items()}
    return Moments(metrics | at, cluster)


def _mean(values: Floats, bounds: tuple[float, float] | None = SHARE) -> Metric:
    return Metric(np.stack([values, np.ones(len(values))], axis=1), ratio, bounds)


def _within_of_responses(totals: Floats) -> Floats:
    """Unbiased variance of means within rows over itself and the mean variance of rewards."""
    spread, freedom, noise, count = np.moveaxis(totals, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        explained = spread / freedom
        return np.asarray(explained / (explained + noise / count))
