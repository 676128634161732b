"""Scoring a file of pairs, prompts with responses, or texts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from hidden_context import risk
from hidden_context.data.files import require_file, write_yaml_config
from hidden_context.data.locks import exclusive
from hidden_context.data.responses import ScoringRow, read_scoring_rows
from hidden_context.errors import DataError
from hidden_context.scoring.config import ScoreConfig
from hidden_context.scoring.identity import describe_file
from hidden_context.scoring.loading import load_model
from hidden_context.scoring.merge import LazyModel, ScoreCounts, check_output, write_scores
from hidden_context.scoring.people import check_people, read_groups


@dataclasses.dataclass
class ScoreResult:
    """What a scoring gave.

    Attributes:
        path: The file written.
        counts: What became of rows and texts.
    """

    path: Path
    counts: ScoreCounts


def score_file(config: ScoreConfig) -> ScoreResult:
    """Score every row of a file with one or several checkpoints.

    Args:
        config: The options.

    Returns:
        The file written, and counts.

    Raises:
        MissingFileError: If the input, the file of groups or a checkpoint is not there.
        DataError: If a row or a group is malformed.
        CheckpointError: If a checkpoint cannot be loaded.
        ConfigError: If a risk measure is unknown or does not fit rows or models, a model does not
            know the annotators asked for, or the output is the input.
        StorageError: If the output could not be written, or another process is writing it.
    """
    measures = [risk.parse(name) for name in config.risk]
    groups = None if config.groups is None else read_groups(config.groups)
    source, output = require_file(config.input), Path(config.output)
    check_output(output, source, *filter(None, [config.groups]))
    read = partial(
        read_scoring_rows,
        source,
        config.kind,
        prompt_from_first_human=config.prompt_from_first_human,
    )
    state = describe_file(source)
    for row in read():  # finds broken lines first too
        total, kind = row.index + 1, row.kind
    check_people(config, kind, measures, groups)
    models = {
        name: LazyModel(partial(load_model, checkpoint, config), checkpoint)
        for name, checkpoint in zip(config.model_names, config.models, strict=True)
    }

    def rows() -> Iterable[ScoringRow]:
        if describe_file(require_file(source)) != state:
            raise DataError(
                "it was changed while its rows were scored", file=source, remedy="Run it again"
            )
        return read()

    with exclusive(output):
        counts = write_scores(
            rows,
            models,
            output,
            config,
            over_length=config.over_length,
            description={
                "kind": config.kind,
                "prompt_from_first_human": config.prompt_from_first_human,
            },
            total=total,
            measures=measures,
            annotator=config.annotator,
            groups=groups,
        )
        write_yaml_config(output.with_name(output.name + ".config.yaml"), config)
    return ScoreResult(output, counts)
