"""Which columns of a score file hold rewards, and what its label columns say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from hidden_context.data.example import Comparison, Example
from hidden_context.data.importers import read_row
from hidden_context.data.importers.answers import COMPARISON_COLUMNS, RATING_COLUMNS
from hidden_context.errors import DataError

CHOSEN: Final = "reward_output_chosen"
REJECTED: Final = "reward_output_rejected"
RESPONSES_PREFIX: Final = "reward_outputs_"
LABEL_COLUMNS: Final = ("data_subset", "objective")
"""Columns that say which part of the data a row belongs to."""
_REASON: Final = "_reason"
_SAID_COLUMNS: Final = (*COMPARISON_COLUMNS, "annotations")


@dataclass(frozen=True)
class ScoreSet:
    """The columns that one reward model wrote.

    Attributes:
        name: The name given to the model; empty for pairs scored by a single one.
        columns: Chosen and rejected column for pairs, or the one column of responses.
    """

    name: str
    columns: tuple[str, ...]

    @property
    def is_pairs(self) -> bool:
        """Whether these are pairs rather than responses."""
        return len(self.columns) == 2


def shown(value: Any) -> str:
    """Write a value for an error, in JSON's word for None and not too long."""
    text = "null" if value is None else repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def reward_columns(row: Iterable[str]) -> frozenset[str]:
    """Find the columns that hold raw outputs.

    Scoring says in ``{column}_reason`` why a text has no reward; that column is none of rewards.

    >>> sorted(reward_columns(["prompt", "reward_outputs_a", "reward_outputs_a_reason"]))
    ['reward_outputs_a']
    """
    names = set(row)
    return frozenset(
        name
        for name in names
        if (name in (CHOSEN, REJECTED) or _side_of(name) or name.startswith(RESPONSES_PREFIX))
        and not (name.endswith(_REASON) and name.removesuffix(_REASON) in names)
    )


def _side_of(column: str) -> str:
    """Return which side of a named pair a column is of, or an empty text."""
    sides = (CHOSEN, REJECTED)
    return next((s for s in sides if column.startswith(f"{s}_") and column != f"{s}_"), "")


def score_sets(columns: frozenset[str], file: str, line: int) -> list[ScoreSet]:
    """Sort reward columns into sets: pairs, named pairs, then responses.

    Args:
        columns: What ``reward_columns`` found.
        file: The score file, for errors.
        line: The line, for errors.

    Returns:
        The sets, each kind in the order of the names.

    Raises:
        DataError: If there is none, or a side of a pair has no other side.
    """
    if not columns:
        raise DataError(
            f"there is no {CHOSEN} and {REJECTED}, nor a {RESPONSES_PREFIX}… column",
            file=file,
            line=line,
            remedy="Score files come from the evaluate and score commands",
        )
    tails = {
        name.removeprefix(side)
        for name in columns
        for side in (CHOSEN, REJECTED)
        if name == side or _side_of(name) == side
    }
    sets = []
    for tail in sorted(tails):  # the empty tail of unnamed pairs comes first
        chosen, rejected = CHOSEN + tail, REJECTED + tail
        for name, other in ((chosen, rejected), (rejected, chosen)):
            if other not in columns:
                raise DataError(
                    f"{name} has no {other} beside it", file=file, line=line, field=other
                )
        sets.append(ScoreSet(tail.removeprefix("_"), (chosen, rejected)))
    names = sorted(name for name in columns if name.startswith(RESPONSES_PREFIX))
    return sets + [ScoreSet(name.removeprefix(RESPONSES_PREFIX), (name,)) for name in names]


def read_labels(
    row: dict[str, Any], file: str, line: int, columns: Iterable[str] = LABEL_COLUMNS
) -> dict[str, str]:
    """Read a row's label columns as texts; empty where it has none.

    Raises:
        DataError: If a label is neither text nor an integer.
    """
    labels = {}
    for name in columns:
        value = row.get(name)
        if value is not None and not isinstance(value, (str, int)):
            raise DataError(
                f"a text or an integer is needed, not {shown(value)}",
                file=file,
                line=line,
                field=name,
            )
        labels[name] = "" if value is None else str(value)
    return labels


def read_said(
    row: dict[str, Any], file: str, line: int, annotator_column: str | None = None
) -> Example:
    """Read what annotators said of a pair, as training reads it.

    Their judgements are those of ``annotations`` where there are some, else the one that
    ``preference``, ``strength`` and ``margin`` make, else that of the two ratings, else a vote for
    the chosen side.

    Args:
        row: The row.
        file: The score file, for errors.
        line: The line, for errors.
        annotator_column: The column that says who judged; None leaves that out.

    Returns:
        An example of two responses whose texts are left out.

    Raises:
        DataError: If one of these columns is malformed.
    """
    names = [*_SAID_COLUMNS, *([] if annotator_column is None else [annotator_column])]
    if all(row.get(name) is None for name in _SAID_COLUMNS):
        names += RATING_COLUMNS  # where something else is said, they may be other people's
    said = {name: row[name] for name in names if row.get(name) is not None}
    if not said:
        return _ONE_VOTE
    return read_row({"chosen": "", "rejected": "", **said}, file=file, line=line)


def share_of(said: Example) -> float | None:
    """Return the share of votes for the chosen side; None where all abstained.

    >>> said = {"annotations": [{"preference": 1}, {"strength": -2}]}
    >>> share_of(read_said(said, "scores.jsonl", 1))
    0.5
    """
    votes = [
        judgement.answer.preference
        for judgement in said.judgements
        if isinstance(judgement.answer, Comparison)
    ]
    return sum(votes) / len(votes) if votes else None


# Most rows say nothing of who judged, and a million of them need not say it each.
_ONE_VOTE: Final = read_row({"chosen": "", "rejected": ""})
