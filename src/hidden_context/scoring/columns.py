"""The people whose rewards are measured, and the columns that scoring adds to a row."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hidden_context.data.importers.pairs import SIDES
from hidden_context.data.responses import Kind
from hidden_context.data.storage.files import read_json, require_file
from hidden_context.distributions import RewardDistribution
from hidden_context.errors import ConfigError, DataError, HiddenContextWarning
from hidden_context.heads import Head
from hidden_context.likelihood import Likelihood, check_groups, group_values, worst_group
from hidden_context.likelihood.labels import UNKNOWN
from hidden_context.risk import RiskMeasure
from hidden_context.scoring.config import WORST_GROUP, ScoreConfig
from hidden_context.scoring.loading import read_likelihood

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
    """Read raw outputs as the rewards of one annotator or of the population.

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
    if not places:
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
    """Return the columns that one model's scores add to a row.

    ============  ===========================================================================
    pairs         ``reward_output_chosen``, ``reward_output_rejected``: K raw floats each
    responses     ``reward_outputs_{name}``: K raw floats per response
    texts         ``reward_output``: K raw floats
    ============  ===========================================================================

    With several models, the model's name is appended to the columns of pairs and texts too. The
    value of a text without a reward is null, and the column's name + ``_reason`` says why. Risk
    measures add ``rewards_…`` columns, which hold the values by the measure's name. Groups of
    annotators add ``rewards_groups_…`` columns, which hold each group's values by the measure's
    name.

    Args:
        kind: What the row is.
        name: The model's name.
        line: The row's line of the record: ``raw``, and ``reasons`` where there are some.
        people: Whose rewards the risk measures describe, and how raw outputs are read.
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
    if kind == "responses":  # all responses share a cell
        stem, cells = "reward_outputs", [(f"_{name}", raw, reasons, risks)]
    else:
        stem, tail = "reward_output", f"_{name}" if several_models else ""
        ends = [f"_{side}{tail}" for side in SIDES] if kind == "pair" else [tail]
        cells = [
            (end, raw[n], reasons and reasons[n], {column: own[n] for column, own in risks.items()})
            for n, end in enumerate(ends)
        ]
    columns: dict[str, Any] = {}
    for end, value, reason, own in cells:
        columns[f"{stem}{end}"] = value
        if reason:
            columns[f"{stem}{end}_reason"] = reason
        columns |= {f"{column}{end}": each for column, each in own.items()}
    return columns


def read_groups(path: str | Path) -> dict[str, list[str]]:
    """Read groups of annotators from a JSON file, ``{"group": ["annotator", …], …}``.

    Returns:
        Annotators' names by group.

    Raises:
        MissingFileError: If the file does not exist.
        DataError: If it holds something else, or no group, naming file and group.
    """
    content: Any = read_json(require_file(path))
    example = 'Write {"group": ["annotator", "another"], …}'
    if not isinstance(content, dict) or not content:
        raise DataError("a JSON object of groups is needed", file=path, remedy=example)
    for group, members in content.items():
        if group == WORST_GROUP:
            problem = "this name is reserved for the group with the lowest value"
        elif not isinstance(members, list) or not members:
            problem = "a list of at least one annotator is needed"
        elif any(isinstance(m, bool) or not isinstance(m, (str, int)) for m in members):
            problem = "an annotator is a name or a number"
        else:
            continue
        raise DataError(problem, file=path, field=group, remedy=example)
    return {group: [str(member) for member in members] for group, members in content.items()}


def check_people(
    config: ScoreConfig, kind: Kind, measures: Sequence[RiskMeasure], groups: Groups | None
) -> None:
    """Check that every model can give the risk measures for the requested annotators.

    This reads heads and annotators, but loads no network. It warns if a model does not know the
    annotator, who then has the population's rewards.

    Args:
        config: The options.
        kind: What the rows are.
        measures: The risk measures.
        groups: The groups of annotators, or None.

    Raises:
        ConfigError: If a relative measure meets single texts or a head without shared context, or
            a model does not know the annotators.
        MissingFileError: If a checkpoint is not there.
        CheckpointError: If a checkpoint's files are damaged.
    """
    relative = next((str(measure) for measure in measures if measure.is_relative), None)
    if relative and kind == "text":
        raise ConfigError(
            f"--risk {relative} compares the candidates of a prompt, but {config.input} holds "
            "single texts. Score prompts with responses, or pairs, or leave out this measure."
        )
    if not relative and config.annotator is None and groups is None:
        return
    for checkpoint in config.models:
        likelihood = read_likelihood(checkpoint, config)
        if relative:
            check_context(likelihood.head, checkpoint, relative)
        if config.annotator is not None:
            _check_annotator(likelihood, checkpoint, config.annotator)
        if groups is not None:
            try:
                check_groups(likelihood, groups)
            except ConfigError as error:
                raise ConfigError(f"--groups {config.groups}, {checkpoint}: {error}") from error


def check_context(head: Head, name: str, measure: str) -> None:
    """Check that a relative risk measure is defined for a model's head.

    Raises:
        ConfigError: If it is not.
    """
    if not head.has_context:
        raise ConfigError(
            f"{measure} needs a head that models the shared hidden context of a prompt's "
            "responses: a factor head or an ensemble of factor heads; "
            f"{name} has a {head.member.type} head."
        )


def _check_annotator(likelihood: Likelihood, checkpoint: str, annotator: str) -> None:
    if not likelihood.knows_tastes:
        known = "no annotators"
        if likelihood.knows_annotators:
            known = "how annotators answer, but not what each of them prefers"
        raise ConfigError(
            f"--annotator {annotator}: {checkpoint} knows {known}; train a factor head with "
            "--annotators on data that names its annotators, or leave out --annotator."
        )
    if likelihood.names.index(annotator) == UNKNOWN:
        warnings.warn(
            f"{checkpoint} does not know the annotator {annotator}; the risk measures are of the "
            "population's rewards.",
            HiddenContextWarning,
            stacklevel=2,
        )
