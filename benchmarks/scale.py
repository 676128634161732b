"""What it costs to train and to score on very many comparisons, on paper.

A corpus is drawn by the lengths of the real pairs, and laid out in passes by the package's own
code (``scale_tokens.py``); tokens become FLOPs, bytes, seconds, memory and a price
(``scale_hardware.py``). The rates of the one command that reads and writes are measured here
(``scale_driver.py``), and the predictions are compared with a measurement (``scale_check.py``):

    python benchmarks/scale_measure.py --part scoring,training,rankings,roofline
        --model small,gpt2 --precision float32 --output measured.json
    python benchmarks/scale.py --checked measured.json --output scale.json

Several files of measurements are named with commas. What is assumed stands in the options: GPUs,
utilisation, price. Two minutes on one free core.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scale_hardware import Cluster, Shape, Tuning
    from scale_tokens import Amount, Estimate, Plan

CORPORA = ("pairs", "rankings")
Record = dict[str, Any]


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
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
    add(
        "--checked",
        type=lambda text: [Path(name) for name in text.split(",")],
        help="JSON files of throughput.py to compare predictions with; the first one's is fitted",
    )
    add("--tolerance", type=float, default=0.25, help="relative error that a check may have")
    add("--cache", type=Path, default=Path(tempfile.gettempdir()) / "hidden-context-throughput")
    add("--seed", type=int, default=0)
    add("--output", type=Path, help="JSON file of all numbers")
    return made


def options_of(argv: Sequence[str] | None) -> argparse.Namespace:
    made = parser()
    options = made.parse_args(argv)
    from scale_check import read_measurement
    from scale_hardware import shape_of

    try:
        options.shapes = [shape_of(name) for name in options.model.split(",")]
    except KeyError as error:
        made.error(f"--model: {error.args[0]} is not known; take tiny-llama, llama-8b or llama-70b")
    if options.responses < 3:
        made.error("--responses: a ranking has 3 or more; pairs are there anyway")
    counts = (options.gpus, options.comparisons, options.comparisons_per_gpu)
    if min(*counts, options.corpora, options.steps) < 1:
        made.error("GPUs, comparisons, corpora and steps are at least 1")
    for path in options.checked or ():  # before the minutes that the simulation takes
        read_measurement(path)
    return options


def plans_of(options: argparse.Namespace) -> dict[str, Plan]:
    """How each corpus is drawn; of many GPUs 64 are simulated."""
    from scale_tokens import Plan

    pairs = Plan(
        processes=min(options.gpus, 64),
        comparisons=options.comparisons_per_gpu,
        budget=options.tokens_per_batch,
        steps=options.steps,
        corpora=options.corpora,
        seed=options.seed,
    )
    return {"pairs": pairs, "rankings": dataclasses.replace(pairs, responses=options.responses)}


def simulate_all(options: argparse.Namespace) -> dict[str, dict[str, dict[str, Any]]]:
    """Estimates for each comparison, by task, corpus and way."""
    from scale_tokens import OF_PAIRS, WAYS, simulate

    plans, ways = plans_of(options), {"pairs": OF_PAIRS, "rankings": WAYS}
    return {
        task: {corpus: simulate(task, ways[corpus], plan) for corpus, plan in plans.items()}
        for task in ("scoring", "training")
    }


def total_of(found: dict[str, Estimate], comparisons: float) -> Amount:
    """Amount of so many comparisons."""
    from scale_tokens import Amount

    return Amount(**{name: value.mean for name, value in found.items()}).times(comparisons)


def checkpointing(shape: Shape, options: argparse.Namespace, tuning: Tuning, shard: int) -> bool:
    """Whether passes of the budget fit only if activations are computed again."""
    from scale_hardware import DEVICES
    from scale_memory import fits

    return not fits(shape, DEVICES[options.device], options.tokens_per_batch, shard, tuning, False)


def shards(shape: Shape, options: argparse.Namespace, tuning: Tuning) -> list[int]:
    """How weights are divided: a copy on each GPU where one fits, else over all of them.

    Where it has to be all, the GPUs of a machine come beside it, if a copy fits there.
    """
    from scale_hardware import DEVICES
    from scale_memory import fits

    device, gpus = DEVICES[options.device], options.gpus
    able = [
        n
        for n in (1, device.in_machine, gpus)
        if n <= gpus and fits(shape, device, options.tokens_per_batch, n, tuning, True)
    ]
    return [1] if 1 in able else sorted({*able, gpus}, reverse=True)


def record_of(
    options: argparse.Namespace,
    cluster: Cluster,
    shape: Shape,
    job: str,
    corpus: str,
    way: str,
    found: dict[str, Estimate],
) -> Record:
    """What a job costs in one way: ``scoring``, or training with ``lora`` or ``full``."""
    from scale_hardware import scoring_times, training_flops, training_times

    amount = total_of(found, options.comparisons)
    shares, again = way in ("tree", "tree of pairs"), False
    if job == "scoring":
        times = scoring_times(shape, amount, cluster, shares)
        flops = shape.cost_where(shares).scoring(int(amount.tokens), int(amount.context))
    else:
        tuning: Any = job
        again = checkpointing(shape, options, tuning, cluster.shard)
        times = training_times(shape, amount, cluster, tuning, again, shares)
        cost = shape.cost_where(shares and not again)
        flops = training_flops(cost, amount, tuning, again)
    hours = times.seconds * cluster.gpus / 3600
    return {
        "model": shape.name,
        "job": job,
        "shard": None if job == "scoring" else cluster.shard,
        "corpus": corpus,
        "way": way,
        "tokens": amount.tokens,
        "tokens_error": found["tokens"].error * options.comparisons,
        "passes_per_gpu": amount.passes / cluster.gpus,
        "tokens_per_pass": amount.tokens / amount.passes,
        "flops": flops,
        "checkpointing": again,
        **times._asdict(),
        "seconds": times.seconds,
        "bottleneck": times.bottleneck,
        "gpu_hours": hours,
        "price": hours * cluster.price,
    }


def costs(options: argparse.Namespace, amounts: Any) -> list[Record]:
    """A record for every model, job, division of the weights, corpus and way."""
    cluster, found = cluster_of(options), []
    for shape in options.shapes:
        jobs = [("scoring", 1)]
        jobs += [("lora", n) for n in shards(shape, options, "lora")]
        jobs += [("full", n) for n in shards(shape, options, "full")]
        for job, shard in jobs:
            used = dataclasses.replace(cluster, shard=shard)
            ways = amounts["scoring" if job == "scoring" else "training"]
            found += [
                record_of(options, used, shape, job, corpus, way, ways[corpus][way])
                for corpus in CORPORA
                for way in ways[corpus]
            ]
    return found


def cluster_of(options: argparse.Namespace) -> Cluster:
    """The cluster of the options."""
    from scale_hardware import DEVICES, Cluster

    device, mfu = DEVICES[options.device], options.mfu
    return Cluster(device, options.gpus, mfu, mfu, options.price, options.gpus)


def around(options: argparse.Namespace, amounts: Any) -> list[Record]:
    """What one command reads, writes and tokenizes in scoring, beside the GPUs' time."""
    from scale_driver import measure
    from scale_lengths import comparisons_in

    measured = measure(options.driver_rows, (2, options.responses))
    found = []
    for corpus, responses in zip(CORPORA, (2, options.responses), strict=True):
        driver = measured["driver"][str(responses)]
        rows = options.comparisons / comparisons_in(responses)
        way = "padding-free" if corpus == "pairs" else "responses"  # each text of a row once
        tokens = amounts["scoring"][corpus][way]["tokens"].mean * options.comparisons
        found.append(
            {
                "corpus": corpus,
                "rows": rows,
                "command_rows_per_second": driver["rows_per_second"],
                "command_hours": rows / driver["rows_per_second"] / 3600,
                "input_bytes": rows * driver["input_bytes"],
                "output_bytes": rows * driver["output_bytes"],
                "tokenizer_tokens_per_second": measured["tokens_per_second"],
                "tokenizing_core_hours": tokens / measured["tokens_per_second"] / 3600,
                "training_memory_bytes": measured["training_bytes_per_pair"] * options.comparisons
                if corpus == "pairs"
                else None,
            }
        )
    return found


