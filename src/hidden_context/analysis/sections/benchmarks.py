"""Public benchmarks: sections, weights of subsets, rules of correctness, and accuracies.

A section consists of parts; within a part, every row has the same weight.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

import numpy as np

from hidden_context.statistics.checks import Codes, Floats, quotient
from hidden_context.statistics.interval import MANY, SHARE, Interval, Resampling, cluster_sums

Style = Literal["reward-bench", "reward-bench-2", "rm-bench", "judge-bench"]
Parts = tuple[tuple[str, ...], ...]

TITLES: Final[dict[Style, str]] = {
    "reward-bench": "RewardBench",
    "reward-bench-2": "RewardBench 2",
    "rm-bench": "RM-Bench",
    "judge-bench": "JudgeBench",
}


def _parts(*names: str) -> Parts:
    return tuple(tuple(text.split()) for text in names)


REWARD_BENCH: Final = {
    "Chat": _parts("alpacaeval-easy alpacaeval-length alpacaeval-hard mt-bench-easy mt-bench-med"),
    "Chat Hard": _parts(
        "mt-bench-hard llmbar-natural llmbar-adver-neighbor llmbar-adver-GPTInst "
        "llmbar-adver-GPTOut llmbar-adver-manual"
    ),
    "Safety": _parts(
        "refusals-dangerous refusals-offensive xstest-should-refuse xstest-should-respond "
        "donotanswer"
    ),
    "Reasoning": _parts("math-prm", "hep-cpp hep-go hep-java hep-js hep-python hep-rust"),
}
"""RewardBench (arXiv 2403.13787): sections by prompts, mathematics as much as all code."""

TIED, REFERENCE, MARGINS = "Ties: tied", "Ties: reference", "Ties: margins"
"""Parts of RewardBench 2's ties: prompts of many right answers, of one, and both together."""

REWARD_BENCH_2: Final[dict[str, Parts]] = {
    **{name: ((name,),) for name in ("Factuality", "Precise IF", "Math", "Safety", "Focus")},
    "Ties": ((TIED,), (REFERENCE,), (MARGINS,)),
}
"""RewardBench 2 (arXiv 2506.01937): each subset is a section."""

WEIGHTS: Final = {TIED: 0.3, REFERENCE: 0.3, MARGINS: 0.4}
"""Weights of parts, by their first subset; parts that are not here weigh 1."""

RM_BENCH: Final = {
    **{name: _parts(name) for name in ("chat", "code", "math")},
    "safety": _parts("safety-refuse", "safety-response"),
}
"""RM-Bench (arXiv 2410.16184): domains; the two halves of safety weigh the same."""

RM_BENCH_DOMAINS: Final = frozenset(
    name for parts in RM_BENCH.values() for part in parts for name in part
)

_JUDGE_BENCH: Final = {
    "Knowledge": "mmlu-pro",
    "Reasoning": "livebench-reasoning",
    "Math": "livebench-math",
    "Coding": "livecodebench",
}
_SECTIONS: Final = {
    "reward-bench": REWARD_BENCH,
    "reward-bench-2": REWARD_BENCH_2,
    "rm-bench": RM_BENCH,
}


def sections_of(style: Style, subsets: list[str]) -> dict[str, Parts]:
    """Return a benchmark's sections.

    Args:
        style: The benchmark.
        subsets: The subsets that a file has. JudgeBench (arXiv 2410.12784) names the sources of
            its questions; the beginning of a source's name gives its section.

    Returns:
        The parts of each section.
    """
    if style != "judge-bench":
        return _SECTIONS[style]
    return {
        name: (tuple(subset for subset in subsets if subset.startswith(source)),)
        for name, source in _JUDGE_BENCH.items()
    }


STYLES: Final = 3
"""RM-Bench's styles of a response: concise, detailed, detailed with markdown."""

_PREFERRED, _HARD, _MARGIN = 0.2, 0.2, 0.01
_ALL_MARGINS: Final = 0.4  # the weight of this part among all ties


