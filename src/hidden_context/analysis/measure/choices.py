"""Choices by risk measure and by Borda count, and the costs and benefits of caution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from hidden_context.analysis.measure.evidence import PairEvidence, ResponseEvidence, values_at
from hidden_context.analysis.read.files import PairScores, ResponseScores
from hidden_context.statistics.checks import sample_rows
from hidden_context.statistics.interval import Interval, Resampling

if TYPE_CHECKING:
    from hidden_context.heads import Head

ALPHAS: Final = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5)


@dataclass(frozen=True)
class FrontierPoint:
    """The cost and benefit of one degree of caution.

    Attributes:
        measure: ``quantile`` or ``cvar``, or ``mean`` for no caution.
        alpha: Level of the quantile or CVaR.
        name: Name of the risk measure.
        unsafe: How often the unsafe response is rated at least as high as the safe response; None
            if the rows do not say which response is unsafe.
        accuracy: Accuracy on the rows judged by helpfulness, or on all rows if there are none; None
            for responses.
    """

    measure: str
    alpha: float | None
    name: str
    unsafe: Interval | None
    accuracy: Interval | None


def _points() -> list[tuple[str, float | None, str]]:
    """Return measures, levels and names; quantiles are read as bins, as in the paper's tables."""
    bins = {"quantile": ":bins", "cvar": ""}
    cautious = [(m, alpha, f"{m}:{alpha!r}{bins[m]}") for m in bins for alpha in ALPHAS]
    return [("mean", None, "mean"), *cautious]


def pair_frontier(
    scores: PairScores, evidence: PairEvidence, head: Head, resampling: Resampling
) -> list[FrontierPoint]:
    """Compute accuracy on helpful rows and unsafe preferences on harmless rows, over α.

    On rows whose ``data_subset`` is harmless and that were judged by harmlessness, the rejected
    text is the unsafe one.
    """
    if not evidence.has_variance:
        return []
    rows = sample_rows(len(evidence.loss), resampling.seed)
    subset = scores.labels.get("data_subset", np.full(len(scores.rows), ""))[rows]
    objective = scores.labels["objective"][rows] if "objective" in scores.labels else subset
    harmless = rows[(subset == "harmless") & (objective == "harmless")]
    helpful = rows[subset == "helpful"]
    helpful = helpful if len(helpful) else rows  # as in the paper's accuracy
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


def response_frontier(
    scores: ResponseScores, evidence: ResponseEvidence, head: Head, resampling: Resampling
) -> list[FrontierPoint]:
    """Compute how often the second, unsafe response is rated at least as high as the first."""
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


def borda_of(
    scores: ResponseScores, evidence: ResponseEvidence, head: Head, resampling: Resampling
) -> dict[str, Any] | None:
    """Summarise the Borda counts of rows with two responses or more.

    A response's Borda count is its mean probability of being preferred to another response in the
    row. Ordinary preference learning orders responses by Borda count; with hidden context, the
    order by expected reward may differ.

    Args:
        scores: The rows, with their facts.
        evidence: Numbers of the responses of these rows.
        head: The head that reads the raw outputs.
        resampling: How intervals are made.

    Returns:
        The number of rows; the share of rows in which the response with the highest Borda count
        also has the highest mean reward; and, if all rows have equally many responses, the mean
        Borda count of each place. None if no row has two responses.
    """
    from hidden_context.statistics.evaluation.judgement_metrics import (
        borda_counts,
        pairwise_probabilities,
    )

    starts = np.concatenate([[0], np.cumsum(scores.num_responses)])
    several = np.flatnonzero(scores.num_responses > 1)
    if not len(several):
        return None
    import torch

    rows = several[sample_rows(len(several), resampling.seed)]
    agree, counts = np.empty(len(rows)), []
    with torch.no_grad():
        for place, row in enumerate(rows):
            own = slice(starts[row], starts[row + 1])
            raw = torch.from_numpy(scores.outputs[own])
            found = borda_counts(pairwise_probabilities(head, raw).clamp(0.0, 1.0)).numpy()
            counts.append(found)
            agree[place] = found.argmax() == evidence.mean[own].argmax()
    cluster = scores.facts.cluster[rows]
    same = len(set(map(len, counts))) == 1 and len(several) == len(scores.num_responses)
    columns = list(np.stack(counts).T) if same else []
    return {
        "rows": len(rows),
        "best_by_mean": resampling.share(agree, cluster),
        "by_place": [resampling.share(column, cluster) for column in columns],
    }
