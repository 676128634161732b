"""Connecting to a Ray cluster, or starting one, and choosing the workers that fit into it."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Final

from hidden_context.errors import (
    ConfigError,
    HiddenContextError,
    HiddenContextWarning,
    MissingDependencyError,
    in_one_line,
)
from hidden_context.models.network.threads import usable_cpus
from hidden_context.scoring.config import ScoreConfig

# The object store holds only a few windows of rows; Ray would take a third of the memory.
_OBJECT_STORE_BYTES: Final = 512 << 20
# Ray waits half a minute for its own processes, which is too little for a busy machine.
_ATTEMPTS: Final = 3


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
            f"--device {config.device} names one GPU, but the cluster gives each worker its own; "
            "take --device cuda."
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
