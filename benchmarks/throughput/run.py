"""How fast reward models score and train, against the paper's procedure, TRL and the roofline.

Same model, same pairs, same precision; rounds interleaved; medians with ranges. Parts:

- ``equality``: tree and padded give the same rewards and gradients, up to rounding;
- ``scoring``: pairs per second (rows: ``throughput/scoring.py``);
- ``responses``: 16 responses of 64 tokens to one prompt of 400;
- ``training``: pairs per second of LoRA training (rows: ``throughput/training.py``);
- ``rankings``: rankings per second of LoRA training, in the first precision (rows:
  ``throughput/training.py``), left out unless asked for;
- ``curve``: losses of the first 50 optimiser steps, the same pairs in each, in float32;
- ``memory``: peak memory of an optimiser step, TRL's and ours, each in a process of its own, in the
  first precision (on a GPU of device memory, and left out unless asked for, because peaks stand in
  the tables of scoring and training too);
- ``roofline``: unique tokens × FLOPs per token over the measured matrix rate;
- ``parity``, ``attention``, ``budget``, ``recovery``, ``qlora``: checks and measurements that
  ``gpu.sh`` runs one by one, left out unless asked for (``throughput/parity.py``,
  ``throughput/attention.py``, ``throughput/budget.py``; ``qlora`` compares and trains on weights
  in 4 bits).

With ``HIDDEN_CONTEXT_DATA`` set the pairs are the paper's relabelled ones, else synthetic ones of
like lengths. On a quiet machine of two cores, about ten minutes:

    python benchmarks/throughput/run.py --output throughput.json

On a GPU the model is Llama-3-8B in shape, with random weights in bfloat16:

    python benchmarks/throughput/run.py --model llama-8b --output throughput-gpu.json

On rankings, some half an hour:

    python benchmarks/throughput/run.py --part rankings --model gpt2 --precision float32

What each row has on and off is said in the files named above; in short, the paper's procedure
keeps its key-value cache and its written-out GELU, and is spared its anomaly detection.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kit import names, numbers, script_parser

PARTS = (
    *("equality", "qlora", "scoring", "responses", "training", "rankings"),
    *("curve", "memory", "roofline"),
    *("parity", "attention", "budget", "recovery"),
)
ASKED_FOR = {"rankings", "parity", "attention", "budget", "recovery", "qlora"}


def parser() -> argparse.ArgumentParser:
    made = script_parser(__doc__)
    add = made.add_argument
    unasked = ",".join(sorted(ASKED_FOR))
    add("--part", type=names, help=f"parts of {','.join(PARTS)}; by default all but {unasked}")
    add("--model", type=names, help="models of tiny,small,gpt2,tiny-llama,llama-8b")
    add("--weights", type=Path, help="folder of a checkpoint to run instead of --model")
    add("--row", type=names, help="rows of training, such as tree,qlora; by default all but qlora")
    add("--peak_tflops", type=float, help="rate of the device's data sheet in bfloat16, for MFU")
    add("--precision", type=names, help="precisions of float32,bfloat16")
    add("--device", help="cpu or cuda; a GPU if there is one")
    add("--pairs", type=int, help="pairs scored in a round (8; on a GPU 256)")
    add("--steps", type=int, help="optimiser steps in a round (1; on a GPU 8)")
    add("--pairs_per_step", type=int, default=16, help="pairs of an optimiser step")
    add("--rankings_per_step", type=int, default=4, help="rankings of an optimiser step")
    add("--responses_per_ranking", type=numbers, default=[4, 8], help="numbers, with commas")
    add("--rounds", type=int, default=3, help="rounds of scoring, each on other pairs")
    add("--train_rounds", type=int, default=2, help="rounds of training, each on other pairs")
    add("--threads", type=int, help="threads of PyTorch")
    add("--toy", action="store_true", help="a few seconds with a tiny model, to try the script")
    add("--output", type=Path, help="JSON file of all measurements")
    add("--memory_of", help=argparse.SUPPRESS)  # what a child process measures
    return made


def options_of(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the options and fill in what depends on others."""
    made = parser()
    options = made.parse_args(argv)
    import torch
    from throughput.models import PRECISIONS, SHAPES, WEIGHTS

    from hidden_context.models.network.precision import resolve_device

    options.device = resolve_device(options.device or "auto")
    gpu = options.device.type == "cuda"
    options.pairs = options.pairs or (256 if gpu else 8)
    options.steps = options.steps or (8 if gpu else 1)
    if options.toy:
        options.rounds, options.train_rounds, options.steps = 1, 1, 1
        options.pairs, options.pairs_per_step = 4, 4
        options.model = options.model or ["tiny"]
        options.precision = options.precision or ["float32"]
    if options.weights:
        if not (options.weights / "config.json").is_file():
            made.error(
                f"--weights: {options.weights} has no config.json; name a checkpoint's folder"
            )
        options.model = [WEIGHTS]
    elif WEIGHTS in (options.model or []):
        made.error("--model weights needs --weights FOLDER")
    options.model = options.model or (["llama-8b"] if gpu else ["small", "gpt2"])
    if options.precision is None:
        large = {"llama-8b", WEIGHTS} & set(options.model)
        options.precision = ["bfloat16"] if large else list(PRECISIONS)
    if options.part is None:
        left_out = {"curve", "memory"} if gpu else {"memory"} if options.toy else set()
        options.part = [part for part in PARTS if part not in left_out | ASKED_FOR]
    wanted = ((options.part, PARTS), (options.model, SHAPES), (options.precision, PRECISIONS))
    for given, known in wanted:
        unknown = sorted(set(given) - set(known))
        if unknown or not given:
            made.error(f"{','.join(unknown) or 'nothing'} is not known; take {','.join(known)}")
    options.precision.sort(key=list(PRECISIONS).index)  # ratios are to the first
    if options.threads:
        torch.set_num_threads(options.threads)
    return options


