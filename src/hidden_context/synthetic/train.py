"""Training of one network of the synthetic experiments."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hidden_context.errors import DivergedError
from hidden_context.synthetic.arithmetic import Precision, arithmetic, resolve_precision
from hidden_context.synthetic.config import SyntheticConfig
from hidden_context.synthetic.networks import Learner, make_learner
from hidden_context.worlds.grids import Environment

FINAL_LR = 1e-5
CHECK_EVERY = 50


@dataclass(frozen=True)
class Trained:
    """A trained learner and how it got there.

    Attributes:
        learner: The learner, in evaluation mode.
        losses: Mean negative log-likelihood of every step, ``(num_iterations,)``, in nats.
        seconds: Wall time of the training loop.
        precision: How the hidden layers computed, see ``arithmetic.resolve_precision``.
    """

    learner: Learner
    losses: Tensor
    seconds: float
    precision: Precision


def decay_per_step(lr: float, num_iterations: int) -> float:
    """The factor by which the learning rate shrinks each step to end at 1e-5.

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

    All learners of one seed see the same comparisons, so that they differ by their likelihood
    only. With the same number of threads and the same precision a seed gives the same weights to
    the bit.

    Args:
        name: The learner, one of ``networks.LEARNERS``.
        environment: Draws the comparisons.
        config: Batch size, learning rate, number of steps, seed, likelihood, width, precision.
        on_step: Called now and then with the number of steps done since the last call.

    Returns:
        The trained learner and its losses.

    Raises:
        DivergedError: If a loss is not finite; names the step.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        learner = make_learner(name, environment, config.width, config.likelihood)
    precision = resolve_precision(config.precision, config.width, name)
    learner.network.arithmetic = arithmetic(precision)
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
            _check_finite(losses[checked : step + 1], checked, name, config.lr)
            on_step(step + 1 - checked)
            checked = step + 1
    seconds = time.perf_counter() - started
    return Trained(learner.eval(), losses, seconds, precision)


def _check_finite(losses: Tensor, first_step: int, name: str, lr: float) -> None:
    bad = (~losses.isfinite()).nonzero()
    if len(bad):
        step = first_step + int(bad[0])
        raise DivergedError(
            f"The loss of the {name} network is {losses[int(bad[0])].item()} at step {step + 1}. "
            f"Try a smaller learning rate than {lr}."
        )
