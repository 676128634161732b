"""Two parts of one file: does the model do better on one of them?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hidden_context.analysis.intervals import SHARE, Moments, Resampling
from hidden_context.statistics.checks import Floats
from hidden_context.statistics.interval import (
    Interval,
    Statistic,
    cluster_sums,
    stack_sums,
)


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
        if len(names) != 2:
            continue
        rows = np.flatnonzero(values != "")
        sums = [
            cluster_sums(
                moments.values[rows] * (values[rows] == name)[:, None], moments.cluster[rows]
            )
            for name in names
        ]
        differences = {
            metric: _interval(sums, columns, statistic, bounds, resampling)
            for metric, (columns, statistic, bounds) in moments.statistics.items()
        }
        defined = {name: each for name, each in differences.items() if np.isfinite(each.estimate)}
        found.append(SubsetDifference(column, names[0], names[1], defined))
    return found


def _interval(
    sums: list[Floats],
    columns: list[int],
    statistic: Statistic,
    bounds: tuple[float, float] | None,
    resampling: Resampling,
) -> Interval:
    width = len(columns)

    def difference(totals: Floats) -> Floats:
        return np.asarray(statistic(totals[..., width:]) - statistic(totals[..., :width]))

    both = stack_sums([part[:, columns] for part in sums])
    return resampling.interval(both, difference, (-1.0, 1.0) if bounds == SHARE else None)
