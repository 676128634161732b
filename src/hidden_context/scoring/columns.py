"""The columns that scoring adds to a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from hidden_context.data.responses import Kind
from hidden_context.heads import Head
from hidden_context.risk import RiskMeasure

_SIDES = ("chosen", "rejected")


def risk_values(
    head: Head, raw: Sequence[Sequence[float] | None], measures: Sequence[RiskMeasure]
) -> list[dict[str, float] | None]:
    """Evaluate risk measures on raw outputs, in reward units; None stays None."""
    scored = [index for index, value in enumerate(raw) if value is not None]
    result: list[dict[str, float] | None] = [None] * len(raw)
    if not scored or not measures:
        return result
    values = torch.tensor([raw[index] for index in scored], dtype=torch.float64)
    rewards = head.distribution(values)
    numbers = {str(measure): measure(rewards).tolist() for measure in measures}
    for place, index in enumerate(scored):
        result[index] = {name: column[place] for name, column in numbers.items()}
    return result


def added_columns(
    kind: Kind,
    name: str,
    line: Mapping[str, Any],
    head: Head,
    measures: Sequence[RiskMeasure] = (),
    *,
    several_models: bool = False,
) -> dict[str, Any]:
    """Columns that one model's scores add to a row.

    ============  ===========================================================================
    pairs         ``reward_output_chosen``, ``reward_output_rejected``: K raw floats each
    responses     ``reward_outputs_{name}``: K raw floats per response
    texts         ``reward_output``: K raw floats
    ============  ===========================================================================

    With several models the name is appended to the columns of pairs and texts too. Where a text
    has no reward its value is null, and the column's name + ``_reason`` says why. With risk
    measures ``rewards_…`` columns hold their values by name.

    Args:
        kind: What the row is.
        name: The model's name.
        line: The row's line of the record: ``raw``, and ``reasons`` where there are some.
        head: The model's head.
        measures: Risk measures to add.
        several_models: Whether other models score the same rows.

    Returns:
        The new columns.
    """
    raw, reasons = line["raw"], line.get("reasons")
    risks = risk_values(head, raw, measures)
    columns: dict[str, Any] = {}
    if kind == "responses":
        columns[f"reward_outputs_{name}"] = raw
        if reasons:
            columns[f"reward_outputs_{name}_reason"] = reasons
        if measures:
            columns[f"rewards_{name}"] = risks
        return columns
    tail = f"_{name}" if several_models else ""
    sides = [f"_{side}" for side in _SIDES] if kind == "pair" else [""]
    for index, side in enumerate(sides):
        columns[f"reward_output{side}{tail}"] = raw[index]
        if reasons and reasons[index]:
            columns[f"reward_output{side}{tail}_reason"] = reasons[index]
        if measures:
            columns[f"rewards{side}{tail}"] = risks[index]
    return columns