def memory(options: argparse.Namespace) -> list[Record]:
    """Memory, fewest GPUs, tokens at which gathering is hidden, and sizes of checkpoints."""
    from scale_hardware import break_even, gpus_of_a_copy
    from scale_memory import checkpoint_bytes, fewest_gpus, training_memory

    cluster, budget, found = cluster_of(options), options.tokens_per_batch, []
    tunings: tuple[Tuning, ...] = ("lora", "full")
    for shape in options.shapes:
        for tuning, shard in ((t, n) for t in tunings for n in shards(shape, options, t)):
            again = checkpointing(shape, options, tuning, shard)
            used = training_memory(shape, budget, shard, tuning, again)
            divided = dataclasses.replace(cluster, shard=shard)
            files = checkpoint_bytes(shape, tuning)
            found.append(
                {
                    "model": shape.name,
                    "tuning": tuning,
                    "shard": shard,
                    "checkpointing": again,
                    **{f"{name}_GB": value / 1e9 for name, value in used._asdict().items()},
                    "total_GB": used.total / 1e9,
                    "fewest_gpus": fewest_gpus(shape, cluster.device, budget, tuning, True),
                    "gpus_to_score": gpus_of_a_copy(shape, cluster.device),
                    "break_even_tokens": break_even(shape, divided, tuning, again),
                    "saved_weights_GB": files["weights"] / 1e9,
                    "saved_state_GB": files["state"] / 1e9,
                }
            )
    return found


