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

from hidden_context.analysis.score_columns import (
    LABEL_COLUMNS,
    RESPONSES_PREFIX,
    ScoreSet,
    read_labels,
    read_said,
    reward_columns,
    score_sets,
    shown,
)
from hidden_context.analysis.score_table import RawOutputChecks, ScoreTable
from hidden_context.data.example import Example
from hidden_context.data.files import iter_jsonl
from hidden_context.data.row_facts import FactsReader, RowFacts
from hidden_context.errors import DataError


@dataclass(frozen=True, eq=False)
class PairScores:
    """Raw outputs of one reward model on pairs.

    Attributes:
        file: Where they come from.
        name: The name given to the model; empty where it was the only one.
        column: The full name of the column of the chosen texts.
        chosen: ``(N, K)`` float64, raw outputs of the chosen texts.
        rejected: ``(N, K)`` float64, raw outputs of the rejected texts.
        preference: ``(N,)`` float64, share of annotators for the chosen text: 1 a hard label.
        labels: Per label column that occurs, ``(N,)`` strings; empty where a row has none.
        left_out: Number of rows without a reward or a vote.
        said: What annotators said of each of the N pairs.
        facts: Prompts and lengths of the N pairs.
        rows: ``(N,)`` integers, the place of each pair among the file's rows.
    """

    file: str
    name: str
    column: str
    chosen: NDArray[np.float64]
    rejected: NDArray[np.float64]
    preference: NDArray[np.float64]
    labels: dict[str, NDArray[np.str_]]
    left_out: int
    said: list[Example]
    facts: RowFacts
    rows: NDArray[np.int64]

    @property
    def width(self) -> int:
        """Numbers per text, K."""
        return int(self.chosen.shape[1])


@dataclass(frozen=True, eq=False)
class ResponseScores:
    """Raw outputs of one ``reward_outputs_{name}`` column.

    Attributes:
        file: Where they come from.
        column: The column's full name.
        outputs: ``(M, K)`` float64, the raw outputs of all responses, row after row.
        num_responses: ``(N,)`` integers that sum to M, how many responses each row has.
        labels: Per label column that occurs, ``(N,)`` strings; empty where a row has none.
        left_out: Number of rows with at least one response that has no reward.
        facts: Prompts and lengths of the N rows.
        rows: ``(N,)`` integers, the place of each among the file's rows.
    """

    file: str
    column: str
    outputs: NDArray[np.float64]
    num_responses: NDArray[np.int64]
    labels: dict[str, NDArray[np.str_]]
    left_out: int
    facts: RowFacts
    rows: NDArray[np.int64]

    @property
    def name(self) -> str:
        """The name given to the reward model when the responses were scored."""
        return self.column.removeprefix(RESPONSES_PREFIX)

    @property
    def width(self) -> int:
        """Numbers per response, K."""
        return int(self.outputs.shape[1])

    def as_pairs(self) -> NDArray[np.float64] | None:
        """Return the outputs as ``(N, 2, K)``, or None unless every row has two responses."""
        if not (self.num_responses == 2).all():
            return None
        return self.outputs.reshape(-1, 2, self.width)


@dataclass(frozen=True, eq=False)
class ScoreFile:
    """What one score file holds.

    Attributes:
        file: Where it lies.
        pairs: Pairs scored by a single reward model, if there are any.
        named_pairs: Pairs scored by several, by the models' names.
        responses: Responses, by the models' names.
    """

    file: str
    pairs: PairScores | None
    named_pairs: dict[str, PairScores]
    responses: dict[str, ResponseScores]

    def all_scores(self) -> list[PairScores | ResponseScores]:
        """Return every set of scores: pairs, named pairs, then responses."""
        pairs = [] if self.pairs is None else [self.pairs]
        return [*pairs, *self.named_pairs.values(), *self.responses.values()]


