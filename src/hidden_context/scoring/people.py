"""Checks of the annotators and groups whose rewards are asked for, before anything is scored."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hidden_context.data.responses import Kind
from hidden_context.data.storage.files import read_json, require_file
from hidden_context.errors import ConfigError, DataError, HiddenContextWarning
from hidden_context.heads import Head
from hidden_context.likelihood import Likelihood, check_groups
from hidden_context.likelihood.labels import UNKNOWN
from hidden_context.risk import RiskMeasure
from hidden_context.scoring.columns import Groups
from hidden_context.scoring.config import WORST_GROUP, ScoreConfig
from hidden_context.scoring.loading import read_likelihood


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
            problem = "this name stands for the group that fares worst"
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
    """Check that every model can give the risk measures, for the annotators asked for.

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
            "single texts; score prompts with responses, or pairs, or leave it out."
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
            f"{measure} needs a head that knows what the responses to a prompt have in common: "
            f"factor, or an ensemble of factor heads; {name} has a {head.member.type} head."
        )


def _check_annotator(likelihood: Likelihood, checkpoint: str, annotator: str) -> None:
    if not likelihood.knows_tastes:
        known = "no annotators"
        if likelihood.knows_annotators:
            known = "how annotators answer, but not what each of them prefers"
        raise ConfigError(
            f"--annotator {annotator}: {checkpoint} knows {known}; train a factor head with "
            "--annotators on data that name them, or leave it out."
        )
    if likelihood.names.index(annotator) == UNKNOWN:
        warnings.warn(
            f"{checkpoint} does not know the annotator {annotator}; the risk measures are of the "
            "population's rewards.",
            HiddenContextWarning,
            stacklevel=2,
        )
