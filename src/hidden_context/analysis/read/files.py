"""Score files: JSON Lines with raw reward outputs, read into arrays and checked on the way.

A *pair* file has ``reward_output_chosen`` and ``reward_output_rejected``, each a list of K
numbers; scored by several models, ``reward_output_chosen_{name}`` and
``reward_output_rejected_{name}`` for each. A *response* file has one or more columns
``reward_outputs_{name}``, each a list with one list of K numbers per response. A file may be both.
``null`` in place of a reward (a text that was too long to score) leaves that row out of that
model's scores and is counted.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hidden_context.analysis.read.rows import (
    LABEL_COLUMNS,
    RawOutputChecks,
    no_reward,
    read_labels,
    read_said,
    reward_columns,
    score_sets,
    share_of,
    shown,
)
from hidden_context.data.example import Example
from hidden_context.data.row_facts import FactsReader, RowFacts
from hidden_context.data.storage.files import iter_jsonl
from hidden_context.errors import DataError


@dataclass(frozen=True, eq=False)
class Scores:
    """Raw outputs of one reward model.

    Attributes:
        file: Where they come from.
        name: The name given to the model; empty where it was the only one.
        column: The full name of their (first) column.
        labels: Per label column that occurs, ``(N,)`` strings; empty where a row has none.
        left_out: Number of rows without a reward or a vote.
        facts: Prompts and lengths of the N rows.
        rows: ``(N,)`` integers, the place of each among the file's rows.
    """

    file: str
    name: str
    column: str
    labels: dict[str, NDArray[np.str_]]
    left_out: int
    facts: RowFacts
    rows: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PairScores(Scores):
    """Raw outputs of one reward model on pairs.

    Attributes:
        chosen: ``(N, K)`` float64, raw outputs of the chosen texts.
        rejected: ``(N, K)`` float64, raw outputs of the rejected texts.
        preference: ``(N,)`` float64, share of annotators for the chosen text: 1 a hard label.
        said: What annotators said of each of the N pairs.
    """

    chosen: NDArray[np.float64]
    rejected: NDArray[np.float64]
    preference: NDArray[np.float64]
    said: list[Example]

    @property
    def width(self) -> int:
        """Numbers per text, K."""
        return int(self.chosen.shape[1])


@dataclass(frozen=True, eq=False)
class ResponseScores(Scores):
    """Raw outputs of one ``reward_outputs_{name}`` column.

    Attributes:
        outputs: ``(M, K)`` float64, the raw outputs of all responses, row after row.
        num_responses: ``(N,)`` integers that sum to M, how many responses each row has.
    """

    outputs: NDArray[np.float64]
    num_responses: NDArray[np.int64]

    @property
    def width(self) -> int:
        """Numbers per response, K."""
        return int(self.outputs.shape[1])

    def as_pairs(self) -> NDArray[np.float64] | None:
        """Return the outputs as ``(N, 2, K)``, or None unless every row has two responses."""
        if not (self.num_responses == 2).all():
            return None
        return self.outputs.reshape(-1, 2, self.width)


class _Table:
    """Rows of one set of scores while they are being read."""

    def __init__(
        self, file: str, name: str, columns: tuple[str, ...], label_names: Sequence[str]
    ) -> None:
        self.file, self.name, self.columns = file, name, columns
        self.is_pairs = len(columns) == 2
        self.checks = RawOutputChecks(file)
        self.values = [array("d") for _ in columns]
        self.preference, self.counts, self.rows = array("d"), array("q"), array("q")
        self.labels: dict[str, list[str]] = {name: [] for name in label_names}
        self.said: list[Example] = []
        self.left_out = 0

    def add(
        self, number: int, line: int, row: dict[str, Any], labels: dict[str, str], said: Example
    ) -> None:
        """Append one row, or leave it out if a reward or all votes are missing."""
        outputs = [self._outputs(row[name], name, line) for name in self.columns]
        share = share_of(said) if self.is_pairs else 1.0
        if share is None or None in outputs:
            self.left_out += 1
            return
        for values, column in zip(self.values, outputs, strict=True):
            for output in column or ():
                values.extend(output)
        self.rows.append(number)
        self.counts.append(len(outputs[0] or ()))
        self.preference.append(share)
        if self.is_pairs:
            self.said.append(said)
        for name, label in labels.items():
            self.labels[name].append(label)

    def _outputs(self, value: Any, name: str, line: int) -> list[list[float]] | None:
        """Check a column's outputs: one for a pair's side, one per response otherwise."""
        if self.is_pairs:
            output = self.checks.numbers(value, line, name)
            return None if output is None else [output]
        if value is None:
            return None
        if not isinstance(value, list) or not value:
            raise DataError(
                f"a list with one output per response is needed, not {shown(value)}",
                file=self.file,
                line=line,
                field=name,
            )
        outputs = [self.checks.numbers(item, line, f"{name}[{i}]") for i, item in enumerate(value)]
        scored = [output for output in outputs if output is not None]
        return scored if len(scored) == len(outputs) else None

    def scores(self, facts: RowFacts) -> PairScores | ResponseScores:
        """Return the rows as arrays."""
        if not self.rows:
            raise no_reward(self.file, self.left_out, self.columns[0])
        arrays = [np.array(values).reshape(-1, self.checks.width) for values in self.values]
        rows, column = np.array(self.rows), self.columns[0]
        labels = {name: np.array(texts) for name, texts in self.labels.items() if any(texts)}
        own = facts.select(rows)
        shared = (self.file, self.name, column, labels, self.left_out, own, rows)
        if self.is_pairs:
            preference = np.array(self.preference)
            return PairScores(*shared, arrays[0], arrays[1], preference, self.said)
        return ResponseScores(*shared, arrays[0], np.array(self.counts))


def read_score_file(
    path: str | Path,
    require: Sequence[str] = (),
    annotator_column: str | None = None,
    label_names: Sequence[str] = LABEL_COLUMNS,
    keep_prompts: bool = False,
) -> dict[str, PairScores | ResponseScores]:
    """Read a score file, plain or gzip, row by row.

    Args:
        path: The file.
        require: Label columns that every row must have.
        annotator_column: The column that says who judged a pair; None leaves that out.
        label_names: Columns that split rows into groups.
        keep_prompts: Whether to keep the prompts' texts.

    Returns:
        The sets of scores by their first column: pairs, named pairs, then responses.

    Raises:
        MissingFileError: If the file does not exist.
        DataError: If it is empty, a line is broken, a column is missing on some line, or an
            output is not a list of finite numbers of one width; names file, line and field.
    """
    file = str(path)
    columns, facts = frozenset[str](), FactsReader(keep_prompts)
    tables: list[_Table] = []
    for number, (line, row) in enumerate(iter_jsonl(path, allow_empty=False)):
        found = reward_columns(row)
        if not tables:
            sets = score_sets(found, file, line)
            tables = [_Table(file, name, names, label_names) for name, names in sets]
            columns, first_line = found, line
        elif found != columns:
            name = min(found ^ columns)
            problem = "missing here, but stands" if name in columns else "here, but missing"
            raise DataError(
                f"the column is {problem} on line {first_line}", file=file, line=line, field=name
            )
        facts.add(row)
        labels = read_labels(row, file, line, label_names)
        judged = row if any(table.is_pairs for table in tables) else {}
        said = read_said(judged, file, line, annotator_column)
        for name in require:
            if not labels.get(name):
                raise DataError("the column is missing", file=file, line=line, field=name)
        for table in tables:
            table.add(number, line, row, labels, said)
    every = facts.facts()
    return {table.columns[0]: table.scores(every) for table in tables}
