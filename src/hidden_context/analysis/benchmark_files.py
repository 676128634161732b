"""Scores of RewardBench and RM-Bench: local files of either style, accuracy by subset and section.

Nothing is downloaded. A RewardBench file has a row for each pair, with its ``subset``; an RM-Bench
file a row for each prompt, with three chosen and three rejected responses and its ``domain``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from hidden_context.analysis.benchmark_names import RM_BENCH_DOMAINS
from hidden_context.analysis.score_columns import (
    CHOSEN,
    REJECTED,
    RESPONSES_PREFIX,
    reward_columns,
    shown,
)
from hidden_context.analysis.score_heads import choose_head, saved_head
from hidden_context.data.dialogue import to_text
from hidden_context.data.files import iter_jsonl, open_binary
from hidden_context.errors import DataError

if TYPE_CHECKING:
    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

Style = Literal["reward-bench", "rm-bench"]

_NUMBERS: Final = (("scores_chosen", "scores_rejected"), ("score_chosen", "score_rejected"))
_STYLES: Final = 3
"""RM-Bench's styles of a response: concise, detailed, detailed with markdown."""


@dataclass(frozen=True, eq=False)
class SectionScores:
    """What a file of either benchmark says of N rows.

    Attributes:
        file: Where it lies.
        style: Which benchmark it is of.
        subsets: Names of the S subsets, or domains, in the order they occur.
        subset: ``(N,)``, the place of each row's subset among them.
        cluster: ``(N,)``, the number of each row's prompt, 0 to C − 1.
        right: By measure ``(N,)``, the share of a row's comparisons in which the chosen response
            has the higher score; a tie is wrong, as in both benchmarks. RewardBench has
            ``accuracy``; RM-Bench ``easy``, ``normal``, ``hard`` and ``average``.
        ties: How many of all comparisons are ties.
        left_out: Rows without a score.
    """

    file: str
    style: Style
    subsets: list[str]
    subset: Ints
    cluster: Ints
    right: dict[str, Floats]
    ties: int
    left_out: int


def read_section_scores(path: str | Path, *, head_type: str | None = None) -> SectionScores | None:
    """Read a score file of RewardBench or RM-Bench, JSON Lines or one JSON array, plain or gzip.

    RewardBench rows have ``prompt`` (or ``id``), ``subset`` and the scores of both sides:
    ``reward_output_chosen`` and ``reward_output_rejected``, raw outputs as ``score`` writes them,
    which are read as mean rewards; or numbers ``scores_chosen`` and ``scores_rejected``, or
    ``score_chosen`` and ``score_rejected``. RM-Bench rows have ``id`` or ``prompt``, ``domain`` and
    ``score_chosen`` and ``score_rejected``, each a list of three numbers; or one column
    ``reward_outputs_{name}`` with the raw outputs of six responses, the three chosen ones first.
    ``null`` for a score leaves the row out.

    Args:
        path: The file.
        head_type: The head that wrote raw outputs; None takes the one of the checkpoint in whose
            folder the file lies, else guesses.

    Returns:
        The scores; None where the first row is of neither style.

    Raises:
        MissingFileError: If the file does not exist.
        DataError: If a later row lacks what the first one has, or a score is not a finite number;
            names file, line and field.
    """
    file = str(path)
    rows = _rows(path)
    first = next(rows, None)
    if first is None:
        return None
    reader = _reader_of(first[1], file)
    if reader is None:
        return None
    reader.add(*first)
    for line, row in rows:
        reader.add(line, row)
    return reader.scores(head_type)


def has_rewards(path: str | Path) -> bool:
    """Whether a file's first row has raw outputs, so that it is a score file as well."""
    first = next(_rows(path), None)
    return first is not None and bool(reward_columns(first[1]))


