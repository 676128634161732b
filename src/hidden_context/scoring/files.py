"""Scoring files of pairs, prompts with responses, or texts, with one or several models."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from hidden_context import risk
from hidden_context.data.responses import ScoringRow, read_scoring_rows
from hidden_context.data.storage.files import require_file, write_yaml_config
from hidden_context.data.storage.locks import exclusive
from hidden_context.data.storage.rows import row_writer
from hidden_context.errors import ConfigError, DataError, StorageError
from hidden_context.likelihood import Likelihood
from hidden_context.models.checkpoint.head_file import forget_heads, save_heads
from hidden_context.models.network.threads import cpu_threads
from hidden_context.models.reward_model import RewardModel
from hidden_context.risk import RiskMeasure
from hidden_context.scoring.columns import People, added_columns, check_people, read_groups
from hidden_context.scoring.config import ScoreConfig, StreamOptions
from hidden_context.scoring.loading import load_model, settle
from hidden_context.scoring.record import PartialScores, describe_file, read_header
from hidden_context.scoring.remote import is_remote, local_files
from hidden_context.scoring.stream import Rows, Runner, run_here

_AGAIN: Final = "Run it again"


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
        """Address or path of the file, for messages."""
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
    """Score a file on this machine; ``named`` has the paths as the user gave them."""
    measures = [risk.parse(name) for name in config.risk]
    groups = None if config.groups is None else read_groups(config.groups)
    source, output = require_file(config.input), Path(config.output)
    if config.engine_cluster is not None:
        source = source.resolve()  # another process reads it from another folder
    check_output(output, source, *filter(None, [config.groups]))
    how: dict[str, Any] = {"kind": config.kind}
    how["prompt_from_first_human"] = config.prompt_from_first_human
    read = partial(read_scoring_rows, source, **how)
    state = describe_file(source)
    for row in read():  # also finds broken lines before any scoring
        total, kind = row.index + 1, row.kind
    check_people(config, kind, measures, groups)
    records = [record_path(output, name) for name in config.model_names if config.resume]
    config, threads = settle(config, records, here=config.engine_cluster is None)
    with exclusive(output), cpu_threads(threads), _runners(config, records) as models:
        rows = partial(_unchanged, source, state, read)
        people = partial(People, annotator=config.annotator, groups=groups)
        counts = write_scores(
            rows, models, output, config, how, total=total, measures=measures, people_of=people
        )
        used = dataclasses.replace(config, input=named.input, output=named.output)
        write_yaml_config(output.with_name(output.name + ".config.yaml"), used)
    return ScoreResult(output, counts, named.output if is_remote(named.output) else None)


def _unchanged(
    source: Path, state: list[str | int], read: Callable[[], Iterable[ScoringRow]]
) -> Iterable[ScoringRow]:
    """Read the rows of a file again; the file must not have changed."""
    if describe_file(require_file(source)) != state:
        raise DataError("it was changed while its rows were scored", file=source, remedy=_AGAIN)
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
    from hidden_context.scoring.cluster.run import local_path, ray_session, run_on_ray

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


@dataclasses.dataclass
class ScoreCounts:
    """Counts of what happened to rows and texts.

    Attributes:
        rows: Rows read.
        written: Rows written.
        dropped: Rows left out because a text has no reward.
        unscored: Texts written with a null reward.
        truncated: Texts whose beginning was cut.
        refused: Texts that the chat template refuses; they are among the dropped or unscored.
    """

    rows: int = 0
    written: int = 0
    dropped: int = 0
    unscored: int = 0
    truncated: int = 0
    refused: int = 0

    def __str__(self) -> str:
        counted = {
            "dropped: a text is too long or empty, or its reward not finite": self.dropped,
            "texts refused by the chat template": self.refused,
            "texts without a reward (see the _reason columns)": self.unscored,
            "texts cut on the left": self.truncated,
        }
        notes = ", ".join(
            f"{count} {words if count > 1 else words.replace('texts', 'text', 1)}"
            for words, count in counted.items()
            if count
        )
        return f"{self.written} of {self.rows} rows written" + (f"; {notes}" if notes else "")


def record_path(output: Path, name: str) -> Path:
    """Return the path of a model's record during scoring; names may hold any character."""
    return output.with_name(f"{output.name}.{quote(name, safe='')}.partial")


