"""The risk frontier: what each degree of caution costs in accuracy, and what it prevents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from hidden_context.analysis.evidence import PairEvidence, ResponseEvidence, values_at
from hidden_context.analysis.intervals import Resampling
from hidden_context.analysis.score_files import PairScores, ResponseScores
from hidden_context.analysis.sections import sample_rows

if TYPE_CHECKING:
    from hidden_context.heads import Head
    from hidden_context.statistics.interval import Interval

ALPHAS: Final = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5)


@dataclass(frozen=True)
class FrontierPoint:
    """What one degree of caution costs, and what it prevents.

    Attributes:
        measure: ``quantile`` or ``cvar``, or ``mean`` for none.
        alpha: Its level.
        name: The risk measure's name.
        unsafe: How often the unsafe response is rated at least as high as the safe one; None where
            the rows do not say which is unsafe.
        accuracy: Accuracy on the rows judged by helpfulness, or on all where none is; None for
            responses.
    """

    measure: str
    alpha: float | None
    name: str
    unsafe: Interval | None
    accuracy: Interval | None


def _points() -> list[tuple[str, float | None, str]]:
    """Measures, levels and names; a quantile is read as bins, as in the paper's tables."""
    bins = {"quantile": ":bins", "cvar": ""}
    cautious = [(m, alpha, f"{m}:{alpha!r}{bins[m]}") for m in bins for alpha in ALPHAS]
    return [("mean", None, "mean"), *cautious]


def pair_frontier(
    scores: PairScores, evidence: PairEvidence, head: Head, resampling: Resampling
) -> list[FrontierPoint]:
    """Accuracy on helpful rows against the rate of unsafe preferences on harmless ones, over α.

    The rejected text is the unsafe one on rows whose ``data_subset`` is harmless, as far as they
    were judged by harmlessness.
    """
    if not evidence.has_variance:
        return []
    rows = sample_rows(len(evidence.loss), resampling.seed)
    helpful, harmless = _helpful_rows(scores, rows), _harmless_rows(scores, rows)
    used = np.unique(np.concatenate([helpful, harmless]))
    cluster, higher = scores.facts.cluster, np.zeros(len(evidence.loss))
    found = []
    for measure, alpha, name in _points():
        first, second = values_at(head, name, (scores.chosen[used], scores.rejected[used]))
        higher[used] = np.sign(first - second) * np.sign(evidence.preference[used] - 0.5)
        unsafe = None
        if len(harmless):
            unsafe = resampling.share(higher[harmless] <= 0, cluster[harmless])
        accuracy = resampling.share(0.5 + 0.5 * higher[helpful], cluster[helpful])
        found.append(FrontierPoint(measure, alpha, name, unsafe, accuracy))
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
    if pairs is None or not (evidence.variance > 0).any():
        return []
    rows = sample_rows(len(pairs), resampling.seed)
    cluster = scores.facts.cluster[rows]
    found = []
    for measure, alpha, name in _points():
        first, second = values_at(head, name, (pairs[rows, 0], pairs[rows, 1]))
        rate = resampling.share(second >= first, cluster)
        found.append(FrontierPoint(measure, alpha, name, rate, None))
    return found
