"""JudgeBench: pairs of answers of which one is objectively right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from hidden_context.benchmark.base import Benchmark, Candidates, Scores, pick
from hidden_context.data.checks import Place, describe
from hidden_context.data.published import JUDGED, LABELS
from hidden_context.data.responses import Kind


class JudgeBench(Benchmark):
    """Rows with a ``question``, ``response_A``, ``response_B``, and a ``label``: A>B or B>A.

    Source: arXiv 2410.12784; github.com/ScalerLab/JudgeBench.
    """

    name: ClassVar[str] = "judge_bench"
    title: ClassVar[str] = "JudgeBench"
    source: ClassVar[str] = "the files in data/ of ScalerLab/JudgeBench"
    kind: ClassVar[Kind] = "pair"
    _part: ClassVar[str] = "source"

    def candidates(self, row: Mapping[str, Any], place: Place) -> Candidates:
        """Read a row; the right answer comes first (see the base class)."""
        label = row.get("label")
        if label not in LABELS:
            problem = f"A>B or B>A is needed, not {describe(label)}"
            raise place.error(problem, "label", self._remedy)
        chosen, rejected = (self.text(row, name, place) for name in LABELS[label])
        return Candidates(self.text(row, "question", place), (chosen,), (rejected,))

    def with_scores(self, row: Mapping[str, Any], scores: Scores) -> dict[str, Any]:
        """Write the verdict that two scores make; equal ones are none of the two labels."""
        own = pick(row, "source", *JUDGED)
        right, wrong = scores
        if right is None or wrong is None:
            return {**own, "judgments": None}
        other = next(label for label in LABELS if label != row["label"])
        decision = row["label"] if right > wrong else other if right < wrong else "A=B"
        return {**own, "judgments": [{"decision": decision}]}
