"""Scoring on a Ray cluster: windows of rows go out, their scores come back in order.

The unit of work is a window, as in one process, so that the same texts are run together and the
record beside the output holds the same bytes. Ray Data reads a few windows ahead of the workers,
and runs a window again if its worker was lost. Only this process writes the record. The scores of a
window are either in the record or nowhere, so that no row can be lost or doubled.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from hidden_context.data.responses import ScoringRow
from hidden_context.errors import ConfigError, HiddenContextError, HiddenContextWarning
from hidden_context.models.reward_model import RewardModel
from hidden_context.scoring.cluster.session import Pool, import_ray
from hidden_context.scoring.cluster.worker import (
    Answer,
    LoadedModel,
    ScoredWindow,
    pack,
    read_windows,
    unpack,
)
from hidden_context.scoring.config import StreamOptions
from hidden_context.scoring.record import PartialScores
from hidden_context.scoring.stream import Progress, Rows, Running, recheck

T = TypeVar("T")

# Windows that wait at each worker, beside the one that it scores: enough to hide the transfer.
_AHEAD: Final = 3
# How often the first worker may be lost; Ray Data restarts the others.
_RESTARTS: Final = 3


def local_path(name: str) -> str:
    """Make a local folder's path absolute, so that every worker finds it; hub ids stay."""
    return str(Path(name).expanduser().resolve()) if Path(name).expanduser().exists() else name


@contextlib.contextmanager
def run_on_ray(
    load: Callable[[], RewardModel], checkpoint: str, pool: Pool, options: StreamOptions
) -> Iterator[Running]:
    """Describe the model with one worker; the other workers load it once there are rows to score.

    Args:
        load: Loads the model, on a worker.
        checkpoint: The checkpoint's folder, which every worker can read, or hub id.
        pool: The workers, each with a copy of the model.
        options: How rows are scored.
    """
    ray = import_ray()
    arguments = (load, options, pool.threads)
    lost = {"max_restarts": _RESTARTS, "max_task_retries": _RESTARTS}
    scout = ray.remote(**pool.resources, **lost)(LoadedModel).remote(*arguments)
    try:
        identity, likelihood = _heard(ray.get(scout.describe.remote(checkpoint)), set())
        place = identity["device"], identity["dtype"]
        score = partial(_score, pool, arguments, scout, place)
        yield Running(likelihood, identity, pool.threads, score)
    finally:
        ray.kill(scout)


def _score(
    pool: Pool,
    arguments: tuple[Any, ...],
    scout: Any,
    place: tuple[str, str],
    rows: Rows,
    record: PartialScores,
    progress: Progress,
) -> None:
    """Score the rows that the record lacks (see ``stream.Running``)."""
    ray = import_ray()
    rest = iter(rows())
    again = recheck(rest, record, partial(_digest, ray, scout))
    if record.rows_done:
        progress(record.rows_done)
    if not again and next(rest, None) is None:
        return  # all rows are scored; only the output is missing
    ray.kill(scout)  # a worker of the pool needs its place
    read = partial(read_windows, rows, record.rows_done, arguments[1].window)
    said: set[str] = set()
    for expected, found in enumerate(_scored(ray, read, pool, arguments)):
        scored: ScoredWindow = _heard(found, said)
        _check(scored, expected, place)
        record.append(scored.lines, scored.truncated)
        progress(len(scored.lines))


def _check(scored: ScoredWindow, expected: int, place: tuple[str, str]) -> None:
    """Check that a window is the next one, and was scored in the same place and precision."""
    if scored.number != expected:
        raise HiddenContextError(
            f"the cluster gave window {scored.number} in place of {expected}. Run it again."
        )
    if scored.place != place:
        raise ConfigError(
            f"the workers differ: {' on '.join(reversed(scored.place))} here, "
            f"{' on '.join(reversed(place))} there. Name --precision and --device."
        )


def _digest(ray: Any, scout: Any, rows: Sequence[ScoringRow]) -> str:
    bare = [dataclasses.replace(row, columns={}) for row in rows]
    digest: str = ray.get(scout.digest.remote(bare)).open()
    return digest


def _heard(found: Answer[T], said: set[str]) -> T:
    """Repeat each of a worker's warnings once, and open its answer."""
    for message in found.warnings:
        if message not in said:
            said.add(message)
            warnings.warn(message, HiddenContextWarning, stacklevel=5)
    return found.open()


def _scored(
    ray: Any, read: Callable[[], Iterator[Any]], pool: Pool, arguments: tuple[Any, ...]
) -> Iterator[Answer[ScoredWindow]]:
    """Run windows through the pool, and yield their scores in order."""
    with _settings(ray):
        windows = ray.data.read_datasource(
            _source(ray, read),
            num_cpus=0,  # it only waits; other resources than the workers' keep it apart
            override_num_blocks=1,
        )
        scored = windows.map_batches(
            LoadedModel,
            fn_constructor_args=arguments,
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(
                size=pool.workers, max_tasks_in_flight_per_actor=1 + _AHEAD
            ),
            udf_modifying_row_count=False,
            **pool.resources,
        )
        for table in scored.iter_batches(
            batch_size=None, batch_format="pyarrow", prefetch_batches=0
        ):
            yield from unpack(table)


@contextlib.contextmanager
def _settings(ray: Any) -> Iterator[None]:
    """Let Ray Data keep windows apart and in order, and hide its own progress."""
    context = ray.data.DataContext.get_current().copy()
    context.target_max_block_size = 1  # one window per block
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.memory_usage_poll_interval_s = None  # polling reads all pages of a process each second
    log = logging.getLogger("ray.data")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with ray.data.DataContext.current(context):
            yield
    finally:
        log.setLevel(level)


def _source(ray: Any, read: Callable[[], Iterator[Any]]) -> Any:
    """Make a Ray Data source that reads windows one after another, on this process's machine.

    One reader is enough: it reads a file in order, and faster than models score.
    """
    from ray.data.block import BlockMetadata
    from ray.data.datasource import Datasource, ReadTask

    class Windows(Datasource):  # type: ignore[misc, unused-ignore]
        supports_distributed_reads = False

        def estimate_inmemory_data_size(self) -> int | None:
            return None

        def get_read_tasks(self, parallelism: int, *args: Any, **options: Any) -> list[Any]:
            unknown = BlockMetadata(
                num_rows=None, size_bytes=None, input_files=None, exec_stats=None
            )
            return [ReadTask(lambda: (pack([one]) for one in read()), unknown)]

    return Windows()
