"""What a benchmark says: how its rows are read, and how they are written with scores."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hidden_context.data.checks import Place, describe
from hidden_context.data.dialogue import is_blank, join
from hidden_context.data.responses import Kind, ScoringRow

Scores = Sequence[float | None]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Candidates:
    """The answers to one prompt, right and wrong.

    Attributes:
        prompt: What the user says.
        chosen: The right answers.
        rejected: The wrong ones.
    """

    prompt: str
    chosen: tuple[str, ...]
    rejected: tuple[str, ...]

    @property
    def responses(self) -> tuple[str, ...]:
        """All answers, the right ones first: the order of scores everywhere."""
        return self.chosen + self.rejected

    def label(self, place: int) -> str:
        """Name an answer, such as ``rejected[0]``, by its place among all."""
        right = len(self.chosen)
        return f"chosen[{place}]" if place < right else f"rejected[{place - right}]"


def pick(row: Mapping[str, Any], *fields: str) -> dict[str, Any]:
    """Return these columns of a row, those that it has: others may be scores of another time."""
    return {field: row[field] for field in fields if field in row}


class Benchmark(abc.ABC):
    """One public benchmark; its metrics are those of ``analysis.benchmark_accuracy``.

    Attributes:
        name: Its name on the command line.
        title: Its name in tables.
        source: Where its rows come from.
        kind: How ``score`` writes its rows.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    kind: ClassVar[Kind]

    @abc.abstractmethod
    def candidates(self, row: Mapping[str, Any], place: Place) -> Candidates:
        """Read the answers of a row.

        Args:
            row: A row as it is published.
            place: Where it stands, for errors.

        Returns:
            The answers.

        Raises:
            DataError: If a column is missing or holds something else, naming file, line and field.
        """

    @abc.abstractmethod
    def with_scores(self, row: Mapping[str, Any], scores: Scores) -> dict[str, Any]:
        """Write a row with its scores as the benchmark's own scripts do.

        Args:
            row: A row as it is published.
            scores: A score for each answer, the right ones first; None where there is none.

        Returns:
            What its metrics need of the row, as ``analysis.benchmark_files`` reads it.
        """

    def details(
        self, rows: Sequence[Mapping[str, Any]], scores: Sequence[Floats]
    ) -> dict[str, Any]:
        """Compute what the benchmark states besides accuracies by section; nothing if not said.

        Args:
            rows: The rows with a score for every answer.
            scores: Their scores, the right answers first.

        Returns:
            What is written as JSON.
        """
        return {}

    def part_of(self, row: Mapping[str, Any]) -> str:
        """Return the subset, domain or source of a row."""
        return str(row[self._part])

    _part: ClassVar[str]

    def scoring_row(self, number: int, line: int, row: dict[str, Any], place: Place) -> ScoringRow:
        """Make what is scored of a row: chats of the prompt and each answer."""
        found = self.candidates(row, place)
        self.text(row, self._part, place)
        prompt = [{"role": "user", "content": found.prompt}]
        blank = {n for n, response in enumerate(found.responses) if is_blank(response)}
        texts = tuple(join(prompt, response) for response in found.responses)
        file = str(place.file)
        return ScoringRow(number, line, row, texts, self.kind, frozenset(blank), prompt, file=file)

    def text(self, row: Mapping[str, Any], field: str, place: Place) -> str:
        """Return a column that holds text.

        Raises:
            DataError: If it does not.
        """
        return self._checked(row.get(field), field, place)

    def texts(
        self, row: Mapping[str, Any], field: str, place: Place, count: int | None = None
    ) -> tuple[str, ...]:
        """Return a column that holds a list of so many texts, at least one.

        Raises:
            DataError: If it does not.
        """
        value = row.get(field)
        if not isinstance(value, list) or not value:
            problem = f"a list of texts is needed, not {describe(value)}"
            raise place.error(problem, field, self._remedy)
        if count is not None and len(value) != count:
            raise place.error(
                f"{count} responses are needed, not {len(value)}", field, self._remedy
            )
        return tuple(self._checked(one, f"{field}[{n}]", place) for n, one in enumerate(value))

    def _checked(self, value: Any, field: str, place: Place) -> str:
        if not isinstance(value, str):
            raise place.error(f"text is needed, not {describe(value)}", field, self._remedy)
        return value

    @property
    def _remedy(self) -> str:
        return f"Give the rows of {self.title} as they are published ({self.source})"
