"""Time the training of the synthetic networks against the same arithmetic written the plain way.

    python benchmarks/synthetic_reference.py --batch_size 2048 --num_iterations 50 --rounds 5

Rounds are interleaved, the order of the two sides alternates, and medians are compared, so that
other load on the machine falls on both alike.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from hidden_context.synthetic.config import SyntheticConfig
from hidden_context.synthetic.environments import Environment, make_environment
from hidden_context.synthetic.networks import LEARNERS, RewardLearner, make_learner
from hidden_context.synthetic.train import FINAL_LR, cpu_threads, train


def plain_loss(learner: nn.Module, first: Tensor, second: Tensor, prefer_second: Tensor) -> Tensor:
    """Two forward passes per step, one per side; both answers evaluated, then selected."""
    if not isinstance(learner, RewardLearner):
        return -learner.log_prob_preferred(first, second, prefer_second).mean()
    raw_first, raw_second = learner.network(first), learner.network(second)
    forwards, backwards = (
        learner.compare(raw_first, raw_second),
        learner.compare(raw_second, raw_first),
    )
    return -torch.where(prefer_second, backwards, forwards).mean()


def plain_training(name: str, environment: Environment, config: SyntheticConfig) -> list[float]:
    """Train the way one would write it down first."""
    torch.manual_seed(config.seed)
    learner = make_learner(name, environment, config.width, config.likelihood)
    generator = torch.Generator().manual_seed(config.seed)
    optimizer = torch.optim.Adam(learner.parameters(), lr=config.lr)
    gamma = (FINAL_LR / config.lr) ** (1 / config.num_iterations)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma)
    losses = []
    for _ in range(config.num_iterations):
        first, second, prefer_second = environment.sample_pairs(config.batch_size, generator)
        loss = plain_loss(learner, first, second, prefer_second)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


def seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def measure(name: str, config: SyntheticConfig, rounds: int) -> dict[str, float]:
    """Median seconds per step of both, and the median of the rounds' ratios."""
    environment = make_environment(config.env)
    sides = {
        "ours": lambda: train(name, environment, config),
        "plain": lambda: plain_training(name, environment, config),
    }
    times: dict[str, list[float]] = {side: [] for side in sides}
    for round_number in range(-1, rounds):
        order = list(sides) if round_number % 2 else list(reversed(sides))
        for side in order:
            elapsed = seconds(sides[side])
            if round_number >= 0:  # the first round warms up
                times[side].append(elapsed / config.num_iterations)
    ratios = [plain / ours for plain, ours in zip(times["plain"], times["ours"], strict=True)]
    return {
        "ours_seconds_per_step": statistics.median(times["ours"]),
        "plain_seconds_per_step": statistics.median(times["plain"]),
        "speed_up": statistics.median(ratios),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", default="1d", choices=("1d", "2d"))
    parser.add_argument("--batch_size", type=int, default=2048)
    parser.add_argument("--num_iterations", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--num_threads", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON file for the numbers")
    arguments = parser.parse_args()
    config = SyntheticConfig(
        env=arguments.env,
        batch_size=arguments.batch_size,
        lr=1e-3,
        num_iterations=arguments.num_iterations,
        width=arguments.width,
        likelihood="logistic",
        num_threads=arguments.num_threads,
    )
    results = {}
    with cpu_threads(config.num_threads):
        print(
            f"{torch.get_num_threads()} threads, batch of {config.batch_size} pairs, {config.env}"
        )
        print(f"{'network':<16} {'ours, ms':>10} {'plain, ms':>10} {'speed-up':>9}")
        for name in LEARNERS:
            result = results[name] = measure(name, config, arguments.rounds)
            print(
                f"{name:<16} {1e3 * result['ours_seconds_per_step']:>10.2f} "
                f"{1e3 * result['plain_seconds_per_step']:>10.2f} {result['speed_up']:>8.2f}x"
            )
    if arguments.output:
        document = {"config": dataclasses.asdict(config), "results": results}
        arguments.output.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
