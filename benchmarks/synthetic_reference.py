"""Time the training of the synthetic networks against the same arithmetic written the plain way.

    python benchmarks/synthetic_reference.py --batch_size 2048 --num_iterations 50 --rounds 5

Ours is timed with its hidden layers in float32 and in bfloat16, the plain loop is float32. Rounds
are interleaved, their order alternates, and medians are compared, so that other load on the machine
falls on all alike.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from hidden_context.models.threads import cpu_threads
from hidden_context.synthetic.config import SyntheticConfig
from hidden_context.synthetic.environments import Environment, make_environment
from hidden_context.synthetic.mixed_precision import resolve_precision
from hidden_context.synthetic.networks import LEARNERS, RewardLearner, make_learner
from hidden_context.synthetic.train import FINAL_LR, train


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
    """Median seconds per step of all, and medians of the rounds' ratios to the plain loop."""
    environment = make_environment(config.env)

    def ours(precision: Literal["float32", "bfloat16"]) -> Callable[[], object]:
        return lambda: train(name, environment, dataclasses.replace(config, precision=precision))

    sides = {
        "plain": lambda: plain_training(name, environment, config),
        "float32": ours("float32"),
        "bfloat16": ours("bfloat16"),
    }
    times: dict[str, list[float]] = {side: [] for side in sides}
    for round_number in range(-1, rounds):
        order = list(sides) if round_number % 2 else list(reversed(sides))
        for side in order:
            elapsed = seconds(sides[side])
            if round_number >= 0:  # the first round warms up
                times[side].append(elapsed / config.num_iterations)
    result = {f"{side}_seconds_per_step": statistics.median(times[side]) for side in sides}
    for side in ("float32", "bfloat16"):
        ratios = [plain / own for plain, own in zip(times["plain"], times[side], strict=True)]
        result[f"{side}_speed_up"] = statistics.median(ratios)
    return result


def whole_speed_up(results: dict[str, dict[str, float]], config: SyntheticConfig) -> float:
    """Ratio of the plain loop to ours over all networks, in the precisions that auto picks."""
    ours = sum(
        result[f"{resolve_precision('auto', config.width, name)}_seconds_per_step"]
        for name, result in results.items()
    )
    return sum(result["plain_seconds_per_step"] for result in results.values()) / ours


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
        sides = ("plain", "float32", "bfloat16")
        header = "".join(f"{side + ', ms':>14}" for side in sides)
        print(f"{'network':<16}{header} {'speed-up: float32':>20} {'bfloat16':>9}")
        for name in LEARNERS:
            result = results[name] = measure(name, config, arguments.rounds)
            times = "".join(f"{1e3 * result[f'{side}_seconds_per_step']:>14.2f}" for side in sides)
            print(
                f"{name:<16}{times} {result['float32_speed_up']:>19.2f}x "
                f"{result['bfloat16_speed_up']:>8.2f}x",
                flush=True,
            )
        print(f"all four, each in its default precision: {whole_speed_up(results, config):.2f}x")
    if arguments.output:
        document = {"config": dataclasses.asdict(config), "results": results}
        arguments.output.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
