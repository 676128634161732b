"""The columns that scoring adds to a row."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch

from hidden_context.data.responses import Kind
from hidden_context.distributions import RewardDistribution
from hidden_context.likelihood import Likelihood, group_values, worst_group
from hidden_context.risk import RiskMeasure
from hidden_context.scoring.config import WORST_GROUP

_SIDES: Final = ("chosen", "rejected")

Raw = Sequence[Sequence[float] | None]
Groups = Mapping[str, Sequence[str]]


@dataclasses.dataclass(frozen=True)
class People:
    """Whose rewards risk columns hold.

    Attributes:
        likelihood: How the model's raw outputs are read, and what it learned of its annotators.
        annotator: Whose rewards they are; None for the population's. An annotator who is not known
            has the population's.
        groups: Annotators by group, whose values go into columns of their own; None for no groups.
    """

    likelihood: Likelihood
    annotator: str | None = None
    groups: Groups | None = None


def _rewards(likelihood: Likelihood, raw: Raw) -> tuple[list[int], RewardDistribution | None]:
    """Places of the texts that have a reward, and their rewards: the candidates of a row."""
    scored = [index for index, value in enumerate(raw) if value is not None]
    if not scored:
        return scored, None
    values = torch.tensor([raw[index] for index in scored], dtype=torch.float64)
    return scored, likelihood.head.distribution(values)


def risk_values(
    raw: Raw, measures: Sequence[RiskMeasure], people: People
) -> list[dict[str, float] | None]:
    """Evaluate risk measures on raw outputs, in reward units; None stays None.

    Args:
        raw: Raw outputs of the texts of a row; a relative measure takes those that are not None
            as the candidates.
        measures: The risk measures.
        people: Whose rewards they are taken of.

    Returns:
        Per text the values by the measures' names.
    """
    result: list[dict[str, float] | None] = [None] * len(raw)
    scored, rewards = _rewards(people.likelihood, raw)
    if rewards is None or not measures:
        return result
    if people.annotator is not None:
        rewards = people.likelihood.rewards_of(rewards, people.annotator)
    numbers = {str(measure): measure(rewards).tolist() for measure in measures}
    for place, index in enumerate(scored):
        result[index] = {name: column[place] for name, column in numbers.items()}
    return result


def group_risk_values(
    raw: Raw, measures: Sequence[RiskMeasure], people: People
) -> list[dict[str, dict[str, float]] | None]:
    """Evaluate risk measures for groups of annotators, in reward units; None stays None.

    Args:
        raw: Raw outputs of the texts of a row (see ``risk_values``).
        measures: The risk measures.
        people: The groups.

    Returns:
        Per text and measure the value of each group (see ``likelihood.group_values``), and
        ``worst_group``, the least of them.
    """
    result: list[dict[str, dict[str, float]] | None] = [None] * len(raw)
    scored, rewards = _rewards(people.likelihood, raw)
    if rewards is None or not measures or people.groups is None:
        return result
    numbers = {}
    for measure in measures:
        values = group_values(people.likelihood, rewards, people.groups, measure)
        values[WORST_GROUP] = worst_group(values)
        numbers[str(measure)] = {group: value.tolist() for group, value in values.items()}
    for place, index in enumerate(scored):
        result[index] = {
            name: {group: column[place] for group, column in by_group.items()}
            for name, by_group in numbers.items()
        }
    return result


def added_columns(
    kind: Kind,
    name: str,
    line: Mapping[str, Any],
    people: People,
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
    measures ``rewards_…`` columns hold their values by name, and with groups of annotators
    ``rewards_groups_…`` columns those of each group by the measure's name.

    Args:
        kind: What the row is.
        name: The model's name.
        line: The row's line of the record: ``raw``, and ``reasons`` where there are some.
        people: Whose rewards the risk measures are taken of, and how raw outputs are read.
        measures: Risk measures to add.
        several_models: Whether other models score the same rows.

    Returns:
        The new columns.
    """
    raw, reasons = line["raw"], line.get("reasons")
    risks: dict[str, Sequence[Any]] = {}
    if measures:
        risks["rewards"] = risk_values(raw, measures, people)
        if people.groups is not None:
            risks["rewards_groups"] = group_risk_values(raw, measures, people)
    columns: dict[str, Any] = {}
    if kind == "responses":
        columns[f"reward_outputs_{name}"] = raw
        if reasons:
            columns[f"reward_outputs_{name}_reason"] = reasons
        for column, values in risks.items():
            columns[f"{column}_{name}"] = values
        return columns
    tail = f"_{name}" if several_models else ""
    sides = [f"_{side}" for side in _SIDES] if kind == "pair" else [""]
    for index, side in enumerate(sides):
        columns[f"reward_output{side}{tail}"] = raw[index]
        if reasons and reasons[index]:
            columns[f"reward_output{side}{tail}_reason"] = reasons[index]
        for column, values in risks.items():
            columns[f"{column}{side}{tail}"] = values[index]
    return columns
