"""Comparisons: of two reward models on the same rows, and of two parts of one file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hidden_context.analysis.measure.evidence import PairEvidence
from hidden_context.analysis.measure.intervals import (
    SHARE,
    Metric,
    Moments,
    Resampling,
    pair_moments,
)
from hidden_context.analysis.read.files import PairScores
from hidden_context.errors import DataError
from hidden_context.statistics.checks import Floats
from hidden_context.statistics.interval import Interval, cluster_sums
from hidden_context.statistics.significance.paired import paired_difference


@dataclass(frozen=True)
class Difference:
    """One metric of both models.

    Attributes:
        metric: ``accuracy``, ``loss``, ``brier``, ``r2``, ``r2_within`` or ``accuracy_at/{risk}``.
        first: Of the first model.
        second: Of the second.
        difference: Second minus first, with its interval by prompt.
        p_value: Of no difference, by exchanging the models at random prompts; None where there is
            a single prompt.
    """

    metric: str
    first: float
    second: float
    difference: Interval
    p_value: float | None


@dataclass(frozen=True)
class Comparison:
    """Two models on the pairs that both scored.

    Attributes:
        first: The first model's score file.
        second: The second's.
        pairs: How many pairs both have.
        clusters: Of how many prompts.
        differences: One for each metric that both have.
    """

    first: str
    second: str
    pairs: int
    clusters: int
    differences: list[Difference]


def compare(
    scores: tuple[PairScores, PairScores],
    evidence: tuple[PairEvidence, PairEvidence],
    resampling: Resampling,
) -> Comparison:
    """Compare two models on the same pairs.

    Args:
        scores: The pairs of both files, with their facts.
        evidence: What they add to the numbers.
        resampling: How intervals are made.

    Returns:
        The comparison, by prompt.

    Raises:
        DataError: If the files are not of the same rows.
    """
    places = _same_rows(*scores)
    cluster = scores[0].facts.cluster[places[0]]
    first, second = (
        pair_moments(_selected(own, place), cluster).metrics
        for own, place in zip(evidence, places, strict=True)
    )
    return Comparison(
        scores[0].file,
        scores[1].file,
        len(cluster),
        len(np.unique(cluster)),
        [
            _difference(name, (first[name], second[name]), cluster, resampling)
            for name in first
            if name in second
        ],
    )


def _difference(
    name: str, metrics: tuple[Metric, Metric], cluster: NDArray[np.int64], resampling: Resampling
) -> Difference:
    statistic, width = metrics[0].statistic, metrics[0].values.shape[1]
    values = np.concatenate([metric.values for metric in metrics], axis=1)
    found = paired_difference(
        cluster_sums(values, cluster),
        lambda totals: statistic(totals[..., :width]),
        lambda totals: statistic(totals[..., width:]),
        **vars(resampling),
    )
    p_value = found.p_value if np.isfinite(found.p_value) else None
    return Difference(name, found.first, found.second, found.difference, p_value)


def _selected(evidence: PairEvidence, rows: NDArray[np.int64]) -> PairEvidence:
    found: dict[str, Any] = {
        name: {key: each[rows] for key, each in value.items()}
        if isinstance(value, dict)
        else value[rows]
        for name, value in vars(evidence).items()
    }
    return PairEvidence(**found)


def _same_rows(first: PairScores, second: PairScores) -> tuple[NDArray[np.int64], ...]:
    """Find the rows that both models scored, and check that they are the same."""
    _, places, others = np.intersect1d(first.rows, second.rows, return_indices=True)
    same = first.facts.identity[places] == second.facts.identity[others]
    if not len(places) or not same.all():
        where = int(first.rows[places[~same][0]]) + 1 if len(places) else None
        raise DataError(
            f"its texts are not those of {first.file} in the same row"
            if len(places)
            else f"no row has rewards here and in {first.file}",
            file=second.file,
            line=where,
            remedy="Two models are compared on the same rows in the same order: score one file "
            "with both",
        )
    agree = first.preference[places] == second.preference[others]
    if not agree.all():
        raise DataError(
            f"its label is not that of {first.file} in the same row",
            file=second.file,
            line=int(first.rows[places[~agree][0]]) + 1,
        )
    return places, others


@dataclass(frozen=True)
class SubsetDifference:
    """The metrics of two parts, and their differences.

    Attributes:
        column: The column that has exactly two values.
        first: One of them.
        second: The other.
        differences: By metric, the second part's number minus the first's. Prompts that have rows
            in both parts are drawn with both, so that what they share cancels.
    """

    column: str
    first: str
    second: str
    differences: dict[str, Interval]


def subset_differences(
    labels: dict[str, NDArray[np.str_]], moments: Moments, resampling: Resampling
) -> list[SubsetDifference]:
    """Compare the two parts of every column with exactly two values.

    Args:
        labels: By column ``(N,)`` labels; empty where a row has none.
        moments: Of the N rows.
        resampling: How intervals are made.

    Returns:
        One entry for each such column.
    """
    found = []
    for column, values in labels.items():
        names = [str(name) for name in np.unique(values) if name]
        if len(names) == 2:
            differences = {
                metric: _difference_of_parts(
                    own, [values == name for name in names], moments.cluster, resampling
                )
                for metric, own in moments.metrics.items()
            }
            finite = {name: d for name, d in differences.items() if np.isfinite(d.estimate)}
            found.append(SubsetDifference(column, names[0], names[1], finite))
    return found


def _difference_of_parts(
    metric: Metric,
    parts: list[NDArray[np.bool_]],
    cluster: NDArray[np.int64],
    resampling: Resampling,
) -> Interval:
    rows, width = parts[0] | parts[1], metric.values.shape[1]
    values = np.concatenate([metric.values[rows] * part[rows, None] for part in parts], axis=1)

    def difference(totals: Floats) -> Floats:
        first, second = totals[..., :width], totals[..., width:]
        return np.asarray(metric.statistic(second) - metric.statistic(first))

    bounds = (-1.0, 1.0) if metric.bounds == SHARE else None
    return resampling.interval(cluster_sums(values, cluster[rows]), difference, bounds)
