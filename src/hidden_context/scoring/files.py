"""Scoring a file of pairs, prompts with responses, or texts."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

from hidden_context import risk
from hidden_context.data.files import require_file, write_yaml_config
from hidden_context.data.responses import read_scoring_rows
from hidden_context.scoring.config import ScoreConfig
from hidden_context.scoring.identity import describe_file, describe_model
from hidden_context.scoring.loading import load_model
from hidden_context.scoring.merge import LazyModel, ScoreCounts, check_output, write_scores


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
        MissingFileError: If the input or a checkpoint is not there.
        DataError: If a row is malformed.
        CheckpointError: If a checkpoint cannot be loaded.
        ConfigError: If a risk measure is unknown, or the output is the input.
        StorageError: If the output could not be written.
    """
    measures = [risk.parse(name) for name in config.risk]
    source, output = require_file(config.input), Path(config.output)
    check_output(output, source)
    read = partial(
        read_scoring_rows,
        source,
        config.kind,
        prompt_from_first_human=config.prompt_from_first_human,
    )
    total = sum(1 for _ in read())  # finds broken lines first too
    models = {
        name: LazyModel(partial(load_model, checkpoint, config), describe_model(checkpoint, config))
        for name, checkpoint in zip(config.model_names, config.models, strict=True)
    }
    counts = write_scores(
        read,
        models,
        output,
        config,
        over_length=config.over_length,
        description={
            "input": describe_file(source),
            "kind": config.kind,
            "prompt_from_first_human": config.prompt_from_first_human,
        },
        total=total,
        measures=measures,
    )
    write_yaml_config(output.with_name(output.name + ".config.yaml"), config)
    return ScoreResult(output, counts)
