"""Two reward models on the same rows: how much better is the second, and can it be chance?"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hidden_context.analysis.evidence import PairEvidence
from hidden_context.analysis.intervals import Moments, Resampling, pair_moments
from hidden_context.analysis.score_files import PairScores
from hidden_context.errors import DataError
from hidden_context.statistics.interval import Interval, Statistic, stack_sums
from hidden_context.statistics.paired import paired_difference


@dataclass(frozen=True)
class Difference:
    """One metric of both models.

    Attributes:
        metric: ``accuracy``, ``loss``, ``brier``, ``r2``, ``r2_within`` or ``accuracy_at/{risk}``.
        first: Of the first model.
        second: Of the second.
        difference: Second minus first, with its interval by prompt.
        p_value: Of no difference, by exchanging the models at random prompts; None where there is
            a single prompt.
    """

    metric: str
    first: float
    second: float
    difference: Interval
    p_value: float | None


@dataclass(frozen=True)
class Comparison:
    """Two models on the pairs that both have rewards for.

    Attributes:
        first: The first model's score file.
        second: The second's.
        pairs: How many pairs both have.
        clusters: Of how many prompts.
        differences: One for each metric that both have.
    """

    first: str
    second: str
    pairs: int
    clusters: int
    differences: list[Difference]


def compare(
    scores: tuple[PairScores, PairScores],
    evidence: tuple[PairEvidence, PairEvidence],
    resampling: Resampling,
) -> Comparison:
    """Compare two models on the same pairs.

    Args:
        scores: The pairs of both files, with their facts.
        evidence: What they add to the numbers.
        resampling: How intervals are made.

    Returns:
        The comparison, by prompt.

    Raises:
        DataError: If the files are not of the same rows.
    """
    places = _same_rows(*scores)
    cluster = scores[0].facts.cluster[places[0]]
    moments = [
        pair_moments(_selected(own, place), cluster)
        for own, place in zip(evidence, places, strict=True)
    ]
    everything = np.ones(len(cluster), dtype=bool)
    sums = [each.sums(everything) for each in moments]
    names = [name for name in moments[0].statistics if name in moments[1].statistics]
    return Comparison(
        scores[0].file,
        scores[1].file,
        len(cluster),
        len(sums[0]),
        [_difference(name, moments, sums, resampling) for name in names],
    )


def _difference(
    name: str,
    moments: list[Moments],
    sums: list[NDArray[np.float64]],
    resampling: Resampling,
) -> Difference:
    parts = [part[:, each.statistics[name][0]] for part, each in zip(sums, moments, strict=True)]
    width = parts[0].shape[1]
    first, second = (each.statistics[name][1] for each in moments)
    found = paired_difference(
        stack_sums(parts),
        _of_columns(first, slice(0, width)),
        _of_columns(second, slice(width, None)),
        **vars(resampling),
    )
    p_value = found.p_value if np.isfinite(found.p_value) else None
    return Difference(name, found.first, found.second, found.difference, p_value)


def _of_columns(statistic: Statistic, columns: slice) -> Statistic:
    return lambda totals: statistic(totals[..., columns])


def _selected(evidence: PairEvidence, rows: NDArray[np.int64]) -> PairEvidence:
    return PairEvidence(
        **{
            field.name: _take(getattr(evidence, field.name), rows)
            for field in dataclasses.fields(evidence)
        }
    )


def _take(value: Any, rows: NDArray[np.int64]) -> Any:
    if isinstance(value, dict):
        return {name: each[rows] for name, each in value.items()}
    return value[rows]


def _same_rows(first: PairScores, second: PairScores) -> tuple[NDArray[np.int64], ...]:
    """Find the places of the rows that both have rewards for, and check that they are the same."""
    _, places, others = np.intersect1d(first.rows, second.rows, return_indices=True)
    same = first.facts.identity[places] == second.facts.identity[others]
    if not len(places) or not same.all():
        where = int(first.rows[places[~same][0]]) + 1 if len(places) else None
        raise DataError(
            f"its texts are not those of {first.file} in the same row"
            if len(places)
            else f"no row has rewards here and in {first.file}",
            file=second.file,
            line=where,
            remedy="Two models are compared on the same rows in the same order: score one file "
            "with both",
        )
    agree = first.preference[places] == second.preference[others]
    if not agree.all():
        raise DataError(
            f"its label is not that of {first.file} in the same row",
            file=second.file,
            line=int(first.rows[places[~agree][0]]) + 1,
        )
    return places, others
