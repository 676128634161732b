"""The synthetic experiments from training to figures."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hidden_context import worlds
from hidden_context.data.storage.files import atomic_write, write_json, write_yaml_config
from hidden_context.data.storage.locks import exclusive_folder
from hidden_context.models.network.threads import cpu_threads
from hidden_context.progress import stage
from hidden_context.synthetic.agreement import Agreement, rank_agreements
from hidden_context.synthetic.config import SyntheticConfig
from hidden_context.synthetic.curves import Curves, evaluate
from hidden_context.synthetic.networks import LEARNERS
from hidden_context.synthetic.train import Trained, train
from hidden_context.worlds.grids import Environment


@dataclass(frozen=True)
class SyntheticResult:
    """What a run found.

    Attributes:
        config: The configuration it ran with.
        curves: Exact and learned curves.
        agreements: Rank agreements by curve, see ``rank_agreements``.
        final_losses: Mean training loss over the last tenth of the steps by network, in nats.
        seconds: Wall time of training by network.
        precision: That of the hidden layers in training by network: float32, folded, mixed or
            bfloat16.
        files: Every file written.
    """

    config: SyntheticConfig
    curves: Curves
    agreements: dict[str, Agreement]
    final_losses: dict[str, float]
    seconds: dict[str, float]
    precision: dict[str, str]
    files: list[Path]


def run(config: SyntheticConfig) -> SyntheticResult:
    """Train the four networks, compare what they learned with the exact curves, draw the figure.

    Writes ``{env}.png`` and the other figure formats, ``results.json``, ``curves.npz``,
    ``losses.npz`` and ``config.yaml`` into ``config.folder``.

    Args:
        config: What to train on and where to write.

    Returns:
        Curves, agreements, losses and the files written.

    Raises:
        DivergedError: If a loss is not finite.
        StorageError: If the folder cannot be written to.
    """
    with exclusive_folder(config.folder):
        return _run(config)


def _run(config: SyntheticConfig) -> SyntheticResult:
    environment = worlds.make(config.env)
    # Before the training, so that a folder that cannot be written to costs no time.
    write_yaml_config(config.folder / "config.yaml", config)
    with cpu_threads(config.num_threads):
        trained = _train_all(environment, config)
        learners = {name: result.learner for name, result in trained.items()}
        curves = evaluate(environment, learners)
    tenth = max(1, config.num_iterations // 10)
    result = SyntheticResult(
        config=config,
        curves=curves,
        agreements=rank_agreements(curves),
        final_losses={name: float(t.losses[-tenth:].mean()) for name, t in trained.items()},
        seconds={name: t.seconds for name, t in trained.items()},
        precision={name: t.precision for name, t in trained.items()},
        files=[],
    )
    losses = {name: t.losses.numpy() for name, t in trained.items()}
    return _write(result, losses)


def _train_all(environment: Environment, config: SyntheticConfig) -> dict[str, Trained]:
    trained = {}
    for name in LEARNERS:
        with stage(name, config.num_iterations) as advance:
            trained[name] = train(name, environment, config, advance)
    return trained


def _write(result: SyntheticResult, losses: dict[str, Any]) -> SyntheticResult:
    from hidden_context.synthetic.figures import draw

    folder = result.config.folder
    result.curves.save(folder / "curves.npz")
    with atomic_write(folder / "losses.npz", "wb") as file:
        np.savez_compressed(file, **losses)
    write_json(
        folder / "results.json",
        {
            "config": asdict(result.config),
            "rank_agreement": {name: asdict(a) for name, a in result.agreements.items()},
            "final_loss": result.final_losses,
            "seconds": result.seconds,
            "precision": result.precision,
        },
    )
    names = ("config.yaml", "results.json", "curves.npz", "losses.npz")
    result.files.extend(folder / name for name in names)
    result.files.extend(draw(result.curves, folder, result.config.figure_formats))
    return result
