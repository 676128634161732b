"""Comparisons of two reward models on the same rows, and of two parts of one file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hidden_context.analysis.measure.evidence import PairEvidence
from hidden_context.analysis.measure.intervals import Metric, Moments, pair_moments
from hidden_context.analysis.read.files import PairScores
from hidden_context.errors import DataError
from hidden_context.statistics.checks import Booleans, Codes, Floats
from hidden_context.statistics.interval import SHARE, Interval, Resampling, cluster_sums
from hidden_context.statistics.significance.permutation import paired_difference

_SAME_ROWS: Final = (
    "Two models are compared on the same rows in the same order: score one file with both"
)


@dataclass(frozen=True)
class Difference:
    """One metric of both models, and its difference.

    Attributes:
        metric: ``accuracy``, ``loss``, ``brier``, ``r2``, ``r2_within`` or ``accuracy_at/{risk}``.
        first: The first model's value.
        second: The second model's value.
        difference: Second minus first, with its interval by prompt.
        p_value: p-value of no difference, by exchanging the models at random prompts; None if there
            is only one prompt.
    """

    metric: str
    first: float
    second: float
    difference: Interval
    p_value: float | None


@dataclass(frozen=True)
class Comparison:
    """A comparison of two models on the pairs that both scored.

    Attributes:
        first: The first model's score file.
        second: The second model's score file.
        pairs: Number of pairs that both models scored.
        clusters: Number of prompts of these pairs.
        differences: One for each metric that both models have.
    """

    first: str
    second: str
    pairs: int
    clusters: int
    differences: list[Difference]


def compare(
    first: tuple[PairScores, PairEvidence],
    second: tuple[PairScores, PairEvidence],
    resampling: Resampling,
) -> Comparison:
    """Compare two models on the same pairs.

    Args:
        first: The first model's pairs with their facts, and their numbers.
        second: The second model's pairs and numbers.
        resampling: How intervals are made.

    Returns:
        The comparison, by prompt.

    Raises:
        DataError: If the files do not have the same rows.
    """
    places = _same_rows(first[0], second[0])
    cluster = first[0].facts.cluster[places[0]]
    metrics = [pair_moments(evidence, cluster).metrics for _, evidence in (first, second)]

    def difference(name: str) -> Difference:
        statistic = metrics[0][name].statistic
        values = [own[name].values[rows] for own, rows in zip(metrics, places, strict=True)]
        width = values[0].shape[1]
        found = paired_difference(
            cluster_sums(np.concatenate(values, axis=1), cluster),
            lambda totals: statistic(totals[..., :width]),
            lambda totals: statistic(totals[..., width:]),
            **vars(resampling),
        )
        p_value = found.p_value if np.isfinite(found.p_value) else None
        return Difference(name, found.first, found.second, found.difference, p_value)

    differences = [difference(name) for name in metrics[0] if name in metrics[1]]
    files = first[0].file, second[0].file
    return Comparison(*files, len(cluster), len(np.unique(cluster)), differences)


def _same_rows(first: PairScores, second: PairScores) -> tuple[Codes, ...]:
    """Find the rows that both models scored, and check that they are the same."""
    _, places, others = np.intersect1d(first.rows, second.rows, return_indices=True)
    if not len(places):
        raise DataError(
            f"no row has rewards here and in {first.file}", file=second.file, remedy=_SAME_ROWS
        )
    same = first.facts.identity[places] == second.facts.identity[others]
    agree = first.preference[places] == second.preference[others]
    for fits, what in ((same, "other texts"), (agree, "another label")):
        if not fits.all():
            problem = f"it has {what} than {first.file} in the same row"
            line = int(first.rows[places[~fits][0]]) + 1
            raise DataError(problem, file=second.file, line=line, remedy=_SAME_ROWS)
    return places, others


@dataclass(frozen=True)
class SubsetDifference:
    """The differences in metrics between the two parts of a file.

    Attributes:
        column: The column that has exactly two values.
        first: The first value.
        second: The second value.
        differences: By metric, the second part's number minus the first part's. A prompt with rows
            in both parts is resampled with all its rows, so that shared effects cancel.
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
            parts = [values == name for name in names]
            differences = {
                metric: _difference_of_parts(own, parts, moments.cluster, resampling)
                for metric, own in moments.metrics.items()
            }
            finite = {name: d for name, d in differences.items() if np.isfinite(d.estimate)}
            found.append(SubsetDifference(column, names[0], names[1], finite))
    return found


def _difference_of_parts(
    metric: Metric, parts: list[Booleans], cluster: Codes, resampling: Resampling
) -> Interval:
    rows, width = parts[0] | parts[1], metric.values.shape[1]
    values = np.concatenate([metric.values[rows] * part[rows, None] for part in parts], axis=1)

    def difference(totals: Floats) -> Floats:
        first, second = totals[..., :width], totals[..., width:]
        return np.asarray(metric.statistic(second) - metric.statistic(first))

    bounds = (-1.0, 1.0) if metric.bounds == SHARE else None
    return resampling.interval(cluster_sums(values, cluster[rows]), difference, bounds)
