"""What it costs to train and to score on very many comparisons, on paper.

    python benchmarks/scale/cost.py --output scale.json

A corpus is drawn by the lengths of the real pairs, and laid out in passes by the package's own
code (``scale/tokens.py``); tokens become FLOPs, bytes, seconds, memory and a price
(``scale/hardware.py``). The rate of the one command that reads and writes is measured here
(``scale/driver.py``). What is assumed stands in the options. Two minutes on one free core.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kit import script_parser
from scale.driver import driver_rate
from scale.hardware import (
    ADAM,
    DEVICES,
    SINGLE,
    Cluster,
    Shape,
    Tuning,
    break_even,
    fewest_gpus,
    fits,
    gpus_of_a_copy,
    scoring_times,
    shape_of,
    training_flops,
    training_memory,
    training_times,
)
from scale.tokens import (
    OF_PAIRS,
    WAYS,
    Amount,
    Estimate,
    Plan,
    comparisons_in,
    draw_groups,
    simulate,
    unique_share,
)
from throughput.report import print_plain

from hidden_context.data.storage.files import write_json

CORPORA = ("pairs", "rankings")
TUNINGS: tuple[Tuning, ...] = ("lora", "full")
SHOWN = ("model", "job", "shard", "corpus", "way", "tokens", "gpu_hours", "price", "bottleneck")
Record = dict[str, Any]


def options_of(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the options, and refuse what cannot be simulated."""
    made = script_parser(__doc__)
    add = made.add_argument
    add("--comparisons", type=float, default=1e9)
    add("--model", default="llama-8b,llama-70b", help="some of tiny-llama,llama-8b,llama-70b")
    add("--responses", type=int, default=4, help="responses of a ranking, 3 or more")
    add("--gpus", type=int, default=64)
    add("--device", choices=["h100", "h200"], default="h100")
    add("--mfu", type=float, default=0.4, help="share of the data sheet's rate that is reached")
    add("--price", type=float, default=2.5, help="price of a GPU-hour")
    add("--tokens_per_batch", type=int, default=8192, help="most tokens of a forward pass")
    add("--comparisons_per_gpu", type=int, default=256, help="of an optimiser step")
    add("--steps", type=int, default=1, help="optimiser steps drawn for each corpus")
    add("--corpora", type=int, default=4, help="independent corpora, for the standard error")
    add("--driver_rows", type=int, default=4096, help="rows by which the command is measured")
    add("--seed", type=int, default=0)
    add("--output", type=Path, help="JSON file of all numbers")
    options = made.parse_args(argv)
    try:
        options.shapes = [shape_of(name) for name in options.model.split(",")]
    except KeyError as error:
        made.error(f"--model: {error.args[0]} is not known; take tiny-llama, llama-8b or llama-70b")
    if options.responses < 3:
        made.error("--responses: a ranking has 3 or more; pairs are there anyway")
    counts = (options.gpus, options.comparisons, options.comparisons_per_gpu)
    if min(*counts, options.corpora, options.steps) < 1:
        made.error("GPUs, comparisons, corpora and steps are at least 1")
    options.cluster = Cluster(DEVICES[options.device], options.gpus, options.mfu, options.gpus)
    return options


def simulate_all(options: argparse.Namespace) -> dict[str, dict[str, dict[str, Any]]]:
    """Estimates for each comparison, by task, corpus and way; of many GPUs 64 are simulated."""
    pairs = Plan(
        processes=min(options.gpus, 64),
        comparisons=options.comparisons_per_gpu,
        budget=options.tokens_per_batch,
        steps=options.steps,
        corpora=options.corpora,
        seed=options.seed,
    )
    rankings = dataclasses.replace(pairs, responses=options.responses)
    return {
        task: {
            "pairs": simulate(task, OF_PAIRS, pairs),
            "rankings": simulate(task, WAYS, rankings),
        }
        for task in ("scoring", "training")
    }


def checkpointing(shape: Shape, options: argparse.Namespace, tuning: Tuning, shard: int) -> bool:
    """Whether passes of the budget fit only if activations are computed again."""
    device = DEVICES[options.device]
    return not fits(shape, device, options.tokens_per_batch, shard, tuning, False)


def shards(shape: Shape, options: argparse.Namespace, tuning: Tuning) -> list[int]:
    """How weights are divided: a copy on each GPU where one fits, else over all of them.

    Where it has to be all, the GPUs of a machine come beside it, if a copy fits there.
    """
    device, gpus = DEVICES[options.device], options.gpus
    able = [
        n
        for n in (1, device.in_machine, gpus)
        if n <= gpus and fits(shape, device, options.tokens_per_batch, n, tuning, True)
    ]
    return [1] if 1 in able else sorted({*able, gpus}, reverse=True)


