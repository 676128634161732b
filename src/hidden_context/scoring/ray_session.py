"""A session on a Ray cluster: one that runs already, or one of this machine for a while."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any, Final

from hidden_context.errors import (
    ConfigError,
    HiddenContextError,
    MissingDependencyError,
    in_one_line,
)
from hidden_context.scoring.cluster_options import Pool, cores_to_start, pool_of
from hidden_context.scoring.config import ScoreConfig

# All that is kept there is windows of rows, a few at a time; Ray would take a third of the memory.
_OBJECT_STORE_BYTES: Final = 512 << 20
# Ray waits half a minute for its own processes, which is too little for a busy machine.
_ATTEMPTS: Final = 3
_RESUMES: Final = "What was scored is kept; the same command goes on from there."


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
    """Be connected to a cluster inside the block.

    A cluster that this process is connected to already is used and left as it is; else that of
    ``cluster_address`` or ``RAY_ADDRESS``, and without either one is started on this machine, whose
    processes end with this one, however it ends.

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
        if _is_users(ray, error):  # a mistake of this package: its trace is wanted whole
            raise
        raise HiddenContextError(f"the cluster failed: {in_one_line(error)} {_RESUMES}") from error
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
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what it says is for its developers
    options |= {"num_cpus": cores_to_start(config, threads), "include_dashboard": False}
    failures: list[str] = []
    while not _started(ray, options, failures):
        if len(failures) == _ATTEMPTS:
            raise HiddenContextError(
                f"Ray did not start on this machine: {failures[-1]} Try again when it is less "
                "busy, or leave out --engine_cluster."
            )


def _started(ray: Any, options: dict[str, Any], failures: list[str]) -> bool:
    """Try to start a cluster on this machine; what went wrong is added to the failures."""
    import psutil

    this = psutil.Process()
    others = set(this.children(recursive=True))
    try:
        ray.init(address="local", object_store_memory=_OBJECT_STORE_BYTES, **options)
    except Exception as error:  # Ray raises just that where a machine is too busy
        ray.shutdown()
        for left in set(this.children(recursive=True)) - others:  # which Ray forgets
            with contextlib.suppress(psutil.Error):
                left.kill()
        failures.append(in_one_line(error))
        return False
    return True


def _is_users(ray: Any, error: BaseException) -> bool:
    """Tell whether code that Ray ran failed, rather than Ray."""
    return isinstance(error, (ray.exceptions.RayTaskError, ray.exceptions.UserCodeException))
