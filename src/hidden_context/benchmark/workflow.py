"""Running a benchmark: rows scored by every model, then metrics by risk measure."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from hidden_context import risk
from hidden_context.analysis.read.heads import saved_likelihood
from hidden_context.benchmark.benchmarks import Benchmark, make
from hidden_context.benchmark.config import BenchmarkConfig
from hidden_context.benchmark.metrics import (
    BenchmarkResult,
    ModelResult,
    measure_result,
    read_scored,
    spreads,
)
from hidden_context.data.checks import Place
from hidden_context.data.responses import ScoringRow
from hidden_context.data.storage.files import require_file, write_json, write_yaml_config
from hidden_context.data.storage.locks import exclusive
from hidden_context.data.storage.rows import iter_rows, require_row
from hidden_context.data.tokens.chat import install_chat_template
from hidden_context.errors import DataError, HiddenContextWarning
from hidden_context.models.reward_model import RewardModel
from hidden_context.models.sequence import SequenceRewardModel
from hidden_context.scoring.columns import check_people
from hidden_context.scoring.files import check_output, write_scores
from hidden_context.scoring.loading import load_model
from hidden_context.scoring.stream import run_here

DIALOGUE: Final = (
    "{% for m in messages %}{{ '\n\nHuman: ' if m['role'] == 'user' else '\n\nAssistant: ' }}"
    "{{ m['content'] }}{% endfor %}"
)
"""Template for a tokenizer without one: chats are written like the dialogues of HH-RLHF."""


def run(config: BenchmarkConfig) -> BenchmarkResult:
    """Score a benchmark's rows with every model, and compute its metrics.

    Args:
        config: The options.

    Returns:
        The metrics, which are written to ``config.output`` too. Raw outputs and scores lie beside
        it, and what was finished of them is not done again after an interruption.

    Raises:
        MissingFileError: If the file or a checkpoint is not there.
        DataError: If a row is malformed, or no row has a score for every answer.
        CheckpointError: If a checkpoint cannot be loaded.
        ConfigError: If the benchmark or a risk measure is unknown or does not fit the models.
        StorageError: If a file could not be written, or another process is writing it.
    """
    benchmark, scoring = make(config.benchmark), config.scoring()
    source, output = require_file(config.input), Path(config.output)
    for path in (output, config.scores_path):
        check_output(path, source)
    measures = [risk.parse(name) for name in config.risk]
    rows = partial(_rows, benchmark, source)
    total = sum(1 for _ in rows())
    check_people(scoring, benchmark.kind, measures, None)
    models = dict(zip(scoring.model_names, config.models, strict=True))
    runs = {
        name: partial(run_here, partial(_load, checkpoint, config), checkpoint)
        for name, checkpoint in models.items()
    }
    path, kept = config.scores_path, {"benchmark": benchmark.name}
    with exclusive(output):
        counts = write_scores(rows, runs, path, scoring, kept, total=total, measures=measures)
        results = [_model_result(benchmark, config, *model) for model in models.items()]
        facts = benchmark.name, benchmark.title, str(source), total, counts.truncated
        result = BenchmarkResult(*facts, path, results)
        write_json(output, result.to_dict())
        write_yaml_config(output.with_name(output.name + ".config.yaml"), config)
    return result


def _rows(benchmark: Benchmark, source: Path) -> Iterator[ScoringRow]:
    """Read a benchmark's file.

    Raises:
        DataError: If a row is malformed, or there is none.
    """
    number = -1
    for number, (line, row) in enumerate(iter_rows(source)):
        yield benchmark.scoring_row(number, line, require_row(row), Place(source, line))
    if number < 0:
        raise DataError("the file holds no rows", file=source)


def _load(checkpoint: str, config: BenchmarkConfig) -> RewardModel:
    """Load a model, and give its tokenizer a chat template if it has none."""
    model = load_model(checkpoint, config)
    if not isinstance(model, SequenceRewardModel):
        return model  # it reads the text of a dialogue
    template = config.chat_template
    if template is None and not getattr(model.tokenizer, "chat_template", None):
        template = DIALOGUE
        warnings.warn(
            f"the tokenizer of {checkpoint} has no chat template: prompts and responses are "
            "written as Human: and Assistant: turns. Give another template with --chat_template.",
            HiddenContextWarning,
            stacklevel=2,
        )
    install_chat_template(model.tokenizer, template)
    return model


def _model_result(
    benchmark: Benchmark, config: BenchmarkConfig, name: str, checkpoint: str
) -> ModelResult:
    """Compute one model's metrics from the file of scores."""
    path = config.scores_path
    rows = [*read_scored(path, benchmark, name, several_models=len(config.models) > 1)]
    likelihood = saved_likelihood(path, name)
    assert likelihood is not None  # scoring keeps it
    left_out = sum(not row.is_complete for row in rows)
    unscored = [text for row in rows for text in row.unscored]
    measures = {
        str(measure): measure_result(benchmark, rows, str(measure), str(path), config.seed)
        for measure in map(risk.parse, config.risk)
    }
    facts = name, checkpoint, likelihood.head.to_dict(), left_out, unscored
    return ModelResult(*facts, measures, spreads(benchmark, rows, likelihood))
