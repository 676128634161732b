"""The synthetic experiments from training to figures and tables."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hidden_context import worlds
from hidden_context.data.storage.files import atomic_write, write_json, write_yaml_config
from hidden_context.data.storage.locks import exclusive_folder
from hidden_context.errors import DivergedError
from hidden_context.models.network.threads import cpu_threads
from hidden_context.progress import stage
from hidden_context.synthetic.arithmetic import ARITHMETIC, Precision, resolve_precision
from hidden_context.synthetic.config import SyntheticConfig
from hidden_context.synthetic.curves import Agreement, Curves, evaluate, rank_agreements
from hidden_context.synthetic.networks import LEARNERS, Learner, make_learner
from hidden_context.terminal import make_table, number
from hidden_context.worlds.grids import Environment

if TYPE_CHECKING:
    from rich.console import Console

FINAL_LR = 1e-5
CHECK_EVERY = 50
LABELS = {
    "exact_borda_count": "exact Borda count",
    "base": "base",
    "mean_and_stddev": "DPL, mean & σ",
    "categorical": "DPL, categorical",
    "classifier": "pair classifier",
}


@dataclass(frozen=True)
class Trained:
    """A trained learner with its losses, time and precision.

    Attributes:
        learner: The learner, in evaluation mode.
        losses: Mean negative log-likelihood of every step, ``(num_iterations,)``, in nats.
        seconds: Wall time of the training loop.
        precision: The precision of the hidden layers, see ``arithmetic.resolve_precision``.
    """

    learner: Learner
    losses: Tensor
    seconds: float
    precision: Precision


def decay_per_step(lr: float, num_iterations: int) -> float:
    """Return the factor by which the learning rate shrinks per step to end at 1e-5.

    A rate that starts at or below 1e-5 stays as it is.

    >>> decay_per_step(0.1, 4)
    0.1
    """
    return float((min(FINAL_LR, lr) / lr) ** (1 / num_iterations))


def train(
    name: str,
    environment: Environment,
    config: SyntheticConfig,
    on_step: Callable[[int], object] = lambda steps: None,
) -> Trained:
    """Train one learner on freshly drawn comparisons.

    All learners of one seed see the same comparisons, so they differ only in their likelihood. With
    the same number of threads and the same precision, a seed gives the same weights to the bit.

    Args:
        name: The learner, one of ``networks.LEARNERS``.
        environment: Draws the comparisons.
        config: Batch size, learning rate, number of steps, seed, likelihood, width, precision.
        on_step: Called now and then with the number of steps done since the last call.

    Returns:
        The trained learner and its losses.

    Raises:
        DivergedError: If a loss is not finite; the message names the step.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        learner = make_learner(name, environment, config.width, config.likelihood)
    precision = resolve_precision(config.precision, config.width, name)
    learner.network.arithmetic = ARITHMETIC.get(precision)
    generator = torch.Generator().manual_seed(config.seed)
    optimizer = torch.optim.Adam(learner.parameters(), lr=config.lr, fused=True)
    schedule = torch.optim.lr_scheduler.ExponentialLR(
        optimizer, decay_per_step(config.lr, config.num_iterations)
    )
    losses = torch.empty(config.num_iterations)
    checked, started = 0, time.perf_counter()
    for step in range(config.num_iterations):
        pairs = environment.sample_pairs(config.batch_size, generator)
        loss = -learner.log_prob_preferred(*pairs).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        losses[step] = loss.detach()
        if step + 1 - checked == CHECK_EVERY or step + 1 == config.num_iterations:
            bad = (~losses[: step + 1].isfinite()).nonzero()
            if len(bad):
                at = int(bad[0])
                raise DivergedError(
                    f"The loss of the {name} network is {losses[at].item()} at step {at + 1}. "
                    f"Try a smaller learning rate than {config.lr}."
                )
            on_step(step + 1 - checked)
            checked = step + 1
    return Trained(learner.eval(), losses, time.perf_counter() - started, precision)


