"""Groups of rows by column or text length, and intervals by prompt of their numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hidden_context.analysis.measure.evidence import PairEvidence, ResponseEvidence
from hidden_context.analysis.read.files import Scores
from hidden_context.errors import ConfigError
from hidden_context.statistics import interval as intervals
from hidden_context.statistics.checks import Booleans, Codes, Floats, quotient
from hidden_context.statistics.interval import SHARE, Resampling, Statistic, cluster_sums, ratio

_MAX_VALUES: Final = 50
"""Values of a grouping column that get a row each; the rest are one group."""


@dataclass(frozen=True, eq=False)
class Metric:
    """A statistic of sums of rows' values.

    Attributes:
        values: ``(N, q)``, the values of each pair or row of responses.
        statistic: Function from the totals of the values to the number.
        bounds: Least and greatest value of the number; None if it has no bounds.
    """

    values: Floats
    statistic: Statistic
    bounds: tuple[float, float] | None = SHARE


@dataclass(frozen=True, eq=False)
class Moments:
    """All metrics of N rows.

    Attributes:
        metrics: The metrics by name.
        cluster: ``(N,)``, number of each row's prompt.
    """

    metrics: dict[str, Metric]
    cluster: Codes

    def intervals(self, rows: Booleans, resampling: Resampling) -> dict[str, Any]:
        """Compute the interval of every metric over some rows; None if a metric is not defined."""
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


def pair_moments(evidence: PairEvidence, cluster: Codes) -> Moments:
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
        centred = evidence.mean - evidence.mean.mean()  # loses fewer digits far from 0
        first, second = (
            intervals.explained_moments(centred[:, i], evidence.variance[:, i]) for i in (0, 1)
        )
        metrics["r2"] = Metric(first + second, intervals.explained_variance_of_sums)
        pairs = intervals.within_moments(evidence.difference, evidence.difference_variance)
        metrics["r2_within"] = Metric(pairs, intervals.within_variance_of_sums)
    at = {f"accuracy_at/{name}": _mean(right) for name, right in evidence.right_at.items()}
    return Moments(metrics | at, cluster)


def response_moments(evidence: ResponseEvidence, cluster: Codes, *, within: bool = True) -> Moments:
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
        moments = intervals.explained_moments(
            evidence.mean - evidence.mean.mean(), evidence.variance
        )
        by_row = [np.bincount(evidence.row, weights=v, minlength=len(cluster)) for v in moments.T]
        sums: Floats = np.array(by_row, dtype=np.float64).T
        metrics["r2"] = Metric(sums, intervals.explained_variance_of_sums)
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
    """Return unbiased variance of means within rows, as a share of it plus the mean variance."""
    spread, freedom, noise, count = np.moveaxis(totals, -1, 0)
    share = quotient(spread, freedom)
    return quotient(share, share + quotient(noise, count))


def group_labels(scores: Scores, by: list[str]) -> dict[str, NDArray[np.str_]]:
    """Return the columns that split the rows, in the requested order.

    Raises:
        ConfigError: If no row has a column that was requested by name.
    """
    found = {}
    for name in by:
        if name == "length_bin":
            found[name] = scores.facts.length_bins()
        elif name in scores.labels:
            found[name] = _pooled(scores.labels[name])
        elif name not in ("data_subset", "objective"):
            raise ConfigError(
                f"--by {name}, but no row of {scores.file} has that column; leave it out."
            )
    return {name: values for name, values in found.items() if (values != "").any()}


def _pooled(values: NDArray[np.str_]) -> NDArray[np.str_]:
    names, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    if len(names) <= _MAX_VALUES:
        return values
    common = np.isin(np.arange(len(names)), np.argsort(-counts, kind="stable")[:_MAX_VALUES])
    pooled = np.where(common | (names == ""), names, "(all others)")
    return np.asarray(pooled[place])


def label_groups(
    labels: dict[str, NDArray[np.str_]], rows: int
) -> list[tuple[dict[str, str], NDArray[Any]]]:
    """Split rows by their labels.

    Args:
        labels: Per label column, ``(N,)`` strings; empty for a missing label.
        rows: Number of rows N.

    Returns:
        Pairs of labels and a boolean mask ``(N,)``: first all rows (no labels), then each value of
        each column, then each combination of two or more columns that occurs.

    >>> labels = {"data_subset": np.array(["helpful", "harmless", "helpful"])}
    >>> [(group, int(mask.sum())) for group, mask in label_groups(labels, 3)]
    [({}, 3), ({'data_subset': 'harmless'}, 1), ({'data_subset': 'helpful'}, 2)]
    """
    groups: list[tuple[dict[str, str], NDArray[Any]]] = [({}, np.ones(rows, dtype=bool))]
    for name, values in labels.items():
        groups += [({name: str(v)}, values == v) for v in np.unique(values) if v]
    if len(labels) > 1:
        columns = [values.tolist() for values in labels.values()]
        for combination in sorted(set(zip(*columns, strict=True))):
            if all(combination):
                group = dict(zip(labels, combination, strict=True))
                mask = np.logical_and.reduce([labels[name] == v for name, v in group.items()])
                groups.append((group, mask))
    return groups
