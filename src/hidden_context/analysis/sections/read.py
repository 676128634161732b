"""Reading scores of public benchmarks from local files.

Nothing is downloaded. The known benchmarks are RewardBench, RewardBench 2, RM-Bench and JudgeBench,
either as ``score`` writes their rows or with the benchmark's own scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from hidden_context.analysis.read import rows as reading
from hidden_context.analysis.read.heads import choose_head, saved_head
from hidden_context.analysis.sections import benchmarks
from hidden_context.analysis.sections.benchmarks import STYLES, SectionScores, Style, is_ties
from hidden_context.data.checks import Place
from hidden_context.data.published import LABELS, has_lists, plain_row
from hidden_context.data.row_facts import prompt_of
from hidden_context.data.storage.files import iter_jsonl
from hidden_context.data.storage.rows import holds_array, iter_array, require_row
from hidden_context.statistics.checks import Floats

_NUMBERS: Final = (("scores_chosen", "scores_rejected"), ("score_chosen", "score_rejected"))
_PART: Final[dict[Style, str]] = {
    "reward-bench": "subset",
    "reward-bench-2": "subset",
    "rm-bench": "domain",
    "judge-bench": "source",
}
_COUNT: Final[dict[Style, int]] = {"reward-bench": 1, "rm-bench": STYLES, "judge-bench": 1}
"""How many chosen, and how many rejected, responses a row has; RewardBench 2 has any number."""


def read_section_scores(path: str | Path, *, head_type: str | None = None) -> list[SectionScores]:
    """Read a benchmark's score file, JSON Lines or one JSON array, plain or gzip.

    A row has a ``subset`` (RewardBench, RewardBench 2), a ``domain`` (RM-Bench), or a ``source``
    and ``label`` (JudgeBench), a ``prompt`` or ``id``, and its scores. The scores can be the raw
    outputs that ``score`` writes, which are read as mean rewards: ``reward_output_chosen`` and
    ``reward_output_rejected`` for pairs, and ``reward_outputs_{name}`` for lists, with the chosen
    responses first. Or they are numbers: ``scores_chosen`` and ``scores_rejected`` or
    ``score_chosen`` and ``score_rejected``, with lists of numbers for lists; ``scores`` with
    ``num_correct`` (RewardBench 2); or ``judgments`` (JudgeBench), whose verdicts in both orders
    are combined. A row with a ``null`` score is left out.

    Args:
        path: The file.
        head_type: The head that wrote the raw outputs. None uses the head kept beside the file, or
            the head of the checkpoint whose folder holds the file; otherwise the type is guessed.

    Returns:
        The scores of each reward model; empty if the first row belongs to no known benchmark.

    Raises:
        MissingFileError: If the file does not exist.
        DataError: If a later row lacks a field that the first row has, or a score is not a finite
            number; names file, line and field.
    """
    return section_scores(_rows(path), str(path), head_type=head_type)


def section_scores(
    rows: Iterable[tuple[int, dict[str, Any]]], file: str, *, head_type: str | None = None
) -> list[SectionScores]:
    """Read scored rows of a benchmark and their lines; see ``read_section_scores``."""
    readers: list[_Reader] | None = None
    for line, row in rows:
        place = Place(file, line)
        if readers is None:
            readers = _readers_of(row, place)
        for reader in readers:
            reader.add(place, row)
    return [reader.scores(head_type) for reader in readers or ()]


def has_rewards(path: str | Path) -> bool:
    """Tell whether a file's first row has raw outputs."""
    first = next(_rows(path), None)
    return first is not None and bool(reading.reward_columns(first[1]))


