"""Calibration, tests for hidden context, and confounds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from hidden_context.analysis.measure.evidence import PairEvidence, ResponseEvidence
from hidden_context.analysis.measure.votes import numbers_of, votes_on
from hidden_context.analysis.read.files import PairScores
from hidden_context.data.row_facts import RowFacts
from hidden_context.statistics.checks import Codes, Floats, sample_rows
from hidden_context.statistics.interval import Resampling

if TYPE_CHECKING:
    from hidden_context.contexts import Confound
    from hidden_context.statistics.significance.permutation import TestResult

_ROUNDING: Final = 1e-9


def calibration_of(
    evidence: PairEvidence, cluster: Codes, resampling: Resampling
) -> dict[str, Any]:
    """Measure calibration: ECE, Brier score, sharpness and reliability bins."""
    from hidden_context.statistics import calibration

    p, label = evidence.probability, evidence.preference
    ece = calibration.expected_calibration_error(p, label, cluster=cluster, **vars(resampling))
    bins = calibration.reliability_bins(p, label, cluster=cluster, level=resampling.level)
    return {
        "ece": ece,
        "brier": resampling.share(evidence.brier, cluster),
        "sharpness": calibration.sharpness(p),
        "bins": [vars(each) for each in bins],
    }


def pair_tests(
    scores: PairScores, evidence: PairEvidence, resampling: Resampling
) -> list[TestResult]:
    """Test for hidden context, by annotator if known and by the model's variances."""
    from hidden_context.statistics.significance.common_sigma import common_sigma_test

    rows = sample_rows(len(evidence.loss), resampling.seed)
    judged = _who_judged_test(scores, evidence, rows, resampling)
    found = [] if judged is None else [judged]
    spread = evidence.difference_variance[rows]
    if evidence.has_variance and np.ptp(spread) > _ROUNDING * spread.max():
        difference, preference = evidence.difference[rows], evidence.preference[rows]
        chance = {"resamples": min(resampling.resamples, 199), "seed": resampling.seed}
        found.append(common_sigma_test(difference, spread, preference, **chance))
    return found


def _who_judged_test(
    scores: PairScores, evidence: PairEvidence, rows: Codes, resampling: Resampling
) -> TestResult | None:
    """Test whether annotators choose differently; None if the votes cannot tell.

    If most votes are on pairs that several annotators judged, answers are permuted within pairs;
    otherwise within the parts of the data. There is no test if no two annotators share a part. If
    at most one annotator is named, the objective is used in place of the annotator.
    """
    from hidden_context.statistics.significance.permutation import annotator_permutation_test

    votes = votes_on(scores, rows.tolist())
    row, who, share = votes
    stands_in = len(set(who.tolist()) - {""}) < 2
    if stands_in:
        who = scores.labels.get("objective", np.full(len(scores.said), ""))[row]
    known = who != ""
    if len(set(who[known].tolist())) < 2:
        return None
    row, codes = row[known], np.unique(who[known], return_inverse=True)[1]
    prompt, item = scores.facts.cluster[row], scores.facts.item[row]
    subset = scores.labels.get("data_subset")
    part = np.zeros_like(row) if subset is None else np.unique(subset[row], return_inverse=True)[1]
    shared = bool((_judges(item, codes) > 1).mean() >= 0.5)
    if shared and not stands_in:
        return _answers_test(scores, evidence, votes, resampling)
    if not shared and (_judges(part, codes) < 2).all():
        return None
    block = np.unique(prompt * (part.max() + 1) + part, return_inverse=True)[1]
    features = np.stack(list(_features(scores, evidence).values()), axis=1)
    found = annotator_permutation_test(
        features[row] * (2 * share[known] - 1)[:, None],
        codes,
        item if shared else part,
        block=None if shared or block.max() + 1 == len(block) else block,
        resamples=resampling.resamples,
        seed=resampling.seed,
    )
    if not stands_in:
        return found
    question = "Do rows with different objectives differ in their choices? (The column 'objective' "
    return dataclasses.replace(found, question=f"{question}stands in for the annotator.)")


def _answers_test(
    scores: PairScores,
    evidence: PairEvidence,
    votes: tuple[Codes, NDArray[np.str_], Floats],
    resampling: Resampling,
) -> TestResult | None:
    """Test answers within pairs, with sides in the order of their texts."""
    from hidden_context.statistics.significance.answers import answers_test
    from hidden_context.statistics.votes.table import VoteTable

    row, annotator, share = votes
    turn = np.where(scores.facts.swapped, -1.0, 1.0)
    _, first, item = np.unique(scores.facts.item[row], return_index=True, return_inverse=True)
    sign = turn[row] * (2 * share - 1)
    table = VoteTable.of(item, numbers_of(annotator), (1 + sign) / 2)
    rows = row[first]
    features = _features(scores, evidence).items()
    return answers_test(
        table.select(table.is_first_answer),
        features={name: turn[rows] * value[rows] for name, value in features},
        resamples=resampling.resamples,
        seed=resampling.seed,
    )


def _judges(place: Codes, who: Codes) -> Codes:
    """Count the annotators of each vote's pair or part."""
    return np.bincount(np.unique(np.stack([place, who]), axis=1)[0])[place]


def _features(scores: PairScores, evidence: PairEvidence) -> dict[str, Floats]:
    """Return chosen minus rejected in reward, σ and length, each ``(N,)``."""
    found = {"reward": evidence.difference}
    if evidence.has_variance:
        found["stddev"] = evidence.stddev[:, 0] - evidence.stddev[:, 1]
    length = scores.facts.length
    if not np.isnan(length).any():
        found["length"] = np.log1p(length[:, 0]) - np.log1p(length[:, 1])
    return found


def response_tests(evidence: ResponseEvidence, cluster: Codes) -> list[TestResult]:
    """Test whether caution changes how often the second response is rated at least as high.

    The first risk measure is compared with each of the others, on the same rows.
    """
    from hidden_context.statistics.significance.permutation import mcnemar_test

    rates = evidence.second_at_least or {}
    names = list(rates)
    return [
        dataclasses.replace(
            mcnemar_test(rates[names[0]], rates[name], cluster),
            question="Is the second response rated at least as high as the first equally often by "
            f"{name} and by {names[0]}?",
            limit="It counts the prompts on which the two measures differ, not by how much.",
        )
        for name in names[1:]
    ]


def confounds_of(
    facts: RowFacts, variance: Floats | None, resampling: Resampling
) -> list[Confound]:
    """Test whether variance merely follows length or position."""
    if variance is None:
        return []
    from hidden_context.contexts import length_confounds

    return length_confounds(
        variance,
        facts.length,
        facts.cluster,
        position=None if np.isnan(facts.position).all() else facts.position,
        level=resampling.level,
        seed=resampling.seed,
    )


def judged_columns(by: Sequence[str]) -> list[str]:
    """Return the columns to read: groups, annotator, objective and data_subset."""
    wanted = [*(name for name in by if name != "length_bin"), "annotator", "objective"]
    return list(dict.fromkeys([*wanted, "data_subset"]))
