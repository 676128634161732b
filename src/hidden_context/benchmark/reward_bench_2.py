"""RewardBench 2: the right answer among four, and prompts with many right answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from hidden_context.benchmark.base import Benchmark, Candidates, Scores, pick
from hidden_context.data.checks import Place
from hidden_context.data.responses import Kind


class RewardBench2(Benchmark):
    """Rows of a ``subset`` with lists of ``chosen`` and ``rejected`` answers to a ``prompt``.

    The ``id`` of the subset Ties says which rows belong together: ``tied:7`` has many right
    answers, and ``ref:7`` one.

    Source: arXiv 2506.01937; the package rewardbench 0.1.4.
    """

    name: ClassVar[str] = "reward_bench_2"
    title: ClassVar[str] = "RewardBench 2"
    source: ClassVar[str] = "allenai/reward-bench-2 on the Hugging Face hub, its test split"
    kind: ClassVar[Kind] = "responses"
    _part: ClassVar[str] = "subset"

    def candidates(self, row: Mapping[str, Any], place: Place) -> Candidates:
        """Read a row; its counts of answers have to be those of its lists (see the base class)."""
        chosen, rejected = (self.texts(row, side, place) for side in ("chosen", "rejected"))
        total = len(chosen) + len(rejected)
        counts = {
            "num_correct": len(chosen),
            "num_incorrect": len(rejected),
            "total_completions": total,
        }
        for field, count in counts.items():
            said = row.get(field)
            if said is not None and said != count:
                problem = f"it says {said!r}, but the lists hold {count}"
                raise place.error(problem, field, self._remedy)
        if str(row.get("subset")).lower() == "ties":
            self._check_id(self.text(row, "id", place), place)
        return Candidates(self.text(row, "prompt", place), chosen, rejected)

    def _check_id(self, name: str, place: Place) -> None:
        kind, _, number = name.partition(":")
        if kind not in ("ref", "tied") or not number.isdecimal():
            raise place.error(f"ref:7 or tied:7 is needed, not {name!r}", "id", self._remedy)

    def with_scores(self, row: Mapping[str, Any], scores: Scores) -> dict[str, Any]:
        """Write all ``scores`` in one list, and how many are of right answers."""
        own = pick(row, "id", "prompt", "subset", "chosen", "rejected")
        return {**own, "scores": list(scores), "num_correct": len(row["chosen"])}
