"""Accuracy of benchmarks by subset and section, with intervals by prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from numpy.typing import NDArray

from hidden_context.analysis.sections.benchmarks import TITLES, WEIGHTS, Parts, sections_of
from hidden_context.statistics.interval import RESAMPLES, Interval, cluster_interval, cluster_sums

if TYPE_CHECKING:
    from hidden_context.analysis.sections.read import SectionScores

    Floats = NDArray[np.float64]

OVERALL: Final = "all"


@dataclass(frozen=True)
class SectionAccuracy:
    """Accuracy of one subset, section or of all sections.

    Attributes:
        level: ``subset``, ``section`` or ``overall``.
        section: Name of the section; ``all`` for the mean of all known sections.
        subset: Name of the subset; empty for sections.
        n: Rows.
        accuracy: By measure, with its interval by prompt.
        note: What a reader should know of it, or nothing.
    """

    level: Literal["subset", "section", "overall"]
    section: str
    subset: str
    n: int
    accuracy: dict[str, Interval]
    note: str = ""


def section_accuracies(
    scores: SectionScores, *, seed: int = 0, level: float = 0.95, resamples: int = RESAMPLES
) -> list[SectionAccuracy]:
    """Compute accuracy by section and subset.

    A section's accuracy is the mean over its parts of the share of right rows. RewardBench's
    Reasoning (mathematics, code) and RM-Bench's safety (refuse, response) have two parts of equal
    weight; RewardBench 2's Ties has three, of 0.3, 0.3 and 0.4 (see ``ties_entries``). Parts
    without a row are left out. The overall number is the plain mean of the known sections that
    occur, in JudgeBench that of their rows. Subsets that the benchmark does not have are sections
    of their own.

    Args:
        scores: The scores.
        seed: Of the bootstrap.
        level: Confidence level.
        resamples: Of the bootstrap.

    Returns:
        Overall (where a known section occurs), then each section, followed by its subsets if it is
        not one itself.
    """
    present = set(scores.subsets)
    whole = sections_of(scores.style, scores.subsets)
    known = {
        name: tuple(part for p in parts if (part := tuple(s for s in p if s in present)))
        for name, parts in whole.items()
    }
    sections: dict[str, Parts] = {name: parts for name, parts in known.items() if parts}
    strangers = [s for s in scores.subsets if not any(s in p for ps in known.values() for p in ps)]

    def record(parts: Sequence[Parts]) -> tuple[int, dict[str, Interval]]:
        return _intervals(scores, parts, seed, level, resamples)

    found = []
    if sections:
        note = _missing([name for name in known if name not in sections], "section")
        everything = list(sections.values())
        if scores.style == "judge-bench":
            everything = [(tuple(name for parts in everything for part in parts for name in part),)]
        found.append(SectionAccuracy("overall", OVERALL, "", *record(everything), note))
    for name, parts in sections.items():
        note = _missing(sorted({s for part in whole[name] for s in part} - present), "subset")
        found.append(SectionAccuracy("section", name, "", *record([parts]), note))
        subsets = [subset for part in parts for subset in part]
        found += [
            SectionAccuracy("subset", name, subset, *record([((subset,),)]))
            for subset in subsets
            if subset != name
        ]
    for name in strangers:
        note = f"not part of {TITLES[scores.style]}: a section of its own, left out of {OVERALL!r}"
        found.append(SectionAccuracy("section", name, "", *record([((name,),)]), note))
    return found


def _missing(names: Sequence[str], what: str) -> str:
    return f"without {what} {', '.join(names)}, which has no row" if names else ""


def _intervals(
    scores: SectionScores, sections: Sequence[Parts], seed: int, level: float, resamples: int
) -> tuple[int, dict[str, Interval]]:
    """Count rows, and estimate the mean over sections of the mean over their parts."""
    place = {name: number for number, name in enumerate(scores.subsets)}
    parts = [part for section in sections for part in section]
    own = [[WEIGHTS.get(part[0], 1.0) for part in section] for section in sections]
    weight = np.array([w / sum(each) / len(sections) for each in own for w in each])
    inside = np.stack(
        [np.isin(scores.subset, [place[name] for name in part]) for part in parts], axis=1
    )
    rows = inside.any(1)
    _, cluster = np.unique(scores.cluster[rows], return_inverse=True)

    def statistic(totals: Floats) -> Floats:
        right, count = totals[..., : len(parts)], totals[..., len(parts) :]
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(count > 0, right / count, 0.0)
        used = weight * (count > 0)  # a resample may lack a small part
        return np.asarray((used * share).sum(-1) / used.sum(-1))

    found = {}
    for name, right in scores.right.items():
        values = np.concatenate([inside[rows] * right[rows, None], inside[rows]], axis=1)
        found[name] = cluster_interval(
            cluster_sums(values.astype(np.float64), cluster),
            statistic,
            bounds=(0, 1),
            level=level,
            seed=seed,
            resamples=resamples,
        )
    return len(np.unique(scores.row[rows])), found
