"""Rows of public benchmarks, with their columns renamed to the usual names.

RewardBench 2 and RM-Bench have *lists* of responses under ``chosen`` and ``rejected``; JudgeBench
has a ``question``, ``response_A`` and ``response_B``, and a ``label`` for the better one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hidden_context.data.checks import NOWHERE, Place, describe, read_conversation, read_list

LABELS: Final = {"A>B": ("response_A", "response_B"), "B>A": ("response_B", "response_A")}
"""JudgeBench's labels: the columns of the better and of the worse response."""

JUDGED: Final = ("question", "response_A", "response_B", "label")


def has_lists(row: Mapping[str, Any]) -> bool:
    """Tell whether ``chosen`` or ``rejected`` is a list of responses, not of messages."""
    return any(
        isinstance(row.get(side), list)
        and bool(row[side])
        and isinstance(row[side][0], (str, list))
        for side in ("chosen", "rejected")
    )


def plain_row(row: dict[str, Any], place: Place = NOWHERE) -> dict[str, Any]:
    """Rename the columns of a benchmark's row; any other row stays as it is.

    Args:
        row: The columns.
        place: Where the row stands, for errors.

    Returns:
        A row with lists has ``prompt`` and ``responses``, the chosen ones first, in place of
        ``chosen`` and ``rejected``. A row of JudgeBench has ``prompt``, ``chosen`` and ``rejected``
        besides its own columns.

    Raises:
        DataError: If a list holds something else, or a label is unknown.
    """
    if has_lists(row):
        remedy = 'Write {"prompt": "...", "chosen": ["...", "..."], "rejected": ["...", "..."]}'
        responses = [
            read_conversation(response, f"{side}[{number}]", place)
            for side in ("chosen", "rejected")
            for number, response in enumerate(
                read_list(row.get(side), side, place, remedy, f"{side} response")
            )
        ]
        rest = {name: value for name, value in row.items() if name not in ("chosen", "rejected")}
        if rest.get("prompt") is None:  # the responses are whole conversations
            rest["prompt"] = "" if isinstance(responses[0], str) else []
        return {**rest, "responses": responses}
    others = (row.get(name) for name in ("chosen", "rejected", "responses"))
    if any(row.get(name) is None for name in JUDGED) or any(one is not None for one in others):
        return row
    if row["label"] not in LABELS:
        problem = f"one of {', '.join(LABELS)} is needed, not {describe(row['label'])}"
        raise place.error(problem, "label", "'label' says which of the two responses is better")
    chosen, rejected = (row[name] for name in LABELS[row["label"]])
    return {**row, "prompt": row["question"], "chosen": chosen, "rejected": rejected}
