"""Which order was learned: by Borda count or by expected utility?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hidden_context.synthetic.curves import Curves

JUMP, JUMP_MARGIN = 0.8, 0.02
"""Within this distance of the jump of the 1d environment no continuous network can be right."""


@dataclass(frozen=True)
class Agreement:
    """Spearman rank correlations of one curve over the grid.

    Attributes:
        borda_count: With the exact Borda count.
        expected_utility: With the exact expected utility.
        borda_count_off_jump: As the first, without alternatives within 0.02 of the jump (1d only).
        expected_utility_off_jump: As the second, likewise.
    """

    borda_count: float
    expected_utility: float
    borda_count_off_jump: float | None = None
    expected_utility_off_jump: float | None = None


def rank_agreements(curves: Curves) -> dict[str, Agreement]:
    """Compare the order of every curve with the two exact ones.

    Args:
        curves: Exact and learned curves.

    Returns:
        Agreements by curve: ``exact_borda_count`` (what a perfect learner of Borda counts would
        score), ``base``, ``mean_and_stddev``, ``categorical`` (both by their means) and
        ``classifier``.
    """
    return {
        "exact_borda_count": _agreement(curves, curves.borda_count),
        "base": _agreement(curves, curves.base),
        "mean_and_stddev": _agreement(curves, curves.mean),
        "categorical": _agreement(curves, curves.categorical_mean),
        "classifier": _agreement(curves, curves.classifier_borda),
    }


def _agreement(curves: Curves, learned: NDArray[np.float32]) -> Agreement:
    whole = (
        spearman(learned, curves.borda_count),
        spearman(learned, curves.expected_utility),
    )
    if curves.env != "1d":
        return Agreement(*whole)
    away = np.abs(curves.alternatives[:, 0] - JUMP) > JUMP_MARGIN
    return Agreement(
        *whole,
        spearman(learned[away], curves.borda_count[away]),
        spearman(learned[away], curves.expected_utility[away]),
    )


def spearman(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Spearman's rank correlation of two curves, ``(N,)`` each; NaN where one is constant."""
    from scipy.stats import rankdata

    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(np.corrcoef(rankdata(first), rankdata(second))[0, 1])