def run_model(options: argparse.Namespace, shape: str, results: Any, first: bool) -> None:
    """Run the parts asked for with one model."""
    from throughput.bench import Bench
    from throughput.measure import say

    if shape == "llama-8b" and options.device.type != "cuda":
        results.skipped.append("llama-8b: it needs a GPU with some 40 GB of memory")
        return
    bench = Bench(options, shape, results)
    for part in PARTS:
        if part not in options.part or part == "roofline":
            continue
        if part == "curve" and not first:
            continue  # once is enough; it is about rounding, not about size
        if part == "responses" and shape == "small" and len(options.model) > 1:
            continue  # the larger model tells more
        say(f"{part}, {shape}")
        getattr(bench, part)()


def finish(options: argparse.Namespace, results: Any) -> None:
    """Print the remaining tables, and write the file."""
    from throughput.report import CHECKED, checks_of, print_plain

    results.targets = checks_of(results)
    print_plain("machine", [results.machine])
    print_plain("equality of tree and padded (relative)", results.equality)
    print_plain("memory of training beyond the model", results.memory)
    for kind in ("roofline", *CHECKED):
        print_plain(kind, getattr(results, kind))
    print_plain("checks", results.targets)
    for reason in results.skipped:
        print(f"skipped: {reason}")
    if options.output:
        from hidden_context.data.storage.files import write_json

        write_json(options.output, vars(results))


def memory_of(options: argparse.Namespace) -> dict[str, int]:
    """Measure, in this process, the peak of one optimiser step above the model's own memory.

    On a GPU it is the device's memory, and the step after the one for which budgets are tuned.
    """
    import torch
    from throughput.bench import LONGEST_TRAINED, Bench, Results
    from throughput.data import sample
    from throughput.measure import device_peak, forget_peak, resident_bytes
    from throughput.training import trainers

    if options.memory_of == "trl":
        import trl.trainer.reward_trainer  # noqa: F401  its own size is no part of the peak
    bench = Bench(options, options.model[0], Results({}, {}))
    models = bench.sets[options.precision[0]]
    train = trainers(models, bench.tokenizer)[options.memory_of]
    models.ours(lora=True) if options.memory_of in ("padded", "tree") else models.stock(lora=True)
    pairs = sample(bench.pairs, options.pairs_per_step, LONGEST_TRAINED, 0)
    step = partial(train, pairs, options.pairs_per_step, False)
    if options.device.type == "cuda":
        step()
        with device_peak(options.device) as peak:
            before = torch.cuda.memory_allocated(options.device)
            step()
        return {"model_bytes": before, "peak_bytes": peak[0]}
    gc.collect()
    forget_peak()
    before = resident_bytes()
    step()
    return {"model_bytes": before, "peak_bytes": resident_bytes(peak=True) - before}


def main(argv: Sequence[str] | None = None) -> int:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # Trainers would divide batches over all
    options = options_of(argv)
    import transformers
    from throughput.bench import Results
    from throughput.measure import machine

    transformers.logging.set_verbosity_error()
    warnings.filterwarnings("ignore", category=UserWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    if options.memory_of:
        with contextlib.redirect_stdout(sys.stderr):
            found = memory_of(options)
        print(json.dumps(found))
        return 0
    used = {
        name: [str(entry) for entry in value] if isinstance(value, list) else str(value)
        for name, value in vars(options).items()
        if name not in ("output", "memory_of")
    }
    results = Results(machine(options.device), used)
    for number, shape in enumerate(options.model):
        run_model(options, shape, results, first=number == 0)
        gc.collect()
    finish(options, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
