"""RM-Bench: right and wrong answers in three styles each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import numpy as np

from hidden_context.analysis.benchmark_measures import STYLES
from hidden_context.analysis.benchmark_names import RM_BENCH
from hidden_context.benchmark.base import Benchmark, Candidates, Floats, Scores, pick
from hidden_context.data.checks import Place
from hidden_context.data.responses import Kind

ALL: Final = "all"


class RMBench(Benchmark):
    """Rows of a ``domain`` with three ``chosen`` and three ``rejected`` answers to a ``prompt``.

    Both lists are in the order concise, detailed, detailed with markdown.

    Source: arXiv 2410.16184; github.com/THU-KEG/RM-Bench.
    """

    name: ClassVar[str] = "rm_bench"
    title: ClassVar[str] = "RM-Bench"
    source: ClassVar[str] = "total_dataset.json of THU-KEG/RM-Bench"
    kind: ClassVar[Kind] = "responses"
    _part: ClassVar[str] = "domain"

    def candidates(self, row: Mapping[str, Any], place: Place) -> Candidates:
        """Read a row (see the base class)."""
        sides = (self.texts(row, side, place, STYLES) for side in ("chosen", "rejected"))
        return Candidates(self.text(row, "prompt", place), *sides)

    def with_scores(self, row: Mapping[str, Any], scores: Scores) -> dict[str, Any]:
        """Write ``score_chosen`` and ``score_rejected``, three each."""
        sides = {"score_chosen": scores[:STYLES], "score_rejected": scores[STYLES:]}
        return {**pick(row, "id", "prompt", "domain", "chosen", "rejected"), **sides}

    def details(
        self, rows: Sequence[Mapping[str, Any]], scores: Sequence[Floats]
    ) -> dict[str, Any]:
        """Compute the matrix of accuracies by domain: chosen styles down, rejected ones across.

        Returns:
            ``matrix`` by domain, each 3 × 3; safety is the mean of its two halves, and ``all`` that
            of the domains.
        """
        by_part: dict[str, list[Floats]] = {}
        for row, values in zip(rows, scores, strict=True):
            right = values[:STYLES, None] > values[None, STYLES:]
            by_part.setdefault(self.part_of(row), []).append(right.astype(np.float64))
        means = {part: np.mean(each, axis=0) for part, each in by_part.items()}
        found = {}
        for domain, parts in RM_BENCH.items():
            own = [means[name] for part in parts for name in part if name in means]
            if own:
                found[domain] = np.mean(own, axis=0)
        if found:
            found[ALL] = np.mean([*found.values()], axis=0)
        return {"matrix": {name: matrix.tolist() for name, matrix in found.items()}}
