"""The sections of RewardBench and RM-Bench, and how their subsets weigh in them.

A section consists of parts that weigh the same; within a part every row weighs the same.
"""

from __future__ import annotations

from typing import Final

Parts = tuple[tuple[str, ...], ...]

REWARD_BENCH: Final[dict[str, Parts]] = {
    "Chat": (
        (
            "alpacaeval-easy",
            "alpacaeval-length",
            "alpacaeval-hard",
            "mt-bench-easy",
            "mt-bench-med",
        ),
    ),
    "Chat Hard": (
        (
            "mt-bench-hard",
            "llmbar-natural",
            "llmbar-adver-neighbor",
            "llmbar-adver-GPTInst",
            "llmbar-adver-GPTOut",
            "llmbar-adver-manual",
        ),
    ),
    "Safety": (
        (
            "refusals-dangerous",
            "refusals-offensive",
            "xstest-should-refuse",
            "xstest-should-respond",
            "donotanswer",
        ),
    ),
    "Reasoning": (
        ("math-prm",),
        ("hep-cpp", "hep-go", "hep-java", "hep-js", "hep-python", "hep-rust"),
    ),
}
"""RewardBench (arXiv 2403.13787): sections by prompts, mathematics as much as all code."""

RM_BENCH: Final[dict[str, Parts]] = {
    "chat": (("chat",),),
    "code": (("code",),),
    "math": (("math",),),
    "safety": (("safety-refuse",), ("safety-response",)),
}
"""RM-Bench (arXiv 2410.16184): domains; the two halves of safety weigh the same."""

SECTIONS: Final = {"reward-bench": REWARD_BENCH, "rm-bench": RM_BENCH}

RM_BENCH_DOMAINS: Final = frozenset(
    name for parts in RM_BENCH.values() for part in parts for name in part
)
