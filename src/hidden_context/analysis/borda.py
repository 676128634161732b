"""Borda counts of the responses of each row: which one is preferred to most others?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hidden_context.analysis.evidence import ResponseEvidence
from hidden_context.analysis.intervals import Resampling
from hidden_context.analysis.score_files import ResponseScores
from hidden_context.analysis.sections import sample_rows

if TYPE_CHECKING:
    from hidden_context.heads import Head


def borda_of(
    scores: ResponseScores, evidence: ResponseEvidence, head: Head, resampling: Resampling
) -> dict[str, Any] | None:
    """Summarise the Borda counts of rows with two responses or more.

    A response's Borda count is its mean probability of being preferred to another one of its row.
    It is what ordinary preference learning orders by; where context is hidden, the expected reward
    may order otherwise.

    Args:
        scores: The rows, with their facts.
        evidence: What they add to the numbers.
        head: The head that reads the raw outputs.
        resampling: How intervals are made.

    Returns:
        Rows, the share of them in which the response of the highest Borda count also has the
        highest mean reward, and, where all rows have equally many responses, the mean count of each
        place; None where no row has two responses.
    """
    from hidden_context.statistics.borda import borda_counts, pairwise_probabilities

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
    same = len({len(found) for found in counts}) == 1
    same = same and len(several) == len(scores.num_responses)
    columns = list(np.stack(counts).T) if same else []
    return {
        "rows": len(rows),
        "best_by_mean": resampling.share(agree, cluster),
        "by_place": [resampling.share(column, cluster) for column in columns],
    }
