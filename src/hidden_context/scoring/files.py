"""Scoring a file of pairs, prompts with responses, or texts."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from hidden_context import risk
from hidden_context.data.responses import ScoringRow, read_scoring_rows
from hidden_context.data.storage.files import require_file, write_yaml_config
from hidden_context.data.storage.locks import exclusive
from hidden_context.errors import DataError
from hidden_context.models.network.threads import cpu_threads
from hidden_context.models.reward_model import RewardModel
from hidden_context.scoring.config import ScoreConfig
from hidden_context.scoring.loading import load_model, settle
from hidden_context.scoring.merge import ScoreCounts, check_output, record_path, write_scores
from hidden_context.scoring.people import check_people, read_groups
from hidden_context.scoring.record import describe_file, read_header
from hidden_context.scoring.remote import is_remote, local_files
from hidden_context.scoring.stream import Runner, run_here


@dataclasses.dataclass
class ScoreResult:
    """Result of scoring a file.

    Attributes:
        path: The file written.
        counts: Counts of rows and texts.
        address: Where the file was put on remote storage; then it is no longer at the path.
    """

    path: Path
    counts: ScoreCounts
    address: str | None = None

    @property
    def place(self) -> str:
        """Where the file is, for people."""
        return self.address or str(self.path)


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
    with local_files(config) as here:
        return _score(here, config)


def _score(config: ScoreConfig, named: ScoreConfig) -> ScoreResult:
    """Score a file of this machine; ``named`` has the paths as they were given."""
    measures = [risk.parse(name) for name in config.risk]
    groups = None if config.groups is None else read_groups(config.groups)
    source, output = require_file(config.input), Path(config.output)
    if config.engine_cluster is not None:
        source = source.resolve()  # it is read by another process, in another folder
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
    records = [record_path(output, name) for name in config.model_names if config.resume]
    config, threads = settle(config, records, here=config.engine_cluster is None)
    with exclusive(output), cpu_threads(threads), _runners(config, records) as models:
        counts = write_scores(
            partial(_unchanged, source, state, read),
            models,
            output,
            config,
            {"kind": config.kind, "prompt_from_first_human": config.prompt_from_first_human},
            total=total,
            measures=measures,
            annotator=config.annotator,
            groups=groups,
        )
        used = dataclasses.replace(config, input=named.input, output=named.output)
        write_yaml_config(output.with_name(output.name + ".config.yaml"), used)
    return ScoreResult(output, counts, named.output if is_remote(named.output) else None)


def _unchanged(
    source: Path, state: list[str | int], read: Callable[[], Iterable[ScoringRow]]
) -> Iterable[ScoringRow]:
    """Read the rows of a file again; the file must not have changed."""
    if describe_file(require_file(source)) != state:
        raise DataError(
            "it was changed while its rows were scored", file=source, remedy="Run it again"
        )
    return read()


def _loader(checkpoint: str, config: ScoreConfig) -> Callable[[], RewardModel]:
    if config.backend == "vllm":
        from hidden_context.scoring.vllm_backend import load_with_vllm

        return partial(load_with_vllm, checkpoint, config)
    return partial(load_model, checkpoint, config)


@contextlib.contextmanager
def _runners(config: ScoreConfig, records: Iterable[Path]) -> Iterator[dict[str, Runner]]:
    """Prepare the models by name: in this process, or on a cluster inside the block."""
    models = zip(config.model_names, config.models, strict=True)
    if config.engine_cluster is None:
        yield {name: partial(run_here, _loader(path, config), path) for name, path in models}
        return
    from hidden_context.scoring.cluster.run import local_path, run_on_ray
    from hidden_context.scoring.cluster.session import ray_session

    there = dataclasses.replace(
        config,
        base_model=config.base_model and local_path(config.base_model),
        tokenizer_name=config.tokenizer_name and local_path(config.tokenizer_name),
    )
    begun = next(filter(None, map(read_header, records)), {})
    threads = config.threads or begun.get("threads") or 1  # other numbers would round differently
    with ray_session(config, threads) as pool:
        yield {
            name: partial(run_on_ray, _loader(local_path(path), there), local_path(path), pool)
            for name, path in models
        }
