"""Intervals by prompt of the numbers of a group of rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hidden_context.analysis.evidence import PairEvidence, ResponseEvidence
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
class Moments:
    """Columns whose sums by prompt give every number, and where they stand.

    Attributes:
        values: ``(N, q)``, a row of moments for each pair or row of responses.
        statistics: By metric its columns, its function of their totals, and its bounds.
        cluster: ``(N,)``, number of each row's prompt.
    """

    values: Floats
    statistics: dict[str, tuple[list[int], Statistic, tuple[float, float] | None]]
    cluster: NDArray[np.int64]

    def sums(self, rows: NDArray[np.bool_]) -> Floats:
        """Add up the moments of some rows by prompt, ``(C, q)``."""
        return cluster_sums(self.values[rows], self.cluster[rows])

    def intervals(self, rows: NDArray[np.bool_], resampling: Resampling) -> dict[str, Any]:
        """Make the interval of every metric over some rows; None where it is not defined."""
        sums = self.sums(rows)
        found: dict[str, Any] = {}
        for name, (columns, statistic, bounds) in self.statistics.items():
            interval = resampling.interval(sums[:, columns], statistic, bounds)
            place, _, measure = name.partition("/")
            value = interval if np.isfinite(interval.estimate) else None
            if measure:
                found.setdefault(place, {})[measure] = value
            else:
                found[place] = value
        return found


class _Columns:
    """Collects columns of moments and the statistics that use them."""

    def __init__(self) -> None:
        self.values: list[Floats] = []
        self.statistics: dict[str, tuple[list[int], Statistic, tuple[float, float] | None]] = {}

    def add(self, *columns: Floats) -> list[int]:
        self.values += columns
        return list(range(len(self.values) - len(columns), len(self.values)))

    def use(
        self,
        name: str,
        columns: list[int],
        statistic: Callable[[Floats], Floats] = ratio,
        bounds: tuple[float, float] | None = SHARE,
    ) -> None:
        self.statistics[name] = (columns, statistic, bounds)

    def moments(self, cluster: NDArray[np.int64]) -> Moments:
        return Moments(np.stack(self.values, axis=1), self.statistics, cluster)


def pair_moments(evidence: PairEvidence, cluster: NDArray[np.int64]) -> Moments:
    """Return the moments of pairs: accuracy, loss, Brier score and the shares r².

    Metrics: ``accuracy``, ``loss``, ``brier``, ``r2`` and ``r2_within`` (for rewards with a
    variance), and ``accuracy_at/{risk measure}``.
    """
    columns = _Columns()
    (one,) = columns.add(np.ones_like(evidence.loss))
    columns.use("accuracy", [*columns.add(evidence.right), one])
    columns.use("loss", [*columns.add(evidence.loss), one], bounds=None)
    columns.use("brier", [*columns.add(evidence.brier), one])
    if evidence.has_variance:
        centred = evidence.mean - evidence.mean.mean()  # digits, where rewards lie far from 0
        texts = sum(explained_moments(centred[:, i], evidence.variance[:, i]) for i in (0, 1))
        columns.use("r2", columns.add(*np.asarray(texts).T), explained_variance_of_sums)
        pairs = within_moments(evidence.difference, evidence.difference_variance)
        columns.use("r2_within", columns.add(*pairs.T), within_variance_of_sums)
    for name, right in evidence.right_at.items():
        columns.use(f"accuracy_at/{name}", [*columns.add(right), one])
    return columns.moments(cluster)


def response_moments(
    evidence: ResponseEvidence, cluster: NDArray[np.int64], *, within: bool = True
) -> Moments:
    """Return the moments of rows of responses: r² and how often the second is rated higher.

    Metrics: ``r2`` and ``r2_within`` (for rewards with a variance), ``second_at_least/{risk}``.

    Args:
        evidence: Numbers of the responses of N rows.
        cluster: Number of each row's prompt, ``(N,)``.
        within: Whether the responses' variances are those of independent rewards, so that there is
            an r² within prompts.
    """
    columns = _Columns()
    rows = len(cluster)
    (one,) = columns.add(np.ones(rows))
    if (evidence.variance > 0).any():
        centred = evidence.mean - evidence.mean.mean()
        moments = cluster_rows(explained_moments(centred, evidence.variance), evidence.row, rows)
        columns.use("r2", columns.add(*moments.T), explained_variance_of_sums)
        count, first, second, noise = moments.T
        spread = np.maximum(second - first**2 / count, 0.0)
        own = columns.add(spread, count - 1, noise, count)
        if within and (count > 1).any():
            columns.use("r2_within", own, _within_of_responses)
    for name, values in (evidence.second_at_least or {}).items():
        columns.use(f"second_at_least/{name}", [*columns.add(values), one])
    return columns.moments(cluster)


def cluster_rows(values: Floats, row: NDArray[np.int64], rows: int) -> Floats:
    """Add up responses by row, ``(rows, q)``."""
    return np.stack([np.bincount(row, weights=v, minlength=rows) for v in values.T], axis=1)


def _within_of_responses(totals: Floats) -> Floats:
    """Unbiased variance of means within rows over itself and the mean variance of rewards."""
    spread, freedom, noise, count = np.moveaxis(totals, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        explained = spread / freedom
        return np.asarray(explained / (explained + noise / count))