def check_output(output: Path, *inputs: str | Path) -> None:
    """Check that the result may be written, before any work is done.

    Raises:
        StorageError: If the output is a folder.
        ConfigError: If it is one of the inputs.
    """
    if output.is_dir():
        raise StorageError(f"{output} is a folder; name a file to write, such as scores.jsonl.")
    if output.exists() and any(Path(i).exists() and output.samefile(i) for i in inputs):
        raise ConfigError(f"{output} is the input too; name another file with --output.")


def write_scores(
    rows: Rows,
    models: Mapping[str, Runner],
    output: Path,
    options: StreamOptions,
    description: Mapping[str, Any],
    *,
    total: int | None = None,
    measures: Sequence[RiskMeasure] = (),
    people_of: Callable[[Likelihood], People] = People,
    allow_empty: bool = True,
) -> ScoreCounts:
    """Score rows with each model in turn and write one file, in input order.

    One model is in memory at a time. Each model leaves two things beside the output: a record to
    resume from, until the output is complete, and its head, by which raw outputs are read.

    Args:
        rows: Gives the rows, from the first one at each call.
        models: The models, by name, and where they run.
        output: The file to write.
        options: How rows are scored, and whether to resume.
        description: How the input is read; part of each record.
        total: Number of rows, for the progress bar.
        measures: Risk measures to add.
        people_of: Whose rewards they measure, given a model's likelihood.
        allow_empty: Whether a file without rows may be written where all were dropped.

    Returns:
        Counts of rows and texts.

    Raises:
        StorageError: If something could not be written; records are kept.
        DataError: If the rows changed meanwhile, or none is left and that is not allowed.
    """
    from tqdm.auto import tqdm

    people: dict[str, People] = {}
    records: dict[str, PartialScores] = {}
    for name, run in models.items():
        with run(options) as model:
            people[name] = people_of(model.likelihood)
            identity = {**description, "name": name, **model.identity}
            record = PartialScores(
                record_path(output, name), identity, options.resume, threads=model.threads
            )
            shown = {"desc": name, "unit": "row", "disable": options.disable_tqdm}
            with record, tqdm(total=total, **shown) as bar:
                model.score(rows, record, bar.update)
        records[name] = record
        del model
    counts = ScoreCounts()
    forget_heads(output)
    with row_writer(output) as write:
        for columns in _merged(rows(), records, people, options, measures, counts):
            write(columns)
        if counts.rows and not counts.written and not allow_empty:
            refused = f" ({counts.refused} refused)" if counts.refused else ""
            raise DataError(
                f"none of {counts.rows} rows is left: all have a text that is too long, empty or "
                f"refused by the chat template{refused}",
                remedy="Raise --max_length, mend the chats, or take --over_length truncate or null",
            )
    save_heads(output, {name: each.likelihood for name, each in people.items()})
    for record in records.values():
        record.path.unlink(missing_ok=True)
    return counts


def _merged(
    rows: Iterable[ScoringRow],
    records: Mapping[str, PartialScores],
    people: Mapping[str, People],
    options: StreamOptions,
    measures: Sequence[RiskMeasure],
    counts: ScoreCounts,
) -> Iterator[dict[str, Any]]:
    lines = {name: iter(record) for name, record in records.items()}
    for row in rows:
        counts.rows += 1
        own = {name: next(line, {}) for name, line in lines.items()}
        if not all(own.values()):
            problem = f"row {counts.rows} was added while the others were scored"
            raise DataError(problem, remedy=_AGAIN)
        if any(line["row"] != row.index for line in own.values()):
            problem = f"the record of row {counts.rows} belongs to another row"
            raise DataError(problem, remedy=f"{_AGAIN} with --resume false")
        counts.truncated += sum(line.get("truncated", 0) for line in own.values())
        counts.refused += sum(line.get("refused", 0) for line in own.values())
        missing = sum(value is None for line in own.values() for value in line["raw"])
        if missing and options.over_length == "drop":
            counts.dropped += 1
            continue
        counts.unscored += missing
        counts.written += 1
        columns = dict(row.columns)
        for name, line in own.items():
            columns |= added_columns(
                row.kind, name, line, people[name], measures, several_models=len(records) > 1
            )
        yield columns
    if any(next(line, None) is not None for line in lines.values()):
        problem = f"the rows after row {counts.rows} were removed while they were scored"
        raise DataError(problem, remedy=_AGAIN)
