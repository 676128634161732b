"""Score files: JSON Lines with raw outputs, checked and read into arrays.

A *pair* file has ``reward_output_chosen`` and ``reward_output_rejected``, each a list of K
numbers. If several models scored the pairs, each model has ``reward_output_chosen_{name}`` and
``reward_output_rejected_{name}``. A *response* file has one or more columns
``reward_outputs_{name}``, each a list with one list of K numbers per response. A file may be both.
A reward can be ``null``, if the text was too long to score. The row is then left out of that
model's scores, and counted as left out.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hidden_context.analysis.read import rows as reading
from hidden_context.data.checks import Place
from hidden_context.data.example import Example
from hidden_context.data.row_facts import FactsReader, RowFacts
from hidden_context.data.storage.files import iter_jsonl
from hidden_context.statistics.checks import Codes, Floats


@dataclass(frozen=True, eq=False)
class Scores:
    """Raw outputs of one reward model.

    Attributes:
        file: The score file.
        name: The name given to the model; empty if it was the only one.
        column: The full name of the (first) column of raw outputs.
        labels: Per label column that occurs, ``(N,)`` strings; empty for a missing label.
        left_out: Number of rows without a reward or a vote.
        facts: Prompts and lengths of the N rows.
        rows: ``(N,)`` integers, the place of each row in the file.
        width: Numbers per text or response, K.
    """

    file: str
    name: str
    column: str
    labels: dict[str, NDArray[np.str_]]
    left_out: int
    facts: RowFacts
    rows: Codes
    width: int


@dataclass(frozen=True, eq=False)
class PairScores(Scores):
    """Raw outputs of one reward model on pairs.

    Attributes:
        chosen: ``(N, K)`` float64, raw outputs of the chosen texts.
        rejected: ``(N, K)`` float64, raw outputs of the rejected texts.
        preference: ``(N,)`` float64, share of annotators for the chosen text; 1 for a hard label.
        said: The judgements of each of the N pairs.
    """

    chosen: Floats
    rejected: Floats
    preference: Floats
    said: list[Example]


@dataclass(frozen=True, eq=False)
class ResponseScores(Scores):
    """Raw outputs of one ``reward_outputs_{name}`` column.

    Attributes:
        outputs: ``(M, K)`` float64, the raw outputs of all responses, row after row.
        num_responses: ``(N,)`` integers that sum to M, the number of responses of each row.
    """

    outputs: Floats
    num_responses: Codes

    def as_pairs(self) -> Floats | None:
        """Return the outputs as ``(N, 2, K)``, or None unless every row has two responses."""
        if not (self.num_responses == 2).all():
            return None
        return self.outputs.reshape(-1, 2, self.width)


class _Table:
    """The rows of one set of scores, collected while reading."""

    def __init__(
        self, file: str, name: str, columns: tuple[str, ...], label_names: Sequence[str]
    ) -> None:
        self.file, self.name, self.columns = file, name, columns
        self.is_pairs = len(columns) == 2
        self.checks = reading.RawOutputChecks()
        self.values = [array("d") for _ in columns]
        self.preference, self.counts, self.rows = array("d"), array("q"), array("q")
        self.labels: dict[str, list[str]] = {name: [] for name in label_names}
        self.said: list[Example] = []
        self.left_out = 0

    def add(
        self, number: int, place: Place, row: dict[str, Any], labels: dict[str, str], said: Example
    ) -> None:
        """Append one row, or leave it out if a reward or all votes are missing."""
        outputs = [self._outputs(row[name], name, place) for name in self.columns]
        share = reading.share_of(said) if self.is_pairs else 1.0
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

    def _outputs(self, value: Any, name: str, place: Place) -> list[list[float]] | None:
        """Check a column's outputs: one for a pair's side, one per response otherwise."""
        if self.is_pairs:
            output = self.checks.numbers(value, place, name)
            return None if output is None else [output]
        if value is None:
            return None
        if not isinstance(value, list) or not value:
            problem = f"a list with one output per response is needed, not {reading.shown(value)}"
            raise place.error(problem, name, "null stands for a row without rewards")
        outputs = [self.checks.numbers(each, place, f"{name}[{i}]") for i, each in enumerate(value)]
        scored = [output for output in outputs if output is not None]
        return scored if len(scored) == len(outputs) else None

    def scores(self, facts: RowFacts) -> PairScores | ResponseScores:
        """Return the rows as arrays."""
        if not self.rows:
            raise reading.no_reward(self.file, self.left_out, self.columns[0])
        width = self.checks.width
        arrays = [np.array(values).reshape(-1, width) for values in self.values]
        rows, column = np.array(self.rows), self.columns[0]
        labels = {name: np.array(texts) for name, texts in self.labels.items() if any(texts)}
        own = facts.select(rows)
        shared = (self.file, self.name, column, labels, self.left_out, own, rows, width)
        if self.is_pairs:
            preference = np.array(self.preference)
            return PairScores(*shared, arrays[0], arrays[1], preference, self.said)
        return ResponseScores(*shared, arrays[0], np.array(self.counts))


def read_score_file(
    path: str | Path,
    require: Sequence[str] = (),
    annotator_column: str | None = None,
    label_names: Sequence[str] = reading.LABEL_COLUMNS,
    keep_prompts: bool = False,
) -> dict[str, PairScores | ResponseScores]:
    """Read a score file, plain or gzip, row by row.

    Args:
        path: The file.
        require: Label columns that every row must have.
        annotator_column: The column that names a pair's annotator; None reads no annotators.
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
        found, place = reading.reward_columns(row), Place(file, line)
        if not tables:
            sets = reading.score_sets(found, place)
            tables = [_Table(file, name, names, label_names) for name, names in sets]
            columns, first_line = found, line
        elif found != columns:
            name = min(found ^ columns)
            problem = "missing here, but present" if name in columns else "here, but missing"
            problem = f"the column is {problem} on line {first_line}"
            raise place.error(problem, name, "All rows have the rewards of the same models")
        facts.add(row)
        labels = reading.read_labels(row, place, label_names)
        judged = row if any(table.is_pairs for table in tables) else {}
        said = reading.read_said(judged, place, annotator_column)
        for name in require:
            if not labels.get(name):
                raise place.error("the column is missing", name, "Every row needs it")
        for table in tables:
            table.add(number, place, row, labels, said)
    every = facts.facts()
    return {table.columns[0]: table.scores(every) for table in tables}
