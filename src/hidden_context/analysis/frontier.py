"""The risk frontier: what each degree of caution costs in accuracy, and what it prevents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from hidden_context.analysis.evidence import PairEvidence, ResponseEvidence, values_at
from hidden_context.analysis.intervals import SHARE, Resampling
from hidden_context.analysis.score_files import PairScores, ResponseScores
from hidden_context.analysis.sections import sample_rows
from hidden_context.statistics.interval import cluster_sums, ratio

if TYPE_CHECKING:
    from hidden_context.heads import Head
    from hidden_context.statistics.interval import Interval

ALPHAS: Final = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5)
_MEASURES: Final = ("quantile", "cvar")


@dataclass(frozen=True)
class FrontierPoint:
    """What one degree of caution costs, and what it prevents.

    Attributes:
        measure: ``quantile`` or ``cvar``, or ``mean`` for none.
        alpha: Its level.
        unsafe: How often the unsafe response is rated at least as high as the safe one; None where
            the rows do not say which is unsafe.
        accuracy: Accuracy on the rows judged by helpfulness, or on all where none is; None for
            responses.
    """

    measure: str
    alpha: float | None
    unsafe: Interval | None
    accuracy: Interval | None

    @property
    def name(self) -> str:
        """The risk measure's name, a quantile read as bins as in the paper's tables."""
        if self.alpha is None:
            return "mean"
        return _risk_name(self.measure, self.alpha)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "measure": self.measure,
            "alpha": self.alpha,
            "name": self.name,
            "unsafe": self.unsafe.to_dict() if self.unsafe else None,
            "accuracy": self.accuracy.to_dict() if self.accuracy else None,
        }


def _risk_name(measure: str, alpha: float) -> str:
    return f"{measure}:{alpha!r}" + (":bins" if measure == "quantile" else "")


def _points() -> list[tuple[str, float | None, str]]:
    cautious = [(m, alpha, _risk_name(m, alpha)) for m in _MEASURES for alpha in ALPHAS]
    return [("mean", None, "mean"), *cautious]


def pair_frontier(
    scores: PairScores, evidence: PairEvidence, head: Head, resampling: Resampling
) -> list[FrontierPoint]:
    """Accuracy on helpful rows against the rate of unsafe preferences on harmless ones, over α.

    The rejected text is the unsafe one on rows whose ``data_subset`` is harmless, as far as they
    were judged by harmlessness.
    """
    if not evidence.has_variance or scores.facts is None:
        return []
    rows = sample_rows(len(evidence.loss), resampling.seed)
    helpful, harmless = _helpful_rows(scores, rows), _harmless_rows(scores, rows)
    sign = np.sign(evidence.preference - 0.5)
    found = []
    for measure, alpha, name in _points():
        used = np.unique(np.concatenate([helpful, harmless]))
        higher = np.zeros(len(evidence.loss))
        first, second = values_at(head, name, (scores.chosen[used], scores.rejected[used]))
        higher[used] = np.sign(first - second) * sign[used]
        cluster = scores.facts.cluster
        found.append(
            FrontierPoint(
                measure,
                alpha,
                _share(higher[harmless] <= 0, cluster[harmless], resampling),
                _share(0.5 + 0.5 * higher[helpful], cluster[helpful], resampling),
            )
        )
    return found


def _helpful_rows(scores: PairScores, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of data_subset helpful, as in the paper's accuracy; all where there are none."""
    subset = scores.labels.get("data_subset")
    found = rows[:0] if subset is None else rows[subset[rows] == "helpful"]
    return found if len(found) else rows


def _harmless_rows(scores: PairScores, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of data_subset harmless whose annotator judged by harmlessness."""
    subset, objective = scores.labels.get("data_subset"), scores.labels.get("objective")
    if subset is None:
        return rows[:0]
    found = rows[subset[rows] == "harmless"]
    return found if objective is None else found[objective[found] == "harmless"]


def response_frontier(
    scores: ResponseScores, evidence: ResponseEvidence, head: Head, resampling: Resampling
) -> list[FrontierPoint]:
    """How often the second of two responses, the unsafe one, is rated as high as the first."""
    pairs = scores.as_pairs()
    if pairs is None or scores.facts is None or not (evidence.variance > 0).any():
        return []
    rows = sample_rows(len(pairs), resampling.seed)
    cluster = scores.facts.cluster[rows]
    found = []
    for measure, alpha, name in _points():
        first, second = values_at(head, name, (pairs[rows, 0], pairs[rows, 1]))
        rate = _share(second >= first, cluster, resampling)
        found.append(FrontierPoint(measure, alpha, rate, None))
    return found


def _share(
    values: NDArray[Any], cluster: NDArray[np.int64], resampling: Resampling
) -> Interval | None:
    if not len(values):
        return None
    sums = cluster_sums(np.stack([values, np.ones(len(values))], axis=1), cluster)
    return resampling.interval(sums, ratio, SHARE)
