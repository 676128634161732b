"""What it costs to train and to score on very many comparisons, on paper.

    python benchmarks/scale/cost.py --output scale.json

A corpus is drawn by the lengths of the real pairs, and laid out in passes by the package's own
code (``scale/tokens.py``); tokens become FLOPs, bytes, seconds, memory and a price
(``scale/hardware.py``). The rate of the one command that reads and writes is measured here
(``scale/driver.py``). What is assumed stands in the options. Two minutes on one free core.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kit import names, script_parser
from scale import hardware, tokens
from scale.driver import driver_rate
from scale.hardware import ADAM, H100, SINGLE, Cluster, Shape, Tuning, fits, shape_of
from throughput.report import print_plain

from hidden_context.data.storage.files import write_json

TUNINGS: tuple[Tuning, ...] = ("lora", "full")
BUDGET = 8192  # most tokens of a forward pass
SHOWN = ("model", "job", "shard", "corpus", "way", "tokens", "gpu_hours", "price", "bottleneck")
Record = dict[str, Any]
Amounts = list[tuple[str, str, str, dict[str, tokens.Estimate]]]
"""Task, corpus, way, and estimates for each comparison."""


def options_of(argv: Sequence[str] | None) -> Namespace:
    """Read the options, and refuse what cannot be simulated."""
    made = script_parser(__doc__)
    add = made.add_argument
    add("--comparisons", type=float, default=1e9)
    add("--model", type=names, default="llama-8b,llama-70b", help="models, with commas")
    add("--responses", type=int, default=4, help="responses of a ranking, 3 or more")
    add("--gpus", type=int, default=64)
    add("--mfu", type=float, default=0.4, help="share of the data sheet's rate that is reached")
    add("--price", type=float, default=2.5, help="price of a GPU-hour")
    add("--comparisons_per_gpu", type=int, default=256, help="comparisons in an optimiser step")
    add("--steps", type=int, default=1, help="optimiser steps drawn for each corpus")
    add("--corpora", type=int, default=4, help="independent corpora, for the standard error")
    add("--driver_rows", type=int, default=4096, help="rows on which the command is measured")
    add("--output", type=Path, help="JSON file of all numbers")
    options = made.parse_args(argv)
    try:
        options.shapes = [shape_of(name) for name in options.model]
    except KeyError as error:
        made.error(f"--model: {error.args[0]} is not known; take tiny-llama, llama-8b or llama-70b")
    if options.responses < 3:
        made.error("--responses: a ranking has 3 or more responses; pairs are simulated anyway")
    counts = (options.gpus, options.comparisons, options.comparisons_per_gpu)
    if min(*counts, options.corpora, options.steps) < 1:
        made.error("GPUs, comparisons, corpora and steps are at least 1")
    options.cluster = Cluster(H100, options.gpus, options.mfu, options.gpus)
    return options


def simulate_all(options: Namespace) -> Amounts:
    """Estimates for each comparison, by task, corpus and way; of many GPUs 64 are simulated."""
    pairs = tokens.Plan(
        processes=min(options.gpus, 64),
        comparisons=options.comparisons_per_gpu,
        budget=BUDGET,
        steps=options.steps,
        corpora=options.corpora,
    )
    rankings = dataclasses.replace(pairs, responses=options.responses)
    corpora = (("pairs", tokens.OF_PAIRS, pairs), ("rankings", tokens.WAYS, rankings))
    return [
        (task, corpus, way, found)
        for task, (corpus, ways, plan) in product(("scoring", "training"), corpora)
        for way, found in tokens.simulate(task, ways, plan).items()
    ]


def checkpointing(shape: Shape, tuning: Tuning, shard: int) -> bool:
    """Whether passes of the budget fit only if activations are computed again."""
    return not fits(shape, H100, BUDGET, shard, tuning, False)


def shards(shape: Shape, gpus: int, tuning: Tuning) -> list[int]:
    """How weights are divided: a copy on each GPU where one fits, else over all of them.

    Where it has to be all, the GPUs of a machine come beside it, if a copy fits there.
    """
    numbers = (1, H100.in_machine, gpus)
    able = [n for n in numbers if n <= gpus and fits(shape, H100, BUDGET, n, tuning, True)]
    return [1] if 1 in able else sorted({*able, gpus}, reverse=True)


def cost_of(
    options: Namespace, shape: Shape, job: Any, shard: int | None, way: str, amount: tokens.Amount
) -> Record:
    """What a job costs in one way: ``scoring``, or training with ``lora`` or ``full``."""
    cluster, shares, again = options.cluster, way in ("tree", "tree of pairs"), False
    if shard is None:
        times = hardware.scoring_times(shape, amount, cluster, shares)
        flops = shape.cost(shares).scoring(int(amount.tokens), int(amount.context))
    else:
        again = checkpointing(shape, job, shard)
        divided = dataclasses.replace(cluster, shard=shard)
        times = hardware.training_times(shape, amount, divided, job, again, shares)
        flops = hardware.training_flops(shape.cost(shares and not again), amount, job, again)
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


def costs(options: Namespace, amounts: Amounts) -> list[Record]:
    """A record for every model, job, division of the weights, corpus and way."""
    found = []
    for shape in options.shapes:
        trainings = [(tuning, n) for tuning in TUNINGS for n in shards(shape, options.gpus, tuning)]
        jobs: list[Any] = [("scoring", None), *trainings]
        for (job, shard), (task, corpus, way, estimates) in product(jobs, amounts):
            if (task == "scoring") == (job == "scoring"):
                mean = tokens.Amount(*(value.mean for value in estimates.values()))
                amount = mean.times(options.comparisons)
                about = {"model": shape.name, "job": job, "shard": shard, "corpus": corpus}
                record = cost_of(options, shape, job, shard, way, amount)
                error = {"tokens_error": estimates["tokens"].error * options.comparisons}
                found.append({**about, "way": way, **record, **error})
    return found


def around(options: Namespace) -> list[Record]:
    """What one command reads and writes in scoring, beside the GPUs' time."""
    found = []
    for corpus, responses in (("pairs", 2), ("rankings", options.responses)):
        driver = driver_rate(options.driver_rows, responses)
        rows = options.comparisons / tokens.comparisons_in(responses)
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


