"""Time the training of the synthetic networks against the same arithmetic written the plain way.

    python benchmarks/synthetic_reference.py --batch_size 2048 --num_iterations 50 --rounds 5

Ours is timed in each of its precisions (see ``arithmetic.resolve_precision``), the plain loop is
float32. Rounds are interleaved, their order alternates, and medians are compared: other load on the
machine then falls on all alike. The clock is the processor time of the process, divided by its
threads, which stands still while other programs run. ``ONEDNN_MAX_CPU_ISA=AVX2`` in the environment
stands for a processor without instructions for bfloat16.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import get_args

import torch
from kit import script_parser
from torch import Tensor

from hidden_context import worlds
from hidden_context.data.storage.files import write_json
from hidden_context.models.network.threads import cpu_threads
from hidden_context.synthetic.arithmetic import Precision, resolve_precision
from hidden_context.synthetic.config import SyntheticConfig
from hidden_context.synthetic.networks import LEARNERS, Learner, RewardLearner, make_learner
from hidden_context.synthetic.workflow import decay_per_step, train
from hidden_context.worlds.grids import Environment


def plain_loss(learner: Learner, first: Tensor, second: Tensor, prefer_second: Tensor) -> Tensor:
    """Two forward passes per step, one per side; both answers evaluated, then selected."""
    if not isinstance(learner, RewardLearner):
        return -learner.log_prob_preferred(first, second, prefer_second).mean()
    raw = learner.network(first), learner.network(second)
    return -torch.where(prefer_second, learner.compare(*raw[::-1]), learner.compare(*raw)).mean()


def plain_training(name: str, environment: Environment, config: SyntheticConfig) -> list[float]:
    """Train the way one would write it down first."""
    torch.manual_seed(config.seed)
    learner = make_learner(name, environment, config.width, config.likelihood)
    generator = torch.Generator().manual_seed(config.seed)
    optimizer = torch.optim.Adam(learner.parameters(), lr=config.lr)
    gamma = decay_per_step(config.lr, config.num_iterations)
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


PRECISIONS: tuple[Precision, ...] = get_args(Precision)
SIDES = ("plain", *PRECISIONS)


def seconds(run: Callable[[], object]) -> float:
    started = time.process_time()
    run()
    return (time.process_time() - started) / torch.get_num_threads()


def measure(name: str, config: SyntheticConfig, rounds: int) -> dict[str, float]:
    """Median seconds per step of all, and medians of the rounds' ratios to the plain loop."""
    environment = worlds.make(config.env)
    sides = {"plain": partial(plain_training, name, environment, config)}
    for precision in PRECISIONS:
        own = dataclasses.replace(config, precision=precision)
        sides[precision] = partial(train, name, environment, own)
    times: dict[str, list[float]] = {side: [] for side in sides}
    for round_number in range(-1, rounds):
        for side in list(sides) if round_number % 2 else list(reversed(sides)):
            elapsed = seconds(sides[side])
            if round_number >= 0:  # the first round warms up
                times[side].append(elapsed / config.num_iterations)
    result = {f"{side}_seconds_per_step": statistics.median(times[side]) for side in sides}
    for side in PRECISIONS:
        ratios = [plain / own for plain, own in zip(times["plain"], times[side], strict=True)]
        result[f"{side}_speed_up"] = statistics.median(ratios)
    return result


def product_rates(config: SyntheticConfig) -> dict[str, float]:
    """Rate of a hidden layer's product by precision, in multiplications and additions a second."""
    rates = {}
    for dtype in (torch.float32, torch.bfloat16):
        inputs = torch.ones(2 * config.batch_size, config.width, dtype=dtype)
        weight = torch.ones(config.width, config.width, dtype=dtype)
        taken = [seconds(lambda: inputs @ weight) for _ in range(10)]  # noqa: B023
        operations = 2 * inputs.numel() * config.width
        rates[str(dtype).removeprefix("torch.")] = operations / statistics.median(taken[2:])
    return rates


def whole_speed_up(results: dict[str, dict[str, float]], chosen: dict[str, Precision]) -> float:
    """Ratio of the plain loop to ours over all networks, each in a precision of its own."""
    ours = sum(results[name][f"{chosen[name]}_seconds_per_step"] for name in results)
    return sum(result["plain_seconds_per_step"] for result in results.values()) / ours


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("--batch_size", type=int, default=2048)
    parser.add_argument("--num_iterations", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--num_threads", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON file for the numbers")
    arguments = parser.parse_args()
    names = ("batch_size", "num_iterations", "num_threads")
    given = {name: getattr(arguments, name) for name in names}
    config = SyntheticConfig(lr=1e-3, likelihood="logistic", **given)
    results, chosen = {}, {}
    with cpu_threads(config.num_threads):
        threads = torch.get_num_threads()
        print(f"{threads} threads, batch of {config.batch_size} pairs, {config.env}")
        rates = product_rates(config)
        print("products: " + ", ".join(f"{n} {r / 1e9:.0f} GFLOP/s" for n, r in rates.items()))
        print(f"{'ms per step':<16}{''.join(f'{side:>10}' for side in SIDES)}   times as fast")
        for name in LEARNERS:
            results[name] = result = measure(name, config, arguments.rounds)
            chosen[name] = resolve_precision("auto", config.width, name)
            times = "".join(f"{1e3 * result[f'{side}_seconds_per_step']:>10.2f}" for side in SIDES)
            ratios = "".join(f"{result[f'{side}_speed_up']:>9.2f}x" for side in PRECISIONS)
            print(f"{name:<16}{times}  {ratios}", flush=True)
        for precision in PRECISIONS:
            ratio = whole_speed_up(results, dict.fromkeys(LEARNERS, precision))
            print(f"all four in {precision}: {ratio:.2f}x")
        print(f"all four by default ({chosen}): {whole_speed_up(results, chosen):.2f}x")
    if arguments.output:
        about = {"config": dataclasses.asdict(config), "products": rates, "default": chosen}
        write_json(arguments.output, {**about, "results": results})


if __name__ == "__main__":
    main()