def lengths(options: argparse.Namespace) -> Record:
    """Share of unique tokens, of corpora drawn and of the real pairs where they are at hand."""
    from scale_lengths import draw_groups, unique_share
    from throughput_data import load_pairs

    seeds = range(options.seed, options.seed + options.corpora)
    drawn = [unique_share(draw_groups(4000, 2, seed)) for seed in seeds]
    mean = sum(drawn) / len(drawn)
    spread = (sum((one - mean) ** 2 for one in drawn) / max(len(drawn) - 1, 1)) ** 0.5
    found: Record = {"drawn": mean, "of_4000_pairs_error": spread}
    if os.environ.get("HIDDEN_CONTEXT_DATA"):
        real = load_pairs(options.cache)
        found |= {"real": unique_share(real.pairs), "source": real.source}
    return found


def main(argv: Sequence[str] | None = None) -> int:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    options = options_of(argv)
    import torch
    from scale_tables import print_all
    from throughput_measure import machine

    amounts = simulate_all(options)
    result: Record = {
        "machine": machine(torch.device("cpu")),
        "options": {name: str(value) for name, value in vars(options).items() if name != "shapes"},
        "lengths": lengths(options),
        "amounts": amounts_record(amounts),
        "costs": costs(options, amounts),
        "around": around(options, amounts),
        "memory": memory(options),
    }
    if options.checked:
        from scale_check import check, summary

        result["checks"] = check(options.checked, options.cache, options.tolerance)
        result["checks_summary"] = summary(result["checks"])
    print_all(result)
    if options.output:
        from hidden_context.data.files import write_json

        write_json(options.output, result)
    return 0


def amounts_record(amounts: Any) -> list[Record]:
    """Estimates for each comparison, as they go into the file."""
    return [
        {
            "task": task,
            "corpus": corpus,
            "way": way,
            **{name: value.mean for name, value in found.items()},
            **{f"{name}_error": value.error for name, value in found.items()},
        }
        for task, corpora in amounts.items()
        for corpus, ways in corpora.items()
        for way, found in ways.items()
    ]


if __name__ == "__main__":
    sys.exit(main())
