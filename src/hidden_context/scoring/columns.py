"""The columns that scoring adds to a row."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor

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
    """The people whose rewards are measured.

    Attributes:
        likelihood: How the model's raw outputs are read, and what it learned of its annotators.
        annotator: One annotator; None for the population, whose rewards an unknown annotator has
            too.
        groups: Annotators by group, whose values go into separate columns; None for no groups.
    """

    likelihood: Likelihood
    annotator: str | None = None
    groups: Groups | None = None


def rewards_of_people(raw: Tensor, people: People) -> RewardDistribution:
    """Read raw outputs as the rewards of the people asked for.

    Args:
        raw: Raw outputs of shape ``(n, K)``.
        people: Whose rewards; groups play no part.

    Returns:
        A distribution of batch shape ``(n,)``.

    Raises:
        ConfigError: If an annotator is named and the model has learned none.
    """
    rewards = people.likelihood.head.distribution(raw)
    if people.annotator is None:
        return rewards
    return people.likelihood.rewards_of(rewards, people.annotator)


def group_measure_values(
    rewards: RewardDistribution, measures: Sequence[RiskMeasure], people: People
) -> dict[str, dict[str, Tensor]]:
    """Evaluate risk measures for groups of annotators.

    Args:
        rewards: The population's rewards of the n candidates of a prompt.
        measures: The risk measures.
        people: The groups.

    Returns:
        By measure the value of each group (see ``likelihood.group_values``), and
        ``worst_group``, the least of them, each of shape ``(n,)``.

    Raises:
        ConfigError: If the model does not know the annotators of the groups.
    """
    found = {}
    for measure in measures:
        values = group_values(people.likelihood, rewards, people.groups or {}, measure)
        found[str(measure)] = {**values, WORST_GROUP: worst_group(values)}
    return found


def risk_values(
    raw: Raw, measures: Sequence[RiskMeasure], people: People, *, by_group: bool = False
) -> list[dict[str, Any] | None]:
    """Evaluate risk measures on raw outputs, in reward units; None stays None.

    Args:
        raw: Raw outputs of the texts of a row. The candidates of a relative measure are the texts
            whose raw outputs are not None.
        measures: The risk measures.
        people: Whose rewards are measured.
        by_group: Whether to measure each group instead (see ``group_measure_values``).

    Returns:
        For each text, values by the measures' names: numbers, or numbers by group.
    """
    places = [place for place, value in enumerate(raw) if value is not None]
    result: list[dict[str, Any] | None] = [None] * len(raw)
    if not places or not measures:
        return result
    values = torch.tensor([raw[place] for place in places], dtype=torch.float64)
    found: dict[str, Any]
    if by_group:
        found = group_measure_values(people.likelihood.head.distribution(values), measures, people)
    else:
        rewards = rewards_of_people(values, people)
        found = {str(measure): measure(rewards) for measure in measures}
    for number, place in enumerate(places):
        result[place] = {name: _at(value, number) for name, value in found.items()}
    return result


def _at(value: Any, number: int) -> Any:
    if isinstance(value, dict):
        return {name: _at(each, number) for name, each in value.items()}
    return value[number].item()


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
            risks["rewards_groups"] = risk_values(raw, measures, people, by_group=True)
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