def _rows(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield rows of JSON Lines, or of one JSON array with the place in it as the line."""
    with open_binary(path) as file:
        start = file.read(64).lstrip()
        if not start.startswith(b"["):
            yield from iter_jsonl(path)
            return
        file.seek(0)
        try:
            items = json.loads(file.read())
        except ValueError as error:
            line = getattr(error, "lineno", None)
            raise DataError(f"not valid JSON: {error}", file=path, line=line) from error
    for number, item in enumerate(items, start=1):
        if not isinstance(item, dict):
            raise DataError(
                f"item {number} of the array is {shown(item)}, not an object",
                file=path,
                remedy="An array has one {…} for each row",
            )
        yield number, item


def _reader_of(row: dict[str, Any], file: str) -> _Reader | None:
    """Choose by the first row how a file is read."""
    if isinstance(row.get("domain"), str):
        if all(isinstance(row.get(name), list) for name in _NUMBERS[1]):
            return _Reader(file, "rm-bench", "domain", _NUMBERS[1], _three_numbers)
        outputs = sorted(
            name
            for name, value in row.items()
            if name.startswith(RESPONSES_PREFIX)
            and isinstance(value, list)
            and len(value) == 2 * _STYLES
        )
        if len(outputs) == 1 and row["domain"] in RM_BENCH_DOMAINS:
            return _Reader(file, "rm-bench", "domain", (outputs[0],), _six_outputs)
    if isinstance(row.get("subset"), str):
        if CHOSEN in row and REJECTED in row:
            return _Reader(file, "reward-bench", "subset", (CHOSEN, REJECTED), _one_output)
        for names in _NUMBERS:
            if all(name in row for name in names):
                return _Reader(file, "reward-bench", "subset", names, _one_number)
    return None


Parse = Callable[[Any], "list[list[float]]"]
"""Takes a field's value to texts' raw outputs or scores; raises ValueError with what is wrong."""


class _Reader:
    """Collects rows of one style."""

    def __init__(
        self, file: str, style: Style, part: str, columns: Sequence[str], parse: Parse
    ) -> None:
        self.file, self.style, self.part, self.columns, self.parse = (
            file,
            style,
            part,
            columns,
            parse,
        )
        self.values: list[list[list[float]]] = []
        self.subsets: dict[str, int] = {}
        self.prompts: dict[str, int] = {}
        self.subset: list[int] = []
        self.cluster: list[int] = []
        self.width, self.width_line, self.left_out = 0, 0, 0

    def add(self, line: int, row: dict[str, Any]) -> None:
        """Read one row."""
        part = row.get(self.part)
        if not isinstance(part, str) or not part:
            raise DataError(
                f"a name is needed, not {shown(part)}",
                file=self.file,
                line=line,
                field=self.part,
                remedy=f"Every row of a {self.style} file says which {self.part} it belongs to",
            )
        sides = [self._side(row, name, line) for name in self.columns]
        if any(side is None for side in sides):
            self.left_out += 1
            return
        self.values.append([output for side in sides for output in side or ()])
        self.subset.append(self.subsets.setdefault(part, len(self.subsets)))
        key = _prompt_key(row) or f"\0{line}"  # a row without either is a prompt of its own
        self.cluster.append(self.prompts.setdefault(key, len(self.prompts)))

    def _side(self, row: dict[str, Any], name: str, line: int) -> list[list[float]] | None:
        if name not in row:
            raise DataError(
                "the column is missing, but stands on the first line",
                file=self.file,
                line=line,
                field=name,
                remedy="Score all rows with the same reward model; null is a text without a score",
            )
        value = row[name]
        if value is None or (isinstance(value, list) and any(item is None for item in value)):
            return None
        try:
            found = self.parse(value)
            widths = {len(output) for output in found}
            if self.width and widths != {self.width}:
                raise ValueError(f"its width is not {self.width}, as on line {self.width_line}")
            if not self.width:
                self.width, self.width_line = widths.pop(), line
                if widths:
                    raise ValueError("its outputs differ in width")
        except ValueError as error:
            raise DataError(
                str(error),
                file=self.file,
                line=line,
                field=name,
                remedy="Every score is finite; null stands for a text without one",
            ) from error
        return found

    def scores(self, head_type: str | None) -> SectionScores:
        """Compare chosen with rejected responses."""
        if not self.values:
            raise DataError(
                f"none of its {self.left_out} rows has a score",
                file=self.file,
                field=self.columns[0],
                remedy="Were all texts too long? Score them again with a larger --max_length",
            )
        raw = np.array(self.values, dtype=np.float64)
        is_raw = self.columns[0].startswith(("reward_output_", RESPONSES_PREFIX))
        rewards = self._means(raw, head_type) if is_raw else raw[..., 0]
        half = rewards.shape[1] // 2
        gap = rewards[:, :half, None] - rewards[:, None, half:]
        return SectionScores(
            self.file,
            self.style,
            list(self.subsets),
            np.array(self.subset, dtype=np.int64),
            np.array(self.cluster, dtype=np.int64),
            measures(gap),
            int((gap == 0).sum()),
            self.left_out,
        )

    def _means(self, raw: Floats, head_type: str | None) -> Floats:
        import torch

        column = self.columns[0]
        name = column.removeprefix(RESPONSES_PREFIX) if len(self.columns) == 1 else ""
        head = choose_head(
            self.width,
            file=self.file,
            field=column,
            name=name,
            saved=saved_head(self.file),
            head_type=head_type,
        )
        with torch.no_grad():
            return np.asarray(head.distribution(torch.from_numpy(raw)).mean.double().numpy())


def measures(gap: Floats) -> dict[str, Floats]:
    """Say how often the chosen responses win.

    Args:
        gap: Score of chosen response i minus that of rejected response j, of shape ``(N, 1, 1)``,
            or ``(N, 3, 3)`` with both in the order concise, detailed, markdown.

    Returns:
        By measure, the share of a row's comparisons that are right, ``(N,)``. ``hard`` are the
        three in which the rejected response has the richer style (above the diagonal), ``normal``
        the diagonal, ``easy`` the three below; ``average`` all nine.

    Source: RM-Bench (arXiv 2410.16184), section 3.
    """
    right = (gap > 0).astype(np.float64)
    if right.shape[1] == 1:
        return {"accuracy": right[:, 0, 0]}
    upper = np.triu_indices(_STYLES, 1)
    return {
        "easy": right[:, upper[1], upper[0]].mean(1),
        "normal": np.diagonal(right, axis1=1, axis2=2).mean(1),
        "hard": right[:, upper[0], upper[1]].mean(1),
        "average": right.mean((1, 2)),
    }


def _prompt_key(row: dict[str, Any]) -> str:
    prompt = row.get("prompt")
    if isinstance(prompt, str) and prompt:
        return prompt
    if isinstance(prompt, list) and prompt and all(_is_message(turn) for turn in prompt):
        return to_text(prompt)
    name = row.get("id")
    return f"id {name}" if isinstance(name, (str, int)) else ""


def _is_message(turn: Any) -> bool:
    return isinstance(turn, dict) and isinstance(turn.get("role"), str) and "content" in turn


def _finite(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"{shown(value)} stands where a finite number is needed")
    return float(value)


def _one_number(value: Any) -> list[list[float]]:
    """Read a number, also as a list of one."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return [[_finite(value)]]


def _one_output(value: Any) -> list[list[float]]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"a list of numbers is needed, not {shown(value)}")
    return [[_finite(number) for number in value]]


def _three_numbers(value: Any) -> list[list[float]]:
    if not isinstance(value, list) or len(value) != _STYLES:
        raise ValueError(
            f"three scores are needed, concise, detailed and markdown, not {shown(value)}"
        )
    return [_one_number(item)[0] for item in value]


def _six_outputs(value: Any) -> list[list[float]]:
    if not isinstance(value, list) or len(value) != 2 * _STYLES:
        raise ValueError(f"six outputs are needed, three chosen ones first, not {shown(value)}")
    return [_one_output(item)[0] for item in value]