def _rows(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield rows of JSON Lines, or of a JSON array with the place in the array as the line."""
    if not holds_array(path):
        return iter_jsonl(path)
    return ((number, require_row(row)) for number, row in iter_array(path))


def _readers_of(row: dict[str, Any], place: Place) -> list[_Reader]:
    """Choose the readers of a file by its first row."""
    columns = reading.reward_columns(row)
    if columns:
        sets = [(names, name) for name, names in reading.score_sets(columns, place)]
    else:
        numbers = [(names, "") for names in _NUMBERS if all(name in row for name in names)]
        sets = numbers[:1] + [((n,), "") for n in ("scores", "judgments") if n in row]
    found = [(_style_of(row, names), names, name) for names, name in sets]
    return [
        _Reader(str(place.file), style, names, name)
        for style, names, name in found
        if style is not None
    ]


def _style_of(row: dict[str, Any], columns: tuple[str, ...]) -> Style | None:
    """Return the benchmark that a row belongs to, or None."""
    two, lists = len(columns) == 2, has_lists(row)
    is_pair = two and columns[0].startswith("reward_output")
    lengths = [len(row[name]) if isinstance(row[name], list) else 0 for name in columns]
    several = not is_pair and (lists or max(lengths) > 1)
    known = two or (
        lengths == [2 * STYLES] and (lists or row.get("domain") in benchmarks.RM_BENCH_DOMAINS)
    )
    if isinstance(row.get("domain"), str) and several and known:
        return "rm-bench"
    if isinstance(row.get("subset"), str):
        if is_pair and "num_correct" in row:
            return None  # lists that were evaluated: one pair for each comparison
        if two:
            return "reward-bench-2" if several else "reward-bench"
        split = lists or isinstance(row.get("num_correct"), int)
        return "reward-bench-2" if several and split else None
    judged = row.get("label") in LABELS and isinstance(row.get("source"), str)
    return "judge-bench" if judged and (is_pair or columns == ("judgments",)) else None


class _Reader:
    """A collector of the rows of one benchmark and reward model."""

    def __init__(self, file: str, style: Style, columns: tuple[str, ...], name: str) -> None:
        self.file, self.style, self.columns, self.name = file, style, columns, name
        self.is_raw = columns[0].startswith("reward_output")
        self.checks = reading.RawOutputChecks()
        self.outputs: list[list[float]] = []
        self.counts: list[tuple[int, int]] = []
        self.parts: list[str] = []
        self.ids: list[tuple[str, str]] = []
        self.prompts: dict[str, int] = {}
        self.cluster: list[int] = []
        self.left_out = 0
        self.place = Place(file)

    def add(self, place: Place, row: dict[str, Any]) -> None:
        """Read one row."""
        self.place, column = place, _PART[self.style]
        part = row.get(column)
        if not isinstance(part, str) or not part:
            remedy = f"Every row of a {self.style} file needs a {column}"
            raise place.error(f"a name is needed, not {reading.shown(part)}", column, remedy)
        if self.style == "judge-bench" and row.get("label") not in LABELS:
            problem = f"one of {', '.join(LABELS)} is needed, not {reading.shown(row.get('label'))}"
            raise place.error(problem, "label", "The label tells which response is better")
        sides = self._sides(row)
        if any(value is None for side in sides for value in side):
            self.left_out += 1
            return
        self._check_counts(sides)
        self.outputs += [value for side in sides for value in side if value is not None]
        self.counts.append((len(sides[0]), len(sides[1])))
        self.parts.append(part)
        self.ids.append(benchmarks.ties_id(row.get("id")) if is_ties(part) else ("", ""))
        number = self.ids[-1][1]
        # a row without a prompt counts as a separate prompt
        key = f"\0ties {number}" if number else prompt_of(plain_row(row))
        if not key:
            name = row.get("id")
            key = f"id {name}" if isinstance(name, (str, int)) else f"\0{place.line}"
        self.cluster.append(self.prompts.setdefault(key, len(self.prompts)))

    def _check_counts(self, sides: Sequence[Sequence[Any]]) -> None:
        wanted = _COUNT.get(self.style)
        for number, side in enumerate(sides):
            if not side or (wanted and len(side) != wanted):
                count, found = wanted or "one or more", " and ".join(str(len(s)) for s in sides)
                problem = f"{count} chosen and {count} rejected scores are needed, not {found}"
                remedy = f"Each row of a {self.style} file has a score for every response"
                field = self.columns[min(number, len(self.columns) - 1)]
                raise self.place.error(problem, field, remedy)

    def _sides(self, row: dict[str, Any]) -> tuple[list[list[float] | None], ...]:
        """Return the outputs of the chosen and of the rejected responses; None without a score."""
        for name in self.columns:
            if name not in row:
                remedy = "Score all rows with the same reward model; null is a text without a score"
                problem = "the column is missing here, but present on the first line"
                raise self.place.error(problem, name, remedy)
        if self.columns == ("judgments",):
            verdict = self._verdict(row)
            return [None if verdict is None else [verdict]], [[0.0]]
        if len(self.columns) == 2:
            chosen, rejected = (self._values(row[name], name) for name in self.columns)
            return chosen, rejected
        (name,) = self.columns
        values = self._values(row[name], name)
        right, wrong = (len(row.get(side) or ()) for side in ("chosen", "rejected"))
        if not has_lists(row):
            count = len(values) // 2 if self.style == "rm-bench" else row.get("num_correct")
            right = count if isinstance(count, int) else 0
            wrong = len(values) - right
        if row[name] is not None and (len(values) != right + wrong or min(right, wrong) < 1):
            raise self.place.error(
                f"it has {len(values)} scores for {right} chosen and {wrong} rejected responses",
                name,
                "The chosen responses come first, then the rejected ones, at least one of each",
            )
        return values[:right] or [None], values[right:] or [None]

    def _verdict(self, row: dict[str, Any]) -> float | None:
        """Count JudgeBench's verdicts that agree with the label minus the opposite ones.

        The second verdict is on the responses in reverse order. None without a verdict.
        """
        judgments = row["judgments"]
        if judgments is None:
            return None
        said = judgments if isinstance(judgments, list) else [judgments]
        if not said or any(each is not None and not isinstance(each, dict) for each in said):
            problem = f"a list of verdicts is needed, not {reading.shown(judgments)}"
            remedy = 'Write [{"decision": "A>B"}, {"decision": "B>A"}]'
            raise self.place.error(problem, "judgments", remedy)
        decisions = [(each or {}).get("decision") for each in said]
        signs = [(each == row["label"]) - (each in [*LABELS]) / 2 for each in decisions]
        return sum(-sign if place else sign for place, sign in enumerate(signs))

    def _values(self, value: Any, name: str) -> list[list[float] | None]:
        """Check one column's outputs; a number is read as a list of one."""
        if self.is_raw and len(self.columns) == 2:
            return [self.checks.numbers(value, self.place, name)]
        if not isinstance(value, list):
            return [self.checks.numbers(value if value is None else [value], self.place, name)]
        if not self.is_raw:
            value = [item if item is None or isinstance(item, list) else [item] for item in value]
        fields = ((f"{name}[{place}]", item) for place, item in enumerate(value))
        return [self.checks.numbers(item, self.place, field) for field, item in fields]

    def scores(self, head_type: str | None) -> SectionScores:
        """Compare chosen with rejected responses."""
        if not self.counts:
            raise reading.no_reward(self.file, self.left_out, self.columns[0])
        raw = np.array(self.outputs, dtype=np.float64)
        rewards = self._means(raw, head_type) if self.is_raw else raw[..., 0]
        ends = np.cumsum(np.array(self.counts).ravel())[:-1]
        split = np.split(rewards, ends)
        sides = list(zip(split[::2], split[1::2], strict=True))
        parts, rows = self.parts, list(range(len(sides)))
        if self.style == "reward-bench-2":
            entries = [
                (part, row, benchmarks.share_of_best(*sides[row]))
                for row, part in enumerate(parts)
                if not is_ties(part)
            ]
            ties = [row for row, part in enumerate(parts) if is_ties(part)]
            ids, tied = [self.ids[row] for row in ties], [sides[row] for row in ties]
            own = benchmarks.ties_entries(ids, tied)
            entries += [(part, ties[place], value) for part, place, value in own]
            parts, rows = [part for part, _, _ in entries], [row for _, row, _ in entries]
            right = {"accuracy": np.array([value for _, _, value in entries])}
        else:
            gaps = np.stack([chosen[:, None] - rejected for chosen, rejected in sides])
            right = benchmarks.measures(gaps)
        subsets = list(dict.fromkeys(parts))
        subset = np.array([subsets.index(part) for part in parts], dtype=np.int64)
        row, cluster = np.array(rows, dtype=np.int64), np.array(self.cluster, dtype=np.int64)[rows]
        equal = sum(int((chosen[:, None] == rejected).sum()) for chosen, rejected in sides)
        facts = self.file, self.name, self.style, subsets
        return SectionScores(*facts, subset, row, cluster, right, equal, self.left_out)

    def _means(self, raw: Floats, head_type: str | None) -> Floats:
        import torch

        head = choose_head(
            self.checks.width,
            file=self.file,
            field=self.columns[0],
            name=self.name,
            saved=saved_head(self.file, self.name),
            head_type=head_type,
        )
        with torch.no_grad():
            return np.asarray(head.distribution(torch.from_numpy(raw)).mean.double().numpy())