def measures(gap: Floats) -> dict[str, Floats]:
    """Compute how often the chosen responses win.

    Args:
        gap: Score of chosen response i minus that of rejected response j, of shape ``(N, 1, 1)``,
            or ``(N, 3, 3)`` with both in the order concise, detailed, markdown.

    Returns:
        By measure, the share of a row's comparisons that are right, ``(N,)``. ``hard`` covers the
        three comparisons in which the rejected response has the richer style (above the diagonal),
        ``normal`` the diagonal, ``easy`` the three below the diagonal, and ``average`` all nine.

    Source: RM-Bench (arXiv 2410.16184), section 3.
    """
    right = (gap > 0).astype(np.float64)
    if right.shape[1] == 1:
        return {"accuracy": right[:, 0, 0]}
    upper = np.triu_indices(STYLES, 1)
    return {
        "easy": right[:, upper[1], upper[0]].mean(1),
        "normal": np.diagonal(right, axis1=1, axis2=2).mean(1),
        "hard": right[:, upper[0], upper[1]].mean(1),
        "average": right.mean((1, 2)),
    }


def share_of_best(chosen: Floats, rejected: Floats) -> float:
    """Return the share of chosen responses among the responses with the highest score.

    >>> share_of_best(np.array([2.0]), np.array([2.0, 1.0, 0.0]))
    0.5
    """
    best = max(chosen.max(), rejected.max())
    right, wrong = (chosen == best).sum(), (rejected == best).sum()
    return float(right / (right + wrong))


def is_ties(subset: str) -> bool:
    """Tell whether a subset contains the prompts with many right answers."""
    return subset.lower() == "ties"


def ties_id(name: object) -> tuple[str, str]:
    """Read the kind of a row in the Ties subset, and the number it shares with its reference.

    >>> ties_id("tied:7"), ties_id("7")
    (('tied', '7'), ('', ''))
    """
    kind, _, number = str(name).partition(":")
    return (kind, number) if kind in ("ref", "tied") else ("", "")


def ties_entries(
    ids: Sequence[tuple[str, str]], sides: Sequence[tuple[Floats, Floats]]
) -> list[tuple[str, int, float]]:
    r"""Score the prompts with many right answers, and their reference prompts with one.

    A row is right if every chosen response scores higher than every rejected one. Where a prompt
    has a reference, let g be the gap between the lowest chosen and the highest rejected score, h
    the smaller of g and the reference's gap, and s the spread of the chosen scores. The margins are

    .. math:: 0.2 [g > s] + 0.2 [h > s] + 0.01 \tanh(h / s - 1)

    As in the benchmark's own code, the last term is averaged over the prompts with a spread, and
    the other terms over the prompts with several chosen responses.

    Args:
        ids: Result of ``ties_id`` for each row; without an id, a row with a single chosen response
            is a reference.
        sides: Scores of the chosen and of the rejected responses.

    Returns:
        Subset, row and value; margins are divided by their weight among all ties.

    Source: RewardBench 2 (arXiv 2506.01937); weights as in the benchmark's own code.
    """
    found, gaps = [], {}
    for row, ((kind, number), (chosen, rejected)) in enumerate(zip(ids, sides, strict=True)):
        gap = float(chosen.min() - rejected.max())
        is_reference = kind == "ref" if kind else len(chosen) == 1
        found.append((REFERENCE if is_reference else TIED, row, float(gap > 0)))
        if number:
            gaps[is_reference, number] = row, gap, chosen
    shared = [
        (row, gap, min(gap, gaps[True, number][1]), float(np.ptp(chosen)))
        for (is_reference, number), (row, gap, chosen) in gaps.items()
        if not is_reference and len(chosen) > 1 and (True, number) in gaps
    ]
    spread_out = sum(spread > 0 for *_, spread in shared)
    for row, gap, least, spread in shared:
        value = _PREFERRED * (gap > spread) + _HARD * (least > spread)
        if spread > 0:
            value += _MARGIN * math.tanh(least / spread - 1) * len(shared) / spread_out
        found.append((MARGINS, row, value / _ALL_MARGINS))
    return found


