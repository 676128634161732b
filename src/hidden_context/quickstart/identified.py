"""Learned preferences beside the true ones: the comparison that the data can decide.

Comparisons identify P(a ≻ b) for responses to one prompt, and with it their order. They do not
identify a utility's level or unit, its mean and variance (two worlds with the same comparisons may
differ in both; paper, Theorem 3.4), nor how rewards of different prompts compare. So a learned
model is held against the truth in P(a ≻ b) only; moments are shown for reference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hidden_context.quickstart.utilities import (
    BENIGN_PROMPT_KINDS,
    HARMFUL_PROMPT_KINDS,
    KINDS,
    Annotators,
    ResponseKind,
)


@dataclass(frozen=True)
class KindPair:
    """P(first ≻ second), true and learned, over the comparisons of two kinds.

    Attributes:
        first: Name of a kind.
        second: Name of the other.
        true: The world's probability.
        learned: Mean of the model's probabilities, NaN without comparisons.
        spread: Their standard deviation: how far texts of one kind are told apart for nothing.
        count: Number of comparisons.
        contested: Whether the two objectives order the kinds differently.
    """

    first: str
    second: str
    true: float
    learned: float
    spread: float
    count: int
    contested: bool


def contested(a: ResponseKind, b: ResponseKind) -> bool:
    """Return whether the two objectives order the kinds differently."""
    return (a.helpful - b.helpful) * (a.harmless - b.harmless) < 0


def preference_table(
    rows: Sequence[Mapping[str, Any]], learned: ArrayLike, annotators: Annotators
) -> list[KindPair]:
    """Compare a model's preferences with the truth, for each pair of kinds.

    Which side is ``chosen`` is the annotator's draw; a row counts towards its pair of kinds the
    same whichever it is.

    Args:
        rows: Comparisons with ``chosen_kind`` and ``rejected_kind``.
        learned: The model's P(chosen ≻ rejected) per row, shape ``(N,)``.
        annotators: Whose preferences are the truth.

    Returns:
        One entry per pair of kinds, those of harmful prompts first.
    """
    values: dict[tuple[str, str], list[float]] = {}
    for row, value in zip(rows, np.asarray(learned, dtype=float), strict=True):
        names = (row["chosen_kind"], row["rejected_kind"])
        values.setdefault(names, []).append(float(value))
        values.setdefault(names[::-1], []).append(1 - float(value))
    table = []
    for kinds in (HARMFUL_PROMPT_KINDS, BENIGN_PROMPT_KINDS):
        for i, a in enumerate(kinds):
            for b in kinds[i + 1 :]:
                found = np.array(values.get((a.name, b.name), [np.nan]))
                table.append(
                    KindPair(
                        first=a.name,
                        second=b.name,
                        true=annotators.probability(a, b),
                        learned=float(found.mean()),
                        spread=float(found.std()),
                        count=int(np.isfinite(found).sum()),
                        contested=contested(a, b),
                    )
                )
    return table


def mean_absolute_error(
    rows: Sequence[Mapping[str, Any]], learned: ArrayLike, annotators: Annotators
) -> float:
    """Return the mean of |learned − true| P(chosen ≻ rejected) over comparisons."""
    return float(np.abs(np.asarray(learned, dtype=float) - _truth(rows, annotators)).mean())


def best_accuracy(rows: Sequence[Mapping[str, Any]], annotators: Annotators) -> float:
    """Return the accuracy that no model of texts can beat in expectation.

    The mean of max(p, 1 − p) with p the true P(chosen ≻ rejected): a contested pair can be
    predicted little better than by tossing a coin, since the objective is hidden.
    """
    truth = _truth(rows, annotators)
    return float(np.maximum(truth, 1 - truth).mean())


def _truth(rows: Sequence[Mapping[str, Any]], annotators: Annotators) -> np.ndarray:
    return np.array(
        [
            annotators.probability(KINDS[row["chosen_kind"]], KINDS[row["rejected_kind"]])
            for row in rows
        ]
    )
