"""The public benchmarks by name: how their rows are read, and written with scores.

A new benchmark is a class here and its place in the table at the end.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np

from hidden_context.analysis.sections.benchmarks import RM_BENCH, STYLES
from hidden_context.data.checks import Place, describe
from hidden_context.data.dialogue import is_blank, join
from hidden_context.data.published import JUDGED, LABELS
from hidden_context.data.responses import Kind, ScoringRow
from hidden_context.errors import ConfigError
from hidden_context.statistics.checks import Floats

Scores = Sequence[float | None]


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
    """Return the named columns that a row has; other columns may be earlier scores."""
    return {field: row[field] for field in fields if field in row}


class Benchmark(abc.ABC):
    """One public benchmark, whose accuracies ``analysis`` computes.

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
            The columns that its metrics need, as ``analysis.sections.read`` reads them.
        """

    def details(
        self, rows: Sequence[Mapping[str, Any]], scores: Sequence[Floats]
    ) -> dict[str, Any]:
        """Compute the benchmark's other statistics; none by default.

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
            problem = f"{count} responses are needed, not {len(value)}"
            raise place.error(problem, field, self._remedy)
        return tuple(self._checked(one, f"{field}[{n}]", place) for n, one in enumerate(value))

    def _checked(self, value: Any, field: str, place: Place) -> str:
        if not isinstance(value, str):
            raise place.error(f"text is needed, not {describe(value)}", field, self._remedy)
        return value

    @property
    def _remedy(self) -> str:
        return f"Give the rows of {self.title} as they are published ({self.source})"


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
        """Read a row and check its counts of answers against its lists (see the base class)."""
        chosen, rejected = (self.texts(row, side, place) for side in ("chosen", "rejected"))
        right, wrong = len(chosen), len(rejected)
        counts = {"num_correct": right, "num_incorrect": wrong, "total_completions": right + wrong}
        for field, count in counts.items():
            said = row.get(field)
            if said is not None and said != count:
                problem = f"it says {said!r}, but the lists hold {count}"
                raise place.error(problem, field, self._remedy)
        if str(row.get("subset")).lower() == "ties":
            name = self.text(row, "id", place)
            kind, _, number = name.partition(":")
            if kind not in ("ref", "tied") or not number.isdecimal():
                raise place.error(f"ref:7 or tied:7 is needed, not {name!r}", "id", self._remedy)
        return Candidates(self.text(row, "prompt", place), chosen, rejected)

    def with_scores(self, row: Mapping[str, Any], scores: Scores) -> dict[str, Any]:
        """Write all ``scores`` in one list, and how many are of right answers."""
        own = pick(row, "id", "prompt", "subset", "chosen", "rejected")
        return {**own, "scores": list(scores), "num_correct": len(row["chosen"])}


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
            found["all"] = np.mean([*found.values()], axis=0)
        return {"matrix": {name: matrix.tolist() for name, matrix in found.items()}}


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
        """Write the verdict of two scores; equal scores match neither label."""
        own = pick(row, "source", *JUDGED)
        right, wrong = scores
        if right is None or wrong is None:
            return {**own, "judgments": None}
        other = next(label for label in LABELS if label != row["label"])
        decision = row["label"] if right > wrong else other if right < wrong else "A=B"
        return {**own, "judgments": [{"decision": decision}]}


_CLASSES: Final[dict[str, type[Benchmark]]] = {
    each.name: each for each in (RewardBench2, RMBench, JudgeBench)
}


def make(name: str) -> Benchmark:
    """Make a benchmark by its name.

    Raises:
        ConfigError: If there is none of that name.
    """
    if name not in _CLASSES:
        raise ConfigError(f"there is no benchmark {name!r}; choose one of {', '.join(_CLASSES)}.")
    return _CLASSES[name]()
