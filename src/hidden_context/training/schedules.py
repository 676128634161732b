"""Schedules over a training: the paper's learning rates, and the weight of the prior."""

from __future__ import annotations

import math
from typing import Final

FLOOR: Final = 0.1
PAPER_SCHEDULES: Final = ("cosine", "step")


def cosine_factor(step: int, total: int) -> float:
    r"""Decay from 1 to a tenth, :math:`0.1 + 0.45\,(1 + \cos(\pi t/T))`.

    >>> [round(cosine_factor(t, 4), 3) for t in range(5)]
    [1.0, 0.868, 0.55, 0.232, 0.1]
    """
    progress = min(step / max(total, 1), 1.0)
    return FLOOR + 0.5 * (1 - FLOOR) * (1 + math.cos(math.pi * progress))


def step_factor(step: int, total: int) -> float:
    """Return 1, 0.1 and 0.01 over the three thirds of training.

    >>> [step_factor(t, 9) for t in (0, 2, 3, 5, 6, 8, 9)]
    [1.0, 1.0, 0.1, 0.1, 0.01, 0.01, 0.01]
    """
    return (1.0, 0.1, 0.01)[min(3 * step // max(total, 1), 2)]


def prior_weight(warmup: float, progress: float) -> float:
    """Return the weight of the annotators' prior, which rises from 0 to 1 over the warm-up.

    While annotators and loadings are both small, each learns only as fast as the other is large.
    The full prior would then shrink the annotators before they are told apart.

    Args:
        warmup: Share of training that is warm-up.
        progress: Share of training that is done, in [0, 1].

    Returns:
        A number in [0, 1].

    Source: KL annealing of Bowman et al. (2016).
    """
    return 1.0 if progress >= warmup else progress / warmup