@dataclass(frozen=True)
class SyntheticResult:
    """The result of a run.

    Attributes:
        config: The configuration of the run.
        curves: Exact and learned curves.
        agreements: Rank agreements by curve, see ``rank_agreements``.
        final_losses: Mean training loss over the last tenth of the steps by network, in nats.
        seconds: Wall time of training by network.
        precision: Precision of the hidden layers in training by network: float32, folded, mixed or
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
    """Train the four networks, compare their curves with the exact curves, and draw the figure.

    Writes ``{env}.png`` and the other figure formats, ``results.json``, ``curves.npz``,
    ``losses.npz`` and ``config.yaml`` into ``config.folder``.

    Args:
        config: The options of the run.

    Returns:
        Curves, agreements, losses and the files written.

    Raises:
        DivergedError: If a loss is not finite.
        StorageError: If the folder cannot be written to.
    """
    with exclusive_folder(config.folder):
        return _run(config)


def _run(config: SyntheticConfig) -> SyntheticResult:
    from hidden_context.synthetic.figures import draw

    environment, folder = worlds.make(config.env), config.folder
    # Before the training, so that an unwritable folder costs no time.
    write_yaml_config(folder / "config.yaml", config)
    trained = {}
    with cpu_threads(config.num_threads):
        for name in LEARNERS:
            with stage(name, config.num_iterations) as advance:
                trained[name] = train(name, environment, config, advance)
        curves = evaluate(environment, {name: each.learner for name, each in trained.items()})
    tenth = max(1, config.num_iterations // 10)
    result = SyntheticResult(
        config=config,
        curves=curves,
        agreements=rank_agreements(curves),
        final_losses={name: float(t.losses[-tenth:].mean()) for name, t in trained.items()},
        seconds={name: t.seconds for name, t in trained.items()},
        precision={name: t.precision for name, t in trained.items()},
        files=[
            folder / name for name in ("config.yaml", "results.json", "curves.npz", "losses.npz")
        ],
    )
    curves.save(folder / "curves.npz")
    losses: dict[str, Any] = {name: t.losses.numpy() for name, t in trained.items()}
    with atomic_write(folder / "losses.npz", "wb") as file:
        np.savez_compressed(file, **losses)
    content = {
        "config": asdict(config),
        "rank_agreement": {name: asdict(a) for name, a in result.agreements.items()},
        "final_loss": result.final_losses,
        "seconds": result.seconds,
        "precision": result.precision,
    }
    write_json(folder / "results.json", content)
    result.files.extend(draw(curves, folder, config.figure_formats))
    return result


def print_summary(result: SyntheticResult, console: Console | None = None) -> None:
    """Print rank agreements, losses and the paths of the files.

    Args:
        result: The result of the run.
        console: The console to print to; standard output by default.
    """
    from rich.console import Console

    console = console or Console()
    off_jump = result.config.env == "1d"
    columns = ["Borda", "utility"] + (["Borda*", "utility*"] if off_jump else [])
    title = "Spearman rank agreement of what was learned with"
    table = make_table(title, ["network"], [*columns, "loss", "s"])
    for name, agreement in result.agreements.items():
        loss, seconds = result.final_losses.get(name), result.seconds.get(name)
        values = astuple(agreement)[: len(columns)]
        cells = [*map(number, values), number(loss, 4), number(seconds, 1)]
        table.add_row(LABELS[name], *cells, end_section=name == "exact_borda_count")
    console.print(table)
    note = (
        "Borda: Borda count; utility: expected utility\n"
        "loss: mean over the last tenth of the steps, in nats; s: seconds of training"
    )
    if off_jump:
        note += "\n*: without the alternatives within 0.02 of the jump at 0.8"
    console.print(note, style="dim", highlight=False)
    console.print(f"figures and curves: {result.config.folder}", soft_wrap=True, highlight=False)