def cost_of(
    options: argparse.Namespace, shape: Shape, job: Any, shard: int, way: str, amount: Amount
) -> Record:
    """What a job costs in one way: ``scoring``, or training with ``lora`` or ``full``."""
    cluster = dataclasses.replace(options.cluster, shard=shard)
    shares, again = way in ("tree", "tree of pairs"), False
    if job == "scoring":
        times = scoring_times(shape, amount, cluster, shares)
        flops = shape.cost(shares).scoring(int(amount.tokens), int(amount.context))
    else:
        again = checkpointing(shape, options, job, shard)
        times = training_times(shape, amount, cluster, job, again, shares)
        flops = training_flops(shape.cost(shares and not again), amount, job, again)
    seconds, bottleneck = times.slowest
    hours = seconds * cluster.gpus / 3600
    return {
        "tokens": amount.tokens,
        "passes_per_gpu": amount.passes / cluster.gpus,
        "tokens_per_pass": amount.tokens / amount.passes,
        "flops": flops,
        "checkpointing": again,
        **times._asdict(),
        "seconds": seconds,
        "bottleneck": bottleneck,
        "gpu_hours": hours,
        "price": hours * options.price,
    }


def costs(options: argparse.Namespace, amounts: Any) -> list[Record]:
    """A record for every model, job, division of the weights, corpus and way."""
    found = []
    for shape in options.shapes:
        jobs: list[tuple[Any, int]] = [("scoring", 1)]
        jobs += [(tuning, n) for tuning in TUNINGS for n in shards(shape, options, tuning)]
        for job, shard in jobs:
            ways = amounts["scoring" if job == "scoring" else "training"]
            for corpus in CORPORA:
                for way, estimates in ways[corpus].items():
                    mean = Amount(**{name: value.mean for name, value in estimates.items()})
                    amount = mean.times(options.comparisons)
                    names = {
                        "model": shape.name,
                        "job": job,
                        "shard": None if job == "scoring" else shard,
                    }
                    record = cost_of(options, shape, job, shard, way, amount)
                    error = estimates["tokens"].error * options.comparisons
                    found.append(
                        {**names, "corpus": corpus, "way": way, **record, "tokens_error": error}
                    )
    return found


def around(options: argparse.Namespace) -> list[Record]:
    """What one command reads and writes in scoring, beside the GPUs' time."""
    found = []
    for corpus, responses in zip(CORPORA, (2, options.responses), strict=True):
        driver = driver_rate(options.driver_rows, responses)
        rows = options.comparisons / comparisons_in(responses)
        found.append(
            {
                "corpus": corpus,
                "rows": rows,
                "command_rows_per_second": driver["rows_per_second"],
                "command_hours": rows / driver["rows_per_second"] / 3600,
                "input_bytes": rows * driver["input_bytes"],
                "output_bytes": rows * driver["output_bytes"],
            }
        )
    return found


def memory(options: argparse.Namespace) -> list[Record]:
    """Memory, fewest GPUs, tokens at which gathering is hidden, and sizes of checkpoints."""
    cluster, budget, found = options.cluster, options.tokens_per_batch, []
    for shape in options.shapes:
        for tuning, shard in ((t, n) for t in TUNINGS for n in shards(shape, options, t)):
            again = checkpointing(shape, options, tuning, shard)
            used = training_memory(shape, budget, shard, tuning, again)
            divided = dataclasses.replace(cluster, shard=shard)
            trained = shape.trained(tuning)
            found.append(
                {
                    "model": shape.name,
                    "tuning": tuning,
                    "shard": shard,
                    "checkpointing": again,
                    **{f"{name}_GB": value / 1e9 for name, value in used._asdict().items()},
                    "total_GB": sum(used) / 1e9,
                    "fewest_gpus": fewest_gpus(shape, cluster.device, budget, tuning),
                    "gpus_to_score": gpus_of_a_copy(shape, cluster.device),
                    "break_even_tokens": break_even(shape, divided, tuning, again),
                    "saved_weights_GB": SINGLE * trained / 1e9,
                    "saved_state_GB": (SINGLE + ADAM) * trained / 1e9,
                }
            )
    return found


def amounts_record(amounts: Any) -> list[Record]:
    """Estimates for each comparison, as they go into the file."""

    def columns(found: dict[str, Estimate]) -> Record:
        means = {name: value.mean for name, value in found.items()}
        return means | {f"{name}_error": value.error for name, value in found.items()}

    return [
        {"task": task, "corpus": corpus, "way": way, **columns(found)}
        for task, corpora in amounts.items()
        for corpus, ways in corpora.items()
        for way, found in ways.items()
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Simulate, print the tables and write all numbers."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    options = options_of(argv)
    amounts = simulate_all(options)
    seeds = range(options.seed, options.seed + options.corpora)
    result: Record = {
        "options": {
            name: str(value)
            for name, value in vars(options).items()
            if name not in ("shapes", "cluster")
        },
        "unique_share": [unique_share(draw_groups(4000, 2, seed)) for seed in seeds],
        "amounts": amounts_record(amounts),
        "costs": costs(options, amounts),
        "around": around(options),
        "memory": memory(options),
    }
    shown = ("task", "corpus", "way", "tokens", "tokens_error", "context", "slowest_step")
    print_plain("for each comparison", [{n: row[n] for n in shown} for row in result["amounts"]])
    print_plain("the whole run", [{name: row[name] for name in SHOWN} for row in result["costs"]])
    print_plain("around the GPUs, in scoring", result["around"])
    print_plain("memory of a GPU in training", result["memory"])
    if options.output:
        write_json(options.output, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