def memory(options: Namespace) -> list[Record]:
    """Memory, fewest GPUs, tokens at which gathering is hidden, and sizes of checkpoints."""
    found = []
    for shape, tuning in product(options.shapes, TUNINGS):
        for shard in shards(shape, options.gpus, tuning):
            again = checkpointing(shape, tuning, shard)
            used = hardware.training_memory(shape, BUDGET, shard, tuning, again)
            divided = dataclasses.replace(options.cluster, shard=shard)
            trained = shape.trained(tuning)
            found.append(
                {
                    "model": shape.name,
                    "tuning": tuning,
                    "shard": shard,
                    "checkpointing": again,
                    **{f"{name}_GB": value / 1e9 for name, value in used._asdict().items()},
                    "total_GB": sum(used) / 1e9,
                    "fewest_gpus": hardware.fewest_gpus(shape, H100, BUDGET, tuning),
                    "gpus_to_score": hardware.gpus_of_a_copy(shape, H100),
                    "break_even_tokens": hardware.break_even(shape, divided, tuning, again),
                    "saved_weights_GB": SINGLE * trained / 1e9,
                    "saved_state_GB": (SINGLE + ADAM) * trained / 1e9,
                }
            )
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Simulate, print the tables and write all numbers."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    options = options_of(argv)
    amounts = simulate_all(options)
    seeds = range(options.corpora)
    result: Record = {
        "options": {
            name: str(value)
            for name, value in vars(options).items()
            if name not in ("shapes", "cluster")
        },
        "unique_share": [tokens.unique_share(tokens.draw_groups(4000, 2, seed)) for seed in seeds],
        "amounts": [
            {
                **dict(zip(("task", "corpus", "way"), labels, strict=True)),
                **{name: value.mean for name, value in found.items()},
                **{f"{name}_error": value.error for name, value in found.items()},
            }
            for *labels, found in amounts
        ],
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
