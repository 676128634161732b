"""Scoring on a Ray cluster, found or started here: windows go out, scores come back in order.

The unit of work is a window, as in one process, so that the same texts are run together and the
record beside the output holds the same bytes. Ray Data reads a few windows ahead of the workers,
and runs a window again if its worker was lost. Only this process writes the record. The scores of a
window are either in the record or nowhere, so that no row can be lost or doubled.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from hidden_context.data.responses import ScoringRow
from hidden_context.errors import (
    ConfigError,
    HiddenContextError,
    HiddenContextWarning,
    MissingDependencyError,
    in_one_line,
)
from hidden_context.models.network.threads import usable_cpus
from hidden_context.models.reward_model import RewardModel
from hidden_context.scoring.cluster.worker import (
    Answer,
    LoadedModel,
    ScoredWindow,
    pack,
    read_windows,
    unpack,
)
from hidden_context.scoring.config import ScoreConfig, StreamOptions
from hidden_context.scoring.record import PartialScores
from hidden_context.scoring.stream import Progress, Rows, Running, recheck

T = TypeVar("T")

# The object store holds only a few windows of rows; Ray would take a third of the memory.
_OBJECT_STORE_BYTES: Final = 512 << 20
# Ray waits half a minute for its own processes, which is too little for a busy machine.
_ATTEMPTS: Final = 3
# Windows that wait at each worker, beside the one that it scores: enough to hide the transfer.
_AHEAD: Final = 3
# How often the first worker may be lost; Ray Data restarts the others.
_RESTARTS: Final = 3


def import_ray() -> Any:
    """Import Ray and Ray Data.

    Raises:
        MissingDependencyError: If they are not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
        import ray.data.exceptions
    except ImportError as error:
        raise MissingDependencyError(
            f"--engine_cluster ray needs Ray Data ({error}); install it with "
            "`pip install 'hidden-context[ray]'`."
        ) from error
    return ray


@contextlib.contextmanager
def ray_session(config: ScoreConfig, threads: int) -> Iterator[Pool]:
    """Connect to a cluster inside the block.

    An existing connection of this process is used and left open. Otherwise the cluster is the one
    at ``cluster_address`` or ``RAY_ADDRESS``. Without an address, a cluster is started on this
    machine; its processes end with this process, however it ends.

    Args:
        config: The options.
        threads: Threads of each worker.

    Yields:
        The workers to take.

    Raises:
        MissingDependencyError: If Ray is not installed.
        ConfigError: If there is no cluster at the address.
        HiddenContextError: If the cluster, or a worker again and again, fails.
    """
    ray = import_ray()
    ours = not ray.is_initialized()
    if ours:
        _connect(ray, config, threads)
    try:
        yield pool_of(config, threads, ray.cluster_resources())
    except (ray.exceptions.RayError, ray.data.exceptions.ExecutionTimeoutError) as error:
        if isinstance(error, (ray.exceptions.RayTaskError, ray.exceptions.UserCodeException)):
            raise  # a mistake of this package, not of Ray: the whole trace is needed
        raise HiddenContextError(
            f"the cluster failed: {in_one_line(error)} What was scored is kept; the same command "
            "goes on from there."
        ) from error
    finally:
        if ours:
            ray.shutdown()


def _connect(ray: Any, config: ScoreConfig, threads: int) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    address = config.cluster_address or os.environ.get("RAY_ADDRESS")
    if address:
        try:
            ray.init(address=address, **options)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ConfigError(
                f"there is no Ray cluster at {address}: {in_one_line(error)} Check "
                "--cluster_address, or leave it out to start a cluster on this machine."
            ) from error
        return
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its log is for Ray's developers
    cores = config.workers * threads if config.workers else max(usable_cpus(), threads)
    options |= {"num_cpus": cores, "include_dashboard": False}
    import psutil

    this = psutil.Process()
    others = set(this.children(recursive=True))
    for attempt in range(_ATTEMPTS):
        try:
            ray.init(address="local", object_store_memory=_OBJECT_STORE_BYTES, **options)
            return
        except Exception as error:  # noqa: PERF203 - Ray raises just that
            ray.shutdown()
            for left in set(this.children(recursive=True)) - others:  # Ray forgets them
                with contextlib.suppress(psutil.Error):
                    left.kill()
            if attempt == _ATTEMPTS - 1:
                raise HiddenContextError(
                    f"Ray did not start on this machine: {in_one_line(error)} Try again when it is "
                    "less busy, or leave out --engine_cluster."
                ) from error


@dataclasses.dataclass(frozen=True)
class Pool:
    """Workers that each hold the model.

    Attributes:
        workers: How many.
        threads: Threads, and so CPU cores, of each.
        gpus: GPUs of each.
    """

    workers: int
    threads: int
    gpus: float

    @property
    def resources(self) -> dict[str, float]:
        """Resources that the cluster reserves for each worker."""
        return {"num_cpus": self.threads, "num_gpus": self.gpus}


def pool_of(config: ScoreConfig, threads: int, resources: Mapping[str, float]) -> Pool:
    """Choose workers that fit into a cluster.

    Args:
        config: The options; ``workers`` unset takes as many as have room.
        threads: Threads of each worker.
        resources: What the cluster has now, ``CPU`` and ``GPU``.

    Returns:
        The pool.

    Raises:
        ConfigError: If the device names one GPU of several, which the cluster deals out.
    """
    if config.device.startswith("cuda:"):
        raise ConfigError(
            f"--device {config.device} names one GPU, but the cluster assigns a GPU to each "
            "worker; use --device cuda."
        )
    cpus, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
    each = config.worker_gpus
    if each is None:
        on_gpu = config.device == "cuda" or (config.device == "auto" and gpus >= 1)
        each = 1.0 if on_gpu else 0.0
    room = math.floor(cpus / threads)
    if each:
        room = min(room, math.floor(gpus / each + 1e-9))
    if room < (config.workers or 1):
        warnings.warn(
            f"the cluster has room for {room} workers of {threads} cores and {each:g} GPUs (it has "
            f"{cpus:g} cores, {gpus:g} GPUs); the other workers wait until machines join it.",
            HiddenContextWarning,
            stacklevel=3,
        )
    return Pool(config.workers or max(room, 1), threads, each)


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
    left = recheck(rows, record, partial(_digest, ray, scout), progress)
    if next(left, None) is None:
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
            f"the workers compute in different places: {' on '.join(reversed(scored.place))}, and "
            f"{' on '.join(reversed(place))}. Set --precision and --device."
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
