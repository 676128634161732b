"""Rows of score files: raw outputs, labels and judgements."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Any, Final

from hidden_context.data.checks import Place
from hidden_context.data.example import Comparison, Example
from hidden_context.data.importers import read_row
from hidden_context.data.importers.answers import COMPARISON_COLUMNS, RATING_COLUMNS
from hidden_context.errors import DataError

CHOSEN: Final = "reward_output_chosen"
REJECTED: Final = "reward_output_rejected"
RESPONSES_PREFIX: Final = "reward_outputs_"
LABEL_COLUMNS: Final = ("data_subset", "objective")
"""Columns that say which part of the data a row belongs to."""
_PAIR: Final = re.compile(f"({CHOSEN}|{REJECTED})(|_.+)", re.DOTALL)
_REASON: Final = "_reason"
_SAID_COLUMNS: Final = (*COMPARISON_COLUMNS, "annotations")


def shown(value: Any) -> str:
    """Format a value for an error message: null for None, and long values shortened."""
    text = "null" if value is None else repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def reward_columns(row: Iterable[str]) -> frozenset[str]:
    """Find the columns that hold raw outputs.

    ``{column}_reason``, in which scoring records why a text has no reward, is left out.

    >>> sorted(reward_columns(["prompt", "reward_outputs_a", "reward_outputs_a_reason"]))
    ['reward_outputs_a']
    """
    names = set(row)
    return frozenset(
        name
        for name in names
        if (_PAIR.fullmatch(name) or name.startswith(RESPONSES_PREFIX))
        and not (name.endswith(_REASON) and name.removesuffix(_REASON) in names)
    )


def score_sets(columns: frozenset[str], place: Place) -> list[tuple[str, tuple[str, ...]]]:
    """Sort reward columns into sets: pairs, named pairs, then responses.

    Args:
        columns: The result of ``reward_columns``.
        place: File and line, for errors.

    Returns:
        The name of the reward model (empty for pairs scored by a single model) and its columns, two
        for pairs and one for responses; each kind in the order of the names.

    Raises:
        DataError: If there is no set, or a side of a pair has no other side.
    """
    if not columns:
        problem = f"there is no {CHOSEN} and {REJECTED}, nor a {RESPONSES_PREFIX}… column"
        remedy = "Score files come from the evaluate and score commands"
        raise DataError(problem, file=place.file, line=place.line, remedy=remedy)
    tails = {found[2] for name in columns if (found := _PAIR.fullmatch(name))}
    sets: list[tuple[str, tuple[str, ...]]] = []
    for tail in sorted(tails):  # the empty tail of unnamed pairs comes first
        chosen, rejected = CHOSEN + tail, REJECTED + tail
        for name, other in ((chosen, rejected), (rejected, chosen)):
            if other not in columns:
                raise place.error(f"{name} needs a matching {other}", other, "Score both sides")
        sets.append((tail.removeprefix("_"), (chosen, rejected)))
    names = sorted(name for name in columns if name.startswith(RESPONSES_PREFIX))
    return sets + [(name.removeprefix(RESPONSES_PREFIX), (name,)) for name in names]


def read_labels(row: dict[str, Any], place: Place, columns: Iterable[str]) -> dict[str, str]:
    """Read a row's label columns as texts; empty for a missing label.

    Raises:
        DataError: If a label is neither text nor an integer.
    """
    labels = {}
    for name in columns:
        value = row.get(name)
        if value is not None and not isinstance(value, (str, int)):
            problem = f"a text or an integer is needed, not {shown(value)}"
            raise place.error(problem, name, "Groups of rows are named by texts or integers")
        labels[name] = "" if value is None else str(value)
    return labels


def read_said(row: dict[str, Any], place: Place, annotator_column: str | None) -> Example:
    """Read the judgements of a pair, in the same way as training reads them.

    Judgements come from ``annotations`` if there are any, else from ``preference``, ``strength``
    and ``margin``, else from the two ratings; else there is one vote for the chosen side.

    Args:
        row: The row.
        place: File and line, for errors.
        annotator_column: The column that names the annotator; None reads no annotators.

    Returns:
        An example of two responses, without their texts.

    Raises:
        DataError: If one of these columns is malformed.
    """
    names = [*_SAID_COLUMNS, *([] if annotator_column is None else [annotator_column])]
    if all(row.get(name) is None for name in _SAID_COLUMNS):
        names += RATING_COLUMNS  # beside another judgement, ratings may be by other people
    said = {name: row[name] for name in names if row.get(name) is not None}
    if not said:
        return _ONE_VOTE
    return read_row({"chosen": "", "rejected": "", **said}, file=place.file, line=place.line)


def share_of(said: Example) -> float | None:
    """Return the share of votes for the chosen side; None if all annotators abstained.

    >>> said = {"annotations": [{"preference": 1}, {"strength": -2}]}
    >>> share_of(read_said(said, Place("scores.jsonl", 1), None))
    0.5
    """
    votes = [
        judgement.answer.preference
        for judgement in said.judgements
        if isinstance(judgement.answer, Comparison)
    ]
    return sum(votes) / len(votes) if votes else None


# Most rows name no annotator; they share this example.
_ONE_VOTE: Final = read_row({"chosen": "", "rejected": ""})


class RawOutputChecks:
    """Checks of one reward model's raw outputs, which all have the same width K."""

    def __init__(self) -> None:
        self.width = 0
        self._first_line: int | None = None

    def numbers(self, value: Any, place: Place, field: str) -> list[float] | None:
        """Check one raw output, K finite numbers as in the rows before; None stays None.

        Raises:
            DataError: If the output is anything else; names file, line and field.
        """
        if value is None:
            return None
        if not isinstance(value, list) or not value:
            raise place.error(
                f"a list of numbers is needed, not {shown(value)}",
                field,
                "A reward is written as a list even if it is one number, such as [0.25]",
            )
        if not self.width:
            self.width, self._first_line = len(value), place.line
        for number in value:
            if type(number) is not float and type(number) is not int:
                remedy = "A text without a reward has null in place of the whole list"
                problem = f"a number is needed, not {shown(number)}"
                raise place.error(problem, field, remedy)
            if not abs(number) <= sys.float_info.max:
                remedy = "Score the file again; a finite reward model gives finite outputs"
                raise place.error(f"{shown(number)} is not a finite number", field, remedy)
        if len(value) != self.width:
            problem = f"its width is {len(value)}, but {self.width} on line {self._first_line}"
            remedy = "All outputs of one reward model have the same width"
            raise place.error(problem, field, remedy)
        return list(value)


def no_reward(file: str, left_out: int, column: str) -> DataError:
    """Return the error for a file in which no row has a reward and a vote."""
    return DataError(
        f"no row has a reward and a vote, of {left_out} in all",
        file=file,
        field=column,
        remedy="Were all texts too long, or did all annotators abstain? A larger --max_length "
        "scores longer texts",
    )
