"""Rows as one model scored them, read back from the file of scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hidden_context.benchmark.base import Benchmark, Candidates
from hidden_context.benchmark.results import Unscored
from hidden_context.data.checks import Place
from hidden_context.data.files import iter_jsonl


@dataclass(frozen=True)
class ScoredRow:
    """A row and what one model gave its n answers, the right ones first.

    Attributes:
        number: The row's place in the file, from 1.
        row: The row as it was published.
        candidates: Its answers.
        raw: Raw outputs, K each; None where an answer has no score.
        values: Values of the risk measures by their names; None likewise.
        reasons: Why an answer has no score; None where it has one.
    """

    number: int
    row: dict[str, Any]
    candidates: Candidates
    raw: list[list[float] | None]
    values: list[dict[str, float] | None]
    reasons: list[str | None]

    @property
    def is_complete(self) -> bool:
        """Whether every answer has a score."""
        return all(value is not None for value in self.values)

    def scores(self, measure: str) -> list[float | None]:
        """Return the values of one risk measure."""
        return [None if value is None else value[measure] for value in self.values]

    @property
    def unscored(self) -> list[Unscored]:
        """The answers without a score."""
        name = next((self.row[key] for key in ("id", "pair_id") if key in self.row), None)
        own = None if name is None else str(name)
        return [
            Unscored(self.number, own, self.candidates.label(place), reason)
            for place, reason in enumerate(self.reasons)
            if reason is not None
        ]


def read_scored(
    path: Path, benchmark: Benchmark, name: str, *, several_models: bool
) -> Iterator[ScoredRow]:
    """Read the rows back as one model scored them.

    Args:
        path: The file of scores.
        benchmark: Whose rows they are.
        name: The model's name.
        several_models: Whether other models scored the same rows.

    Yields:
        The rows, in order.
    """
    tail = f"_{name}" if several_models else ""
    for number, (line, row) in enumerate(iter_jsonl(path), start=1):
        candidates = benchmark.candidates(row, Place(path, line))
        if benchmark.kind == "pair":
            raw, values, reasons = (
                [row.get(f"{column}_{side}{tail}{end}") for side in ("chosen", "rejected")]
                for column, end in (
                    ("reward_output", ""),
                    ("rewards", ""),
                    ("reward_output", "_reason"),
                )
            )
        else:
            column = f"reward_outputs_{name}"
            raw, values = row[column], row[f"rewards_{name}"]
            reasons = row.get(f"{column}_reason") or [None] * len(raw)
        yield ScoredRow(number, row, candidates, raw, values, reasons)
