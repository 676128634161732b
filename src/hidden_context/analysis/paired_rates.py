"""How often one text of a row is rated at least as high as the other, with and without caution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hidden_context.analysis.evidence import values_at
from hidden_context.analysis.intervals import Resampling
from hidden_context.analysis.records import Count
from hidden_context.statistics.context_tests import TestResult
from hidden_context.statistics.interval import Interval
from hidden_context.statistics.paired import mcnemar_test

if TYPE_CHECKING:
    from hidden_context.heads import Head

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PairedRates:
    """Rates of the same rows by the mean and by a cautious risk measure.

    Attributes:
        mean: Rows in which it holds by the mean; an exact tie counts whole.
        risk_sensitive: By the risk measure; None where there is none.
        intervals: Of the two shares, by prompt.
        test: McNemar's exact test of the two, by prompt; None where there is no risk measure.
    """

    mean: Count
    risk_sensitive: Count | None
    intervals: tuple[Interval, Interval | None]
    test: TestResult | None


def paired_rates(
    head: Head,
    risk_names: tuple[str, str | None],
    first: Floats,
    second: Floats,
    cluster: NDArray[np.int64],
    resampling: Resampling,
) -> PairedRates:
    """Count rows whose first text is rated at least as high as the second.

    Args:
        head: The head that reads the raw outputs.
        risk_names: The mean, and a risk measure or None.
        first: Raw outputs of shape ``(N, K)``.
        second: Raw outputs of that shape.
        cluster: Number of each row's prompt, ``(N,)``.
        resampling: How intervals are made.

    Returns:
        The rates; see :class:`PairedRates`.
    """
    holds = [
        np.greater_equal(*values_at(head, name, (first, second))).astype(np.float64)
        for name in risk_names
        if name is not None
    ]
    counts = [Count(float(each.sum()), len(each)) for each in holds]
    intervals = [resampling.share(each, cluster) for each in holds]
    if len(holds) == 1:
        return PairedRates(counts[0], None, (intervals[0], None), None)
    test = mcnemar_test(holds[0], holds[1], cluster)
    return PairedRates(counts[0], counts[1], (intervals[0], intervals[1]), test)