@dataclass(frozen=True, eq=False)
class SectionScores:
    """Scores of N rows of a benchmark by one reward model.

    A row occurs once in its subset; a row of RewardBench 2's Ties may occur in two of its parts.

    Attributes:
        file: The score file.
        name: The name given to the reward model; empty if it was the only one.
        style: The benchmark.
        subsets: Names of the S subsets, domains or sources, in the order they occur.
        subset: ``(N,)``, the place of each row's subset in ``subsets``.
        row: ``(N,)``, the number of each row in the file.
        cluster: ``(N,)``, the number of each row's prompt, 0 to C − 1.
        right: By measure ``(N,)``, the share of a row's comparisons in which the chosen response
            has the higher score; a tie is wrong, as in the benchmarks. The measure is ``accuracy``,
            except in RM-Bench: ``easy``, ``normal``, ``hard`` and ``average``. In RewardBench 2, a
            row is right if a chosen response has the highest score of all. If several responses
            share the highest score, the row counts by the share of chosen responses among them; see
            ``ties_entries``.
        ties: Number of comparisons that are ties.
        left_out: Number of rows without a score.
    """

    file: str
    name: str
    style: Style
    subsets: list[str]
    subset: Codes
    row: Codes
    cluster: Codes
    right: dict[str, Floats]
    ties: int
    left_out: int


OVERALL: Final = "all"


@dataclass(frozen=True)
class SectionAccuracy:
    """Accuracy of one subset, of one section or of all sections.

    Attributes:
        level: ``subset``, ``section`` or ``overall``.
        section: Name of the section; ``all`` for the mean of all known sections.
        subset: Name of the subset; empty for sections.
        n: Number of rows.
        accuracy: By measure, with its interval by prompt.
        note: A remark on this number for the reader, or nothing.
    """

    level: Literal["subset", "section", "overall"]
    section: str
    subset: str
    n: int
    accuracy: dict[str, Interval]
    note: str = ""


def section_accuracies(
    scores: SectionScores, resampling: Resampling = MANY
) -> list[SectionAccuracy]:
    """Compute accuracy by section and subset.

    A section's accuracy is the mean over its parts of the share of right rows. RewardBench's
    Reasoning (mathematics, code) and RM-Bench's safety (refuse, response) have two parts of equal
    weight; RewardBench 2's Ties has three, of weights 0.3, 0.3 and 0.4 (see ``ties_entries``).
    Parts without a row are left out. The overall number is the plain mean of the known sections
    that occur; in JudgeBench, it is the mean of their rows. A subset that the benchmark does not
    have counts as a separate section.

    Args:
        scores: The scores.
        resampling: How intervals are made.

    Returns:
        Overall (if a known section occurs), then each section, followed by its subsets unless the
        section is itself a subset.
    """
    present = set(scores.subsets)
    whole = sections_of(scores.style, scores.subsets)
    known = {
        name: tuple(part for p in parts if (part := tuple(s for s in p if s in present)))
        for name, parts in whole.items()
    }
    sections: dict[str, Parts] = {name: parts for name, parts in known.items() if parts}
    strangers = [s for s in scores.subsets if not any(s in p for ps in known.values() for p in ps)]

    record = partial(_intervals, scores, resampling)
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
        note = f"not part of {TITLES[scores.style]}: a separate section, left out of {OVERALL!r}"
        found.append(SectionAccuracy("section", name, "", *record([((name,),)]), note))
    return found


def _missing(names: Sequence[str], what: str) -> str:
    return f"without {what} {', '.join(names)}, which has no row" if names else ""


def _intervals(
    scores: SectionScores, resampling: Resampling, sections: Sequence[Parts]
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
        share = np.where(count > 0, quotient(right, count), 0.0)
        used = weight * (count > 0)  # a resample may lack a small part
        return np.asarray((used * share).sum(-1) / used.sum(-1))

    found = {}
    for name, right in scores.right.items():
        values = np.concatenate([inside[rows] * right[rows, None], inside[rows]], axis=1)
        found[name] = resampling.interval(
            cluster_sums(values.astype(np.float64), cluster), statistic, SHARE
        )
    return len(np.unique(scores.row[rows])), found
