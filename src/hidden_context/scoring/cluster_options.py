"""How many workers a cluster gives to a scoring, and what each of them holds."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Mapping

from hidden_context.errors import ConfigError, HiddenContextWarning
from hidden_context.models.threads import usable_cpus
from hidden_context.scoring.config import ScoreConfig


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
        """What the cluster is to reserve for each worker."""
        return {"num_cpus": self.threads, "num_gpus": self.gpus}


def cores_to_start(config: ScoreConfig, threads: int) -> int:
    """Return how many cores a cluster on this machine gets: as many as its workers take."""
    return config.workers * threads if config.workers else max(usable_cpus(), threads)


def pool_of(config: ScoreConfig, threads: int, resources: Mapping[str, float]) -> Pool:
    """Choose workers that fit into a cluster.

    Args:
        config: The options; ``workers`` unset takes as many as have room.
        threads: Threads of each worker.
        resources: What the cluster has by now, ``CPU`` and ``GPU``.

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
            f"the cluster has room for {room} workers of {threads} cores and "
            f"{each:g} GPUs (it has {cpus:g} cores, {gpus:g} GPUs); the others wait for machines "
            "that join it.",
            HiddenContextWarning,
            stacklevel=3,
        )
    return Pool(config.workers or max(room, 1), threads, each)
