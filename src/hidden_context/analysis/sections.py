"""Parts of an analysis beside its numbers by group: calibration, tests, agreement, frontier."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from hidden_context.analysis.evidence import PairEvidence, ResponseEvidence
from hidden_context.analysis.intervals import SHARE, Resampling
from hidden_context.analysis.row_facts import RowFacts
from hidden_context.analysis.score_files import PairScores
from hidden_context.statistics.interval import cluster_sums, ratio

if TYPE_CHECKING:
    from hidden_context.statistics.context_tests import TestResult

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_ROUNDING: Final = 1e-9
_SAMPLE: Final = 20_000
"""Pairs that permutations, simulations and risk frontiers use of larger files, drawn by seed."""


def sample_rows(rows: int, seed: int) -> NDArray[np.int64]:
    """Return all rows in order, or a sample of them where there are very many."""
    if rows <= _SAMPLE:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, _SAMPLE, replace=False))


def calibration_of(
    evidence: PairEvidence, cluster: NDArray[np.int64], resampling: Resampling
) -> dict[str, Any]:
    """Say how well probabilities keep their promise: ECE, Brier score, sharpness, bins."""
    from hidden_context.statistics import calibration

    p, label = evidence.probability, evidence.preference
    ece = calibration.expected_calibration_error(
        p,
        label,
        cluster=cluster,
        level=resampling.level,
        resamples=resampling.resamples,
        seed=resampling.seed,
    )
    sums = cluster_sums(np.stack([evidence.brier, np.ones_like(p)], axis=1), cluster)
    bins = calibration.reliability_bins(p, label, cluster=cluster, level=resampling.level)
    return {
        "ece": ece.to_dict(),
        "brier": resampling.interval(sums, ratio, SHARE).to_dict(),
        "sharpness": calibration.sharpness(p),
        "bins": [each.to_dict() for each in bins],
    }


def pair_tests(
    scores: PairScores, evidence: PairEvidence, resampling: Resampling
) -> list[TestResult]:
    """Test for hidden context: by who judged, where it is known, and by what the model says."""
    from hidden_context.statistics.context_tests import (
        annotator_permutation_test,
        common_sigma_test,
    )

    found = []
    rows = sample_rows(len(evidence.loss), resampling.seed)
    judged = _judged_rows(scores, rows)
    if judged is not None:
        known, codes, strata = judged
        found.append(
            annotator_permutation_test(
                _signed_features(scores, evidence)[known],
                codes,
                strata,
                block=_blocks(scores, known, strata),
                resamples=resampling.resamples,
                seed=resampling.seed,
            )
        )
    spread = evidence.difference_variance[rows]
    if evidence.has_variance and np.ptp(spread) > _ROUNDING * spread.max():
        found.append(
            common_sigma_test(
                evidence.difference[rows],
                evidence.difference_variance[rows],
                evidence.preference[rows],
                resamples=min(resampling.resamples, 199),
                seed=resampling.seed,
            )
        )
    return found


def _judged_rows(scores: PairScores, rows: Ints) -> tuple[Ints, Ints, Ints | None] | None:
    """Return rows whose judge is known, who it is, and the part of the data they are of.

    None where no two judges share a part: then whoever judged cannot be told from what was judged.
    """
    judges = judges_of(scores)
    if judges is None:
        return None
    known = rows[judges[rows] != ""]
    codes = np.unique(judges[known], return_inverse=True)[1]
    if "data_subset" not in scores.labels:
        return (known, codes, None) if len(np.unique(codes)) > 1 else None
    strata = np.unique(scores.labels["data_subset"][known], return_inverse=True)[1]
    combinations = np.unique(np.stack([strata, codes]), axis=1)[0]
    shared = len(combinations) > len(np.unique(strata))
    return (known, codes, strata) if shared else None


def _blocks(scores: PairScores, rows: Ints, strata: Ints | None) -> Ints | None:
    """Number the prompts of rows, apart by stratum; None where every row is of its own prompt."""
    if scores.facts is None:
        return None
    prompt = scores.facts.cluster[rows]
    if strata is not None:
        prompt = prompt * (strata.max() + 1) + strata
    codes = np.unique(prompt, return_inverse=True)[1]
    return None if len(codes) and codes.max() + 1 == len(codes) else codes


def judges_of(scores: PairScores) -> NDArray[np.str_] | None:
    """Return who judged each pair: the annotator, else the objective; None where all are one."""
    for name in ("annotator", "objective"):
        labels = scores.labels.get(name)
        if labels is not None and len(set(labels.tolist()) - {""}) > 1:
            return labels
    return None


def _signed_features(scores: PairScores, evidence: PairEvidence) -> Floats:
    """What the preferred text has more of than the other: reward, σ, length. ``(N, 2 or 3)``."""
    columns = [evidence.difference]
    if evidence.has_variance:
        columns.append(evidence.stddev[:, 0] - evidence.stddev[:, 1])
    if scores.facts is not None and not np.isnan(scores.facts.length).any():
        length = scores.facts.length
        columns.append(np.log1p(length[:, 0]) - np.log1p(length[:, 1]))
    sign = 2 * evidence.preference - 1
    return np.stack(columns, axis=1) * sign[:, None]


def response_tests(evidence: ResponseEvidence, cluster: NDArray[np.int64]) -> list[TestResult]:
    """Test whether caution changes how often the second response is rated at least as high.

    The first risk measure is held against each of the others, on the same rows.
    """
    from hidden_context.statistics.paired import mcnemar_test

    rates = evidence.second_at_least or {}
    names = list(rates)
    return [
        dataclasses.replace(
            mcnemar_test(rates[names[0]], rates[name], cluster),
            question=f"By {name}, is the second response rated as high as the first as often as by "
            f"{names[0]}?",
            limit="It counts the prompts on which the two measures differ, not by how much.",
        )
        for name in names[1:]
    ]


def agreement_of(
    scores: PairScores, evidence: PairEvidence, resampling: Resampling
) -> dict[str, Any] | None:
    """Hold probabilities against vote shares; None where no pair has several labels."""
    from hidden_context.statistics import agreement

    facts = scores.facts
    if facts is None or not (facts.votes > 1).any():
        return None
    rows = np.flatnonzero(facts.votes > 1)
    # which side is called chosen was decided by the votes; the texts' own order was not
    swap = facts.swapped[rows]
    p, share = (
        np.where(swap, 1 - values[rows], values[rows])
        for values in (evidence.probability, scores.preference)
    )
    options: dict[str, Any] = {
        "cluster": facts.cluster[rows],
        "level": resampling.level,
        "resamples": resampling.resamples,
        "seed": resampling.seed,
    }
    return {
        "pairs": len(rows),
        "diverging_auroc": agreement.diverging_auroc(-np.abs(p - 0.5), share, **options).to_dict(),
        "vote_spearman": agreement.vote_correlation(p, share, **options).to_dict(),
    }


def confounds_of(
    facts: RowFacts, variance: Floats | None, resampling: Resampling
) -> list[dict[str, Any]]:
    """Say whether variance merely follows length or position; empty where there is no telling."""
    if variance is None:
        return []
    from hidden_context.contexts import length_confounds

    return [
        found.to_dict()
        for found in length_confounds(
            variance,
            facts.length,
            facts.cluster,
            position=None if np.isnan(facts.position).all() else facts.position,
            level=resampling.level,
            seed=resampling.seed,
        )
    ]


def judged_columns(by: Sequence[str]) -> list[str]:
    """Columns to read: those of the groups, and those that say who judged and which part."""
    wanted = [*(name for name in by if name != "length_bin"), "annotator", "objective"]
    return list(dict.fromkeys([*wanted, "data_subset"]))