def _row_outputs(
    table: ScoreTable, row: dict[str, Any], line: int
) -> list[list[list[float]] | None]:
    if table.scores.is_pairs:
        sides = [table.checks.numbers(row[name], line, name) for name in table.scores.columns]
        return [None if side is None else [side] for side in sides]
    name = table.scores.columns[0]
    value = row[name]
    if value is None:
        return [None]
    if not isinstance(value, list) or not value:
        raise DataError(
            f"a list with one output per response is needed, not {shown(value)}",
            file=table.file,
            line=line,
            field=name,
        )
    outputs = [table.checks.numbers(item, line, f"{name}[{i}]") for i, item in enumerate(value)]
    scored = [output for output in outputs if output is not None]
    return [scored if len(scored) == len(outputs) else None]


def read_score_file(
    path: str | Path,
    require: Sequence[str] = (),
    annotator_column: str | None = None,
    label_names: Sequence[str] = LABEL_COLUMNS,
    keep_prompts: bool = False,
) -> ScoreFile:
    """Read a score file, plain or gzip, row by row.

    Args:
        path: The file.
        require: Label columns that every row must have.
        annotator_column: The column that says who judged a pair; None leaves that out.
        label_names: Columns that split rows into groups.
        keep_prompts: Whether to keep the prompts' texts.

    Returns:
        Its pairs and responses as float64 arrays.

    Raises:
        MissingFileError: If the file does not exist.
        DataError: If it is empty, a line is broken, a column is missing on some line, or an
            output is not a list of finite numbers of one width; names file, line and field.
    """
    file = str(path)
    columns, has_pairs, facts = frozenset[str](), False, FactsReader(keep_prompts)
    tables: list[ScoreTable] = []
    for number, (line, row) in enumerate(iter_jsonl(path, allow_empty=False)):
        found = reward_columns(row)
        if not tables:
            sets = score_sets(found, file, line)
            tables = [_new_table(file, s, label_names) for s in sets]
            columns, first_line = found, line
            has_pairs = any(s.is_pairs for s in sets)
        elif found != columns:
            name = min(found ^ columns)
            problem = "missing here, but stands" if name in columns else "here, but missing"
            raise DataError(
                f"the column is {problem} on line {first_line}", file=file, line=line, field=name
            )
        facts.add(row)
        labels = read_labels(row, file, line, label_names)
        said = read_said(row, file, line, annotator_column) if has_pairs else None
        for name in require:
            if not labels.get(name):
                raise DataError("the column is missing", file=file, line=line, field=name)
        for table in tables:
            own = said if table.scores.is_pairs else None
            table.add(number, _row_outputs(table, row, line), labels, own)
    return _score_file(file, tables, facts.facts())


def _new_table(file: str, scores: ScoreSet, label_names: Sequence[str]) -> ScoreTable:
    values = tuple(array("d") for _ in scores.columns)
    labels: dict[str, list[str]] = {name: [] for name in label_names}
    return ScoreTable(file, scores, RawOutputChecks(file), values, labels=labels)


def _score_file(file: str, tables: list[ScoreTable], facts: RowFacts) -> ScoreFile:
    pairs: dict[str, PairScores] = {}
    responses: dict[str, ResponseScores] = {}
    for table in tables:
        rows, arrays = np.array(table.rows, dtype=np.int64), table.arrays()
        shared: dict[str, Any] = {
            "file": file,
            "column": table.scores.columns[0],
            "labels": table.label_arrays(),
            "left_out": table.left_out,
            "facts": facts.select(rows),
            "rows": rows,
        }
        name = table.scores.name
        if table.scores.is_pairs:
            preference = np.array(table.preference, dtype=np.float64)
            pairs[name] = PairScores(
                name=name,
                chosen=arrays[0],
                rejected=arrays[1],
                preference=preference,
                said=table.said,
                **shared,
            )
        else:
            counts = np.array(table.counts, dtype=np.int64)
            responses[name] = ResponseScores(outputs=arrays[0], num_responses=counts, **shared)
    return ScoreFile(file, pairs.pop("", None), pairs, responses)
