"""The sections of public benchmarks, and how their subsets weigh in them.

A section consists of parts; within a part every row weighs the same.
"""

from __future__ import annotations

from typing import Final, Literal

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
            its questions, whose beginnings are its sections.

    Returns:
        The parts of each section.
    """
    if style != "judge-bench":
        return _SECTIONS[style]
    return {
        name: (tuple(subset for subset in subsets if subset.startswith(source)),)
        for name, source in _JUDGE_BENCH.items()
    }
