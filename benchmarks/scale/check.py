r"""Whether the simulation holds: predictions beside measurements, and two rates of this machine.

    OMP_NUM_THREADS=1 python benchmarks/scale/check.py measure --model small --precision float32 \
        --part scoring,training,rankings,roofline --rounds 2 --train_rounds 1 \
        --responses_per_ranking 4 --output small.json
    python benchmarks/scale/check.py --checked small.json --output checks.json

``measure`` takes the options of ``throughput/run.py`` and runs it in one thread by processor time:
on a shared machine, a clock would count what other programs take. With ``--checked`` the texts of
each measurement are laid out again in each way, and two things are predicted:

- *ratios*: how many times faster the tree is than another way, from tokens alone (all tokens over
  unique ones, no padding, no attention, nothing fitted), and from the FLOPs of what is run;
- *seconds*: FLOPs over the measured matrix rate and an efficiency. An efficiency belongs to a way
  and to scoring or training. It is fitted on the first model, and predicts other models, and
  rankings.

In each case the script measures how many tokens a second a core turns text into, and how much
memory a pair takes in a training process.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from kit import names, script_parser
from scale import tokens
from scale.hardware import shape_of
from scale.tokens import Amount, Plan, padded, random_passes, total_of
from throughput import data, run
from throughput.bench import Bench, Results
from throughput.data import Group
from throughput.measure import machine
from throughput.models import GPT2_SHAPES, Cost
from throughput.report import BEST, SHARING, print_plain
from throughput.scoring import PAPER_MULTIPLE
from throughput.training import PAPER_PAIRS, TRL_PAIRS

from hidden_context.data.sources import load_examples
from hidden_context.data.storage.files import read_json, write_json, write_jsonl
from hidden_context.data.tokens.tokenize import tokenize_examples
from hidden_context.errors import HiddenContextError
from hidden_context.models.engine.budget import default_tokens

PAIRS = ("scoring", "training")
RANDOM = {"paper": (PAPER_PAIRS, PAPER_MULTIPLE), "trl": (TRL_PAIRS, 1)}  # pairs, padded to
ORDERS = 50  # orders of random batches that are averaged
TOLERANCE = 0.25  # relative error that a check may have
CPU = torch.device("cpu")
Record = dict[str, Any]


class Measured(NamedTuple):
    """A row of a measurement with what it had to run.

    Attributes:
        part: Scoring, training or rankings of a number of responses.
        model: The model.
        row: The way.
        seconds: Seconds of all rounds.
        least: Seconds of all FLOPs, padding included, at the measured rate of matrix products.
        tokens: Tokens without padding; unique ones if the way shares.
    """

    part: str
    model: str
    row: str
    seconds: float
    least: float
    tokens: float

    @property
    def kind(self) -> tuple[str, str]:
        """What an efficiency is fitted for: the way, and scoring or training."""
        row = "tree" if self.row in ("ranking", "pairs") else self.row
        return row, "scoring" if self.part == "scoring" else "training"


def measure(argv: Sequence[str]) -> int:
    """Run ``throughput/run.py`` in one thread by processor time, and say so in its file."""
    arguments = [*argv, "--threads", "1", "--device", "cpu"]
    output = run.parser().parse_args(arguments).output
    with mock.patch.object(time, "perf_counter", time.process_time):
        done = run.main(arguments)
    if output:
        write_json(output, {**read_json(output), "clock": "processor time of one thread"})
    return done


def read_measurement(path: Path) -> Record:
    """Read the JSON file of a measurement.

    Raises:
        SystemExit: If it is missing, or is not what ``measure --output`` writes.
    """
    remedy = "Give a file that check.py measure --part …,roofline --output wrote."
    try:
        found = read_json(path)
    except HiddenContextError as error:
        raise SystemExit(f"--checked: {error} {remedy}") from error
    read: Record = found if isinstance(found, dict) else {}
    missing = [name for name in ("options", "data", "rows", "roofline") if not read.get(name)]
    if missing:
        raise SystemExit(f"--checked: {path} has no {', '.join(missing)}. {remedy}")
    return read


def benches_of(found: Mapping[str, Any]) -> dict[str, Bench]:
    """Read a measurement's options as its script does, and the texts that each model was given.

    Raises:
        SystemExit: If it was measured on other pairs than there are here.
    """
    argv = []
    for name, value in found["options"].items():
        if value not in ("None", "False"):
            text = ",".join(value) if isinstance(value, list) else value
            argv.append(f"--{name}" if value == "True" else f"--{name}={text}")
    options, results = run.options_of(argv), Results({}, {})
    models = dict.fromkeys(record["model"] for record in found["rows"])
    made = {model: Bench(options, model, results) for model in models}
    if results.data != found["data"]:
        told = f"it was measured on {found['data']}, but there are {results.data} here"
        raise SystemExit(f"--checked: {told}")
    return made


def amount_of(row: str, part: str, groups: Sequence[Group], options: Any) -> Amount:
    """Lay out the texts of a round as a row of the measurement runs them."""
    budget = int(row.split()[1]) if row.startswith("sorted ") else default_tokens(CPU)
    way = "tree" if row in SHARING else "sorted padded"
    if part == "scoring" and row == "paper":
        return total_of(padded([len(text)], PAPER_MULTIPLE) for group in groups for text in group)
    if part == "scoring":
        return tokens.scoring(groups, way, budget, window=len(groups))
    if row in RANDOM:
        return random_batches(groups, *RANDOM[row])
    in_a_step = options.pairs_per_step if part == "training" else len(data.pairs_of(groups))
    return tokens.training(groups, way, Plan(processes=1, comparisons=in_a_step, budget=budget))


def random_batches(groups: Sequence[Group], at_once: int, multiple: int) -> Amount:
    """Batches of random pairs, both sides padded together: the mean over many orders."""
    orders = (random.Random(seed).sample(list(groups), len(groups)) for seed in range(ORDERS))
    batches = (each for order in orders for each in random_passes(order, at_once, multiple))
    return total_of(batches).times(1 / ORDERS)


def cost_of(model: str, shares: bool) -> Cost:
    """What a token costs; ``Shape.cost`` says what is left out where prompts are shared."""
    if model not in GPT2_SHAPES:
        return shape_of(model).cost(shares)
    layers, width = GPT2_SHAPES[model]["n_layer"], GPT2_SHAPES[model]["n_embd"]
    # 4 matrices of attention; 2 of the feed-forward network, 4 times as wide inside
    return Cost((12 * layers - 8 * shares) * width**2, layers * width)


def measured_rows(found: Mapping[str, Any]) -> list[Measured]:
    """Read a measurement's rows in float32, and lay out what each of them ran.

    Its padding-free row is left out: the published counts are of the other ways.
    """
    benches = benches_of(found)
    rates = {
        (each["part"], each["model"], each["precision"]): each["matrix_flops_per_second"]
        for each in found["roofline"]
    }
    rows = []
    for record in found["rows"]:
        part, model, row = record["part"], record["model"], record["row"]
        left_out = part == "responses" or row == "padding-free" or record["precision"] != "float32"
        if record["skipped"] or left_out:
            continue
        rounds, shares = benches[model].samples_of(part), row in SHARING
        if part.startswith("rankings") and row != "ranking":
            rounds = list(map(data.pairs_of, rounds))
        options, cost = benches[model].options, cost_of(model, shares)
        amount = total_of(amount_of(row, part, groups, options) for groups in rounds)
        count = cost.scoring if part == "scoring" else cost.training
        least = count(int(amount.tokens), int(amount.context)) / rates[part, model, "float32"]
        works = [data.work_of(groups) for groups in rounds]
        bare = sum(work.unique_tokens if shares else work.tokens for work in works)
        rows.append(Measured(part, model, row, sum(record["seconds"]), least, bare))
    return rows


def checks_of(rows: Sequence[Measured]) -> list[Record]:
    """Put predictions beside measurements; efficiencies are fitted on the first model's pairs.

    Returns:
        A record for each prediction. ``fitted_on`` is empty where nothing was fitted, and
        ``within`` says whether the relative error is at most the tolerance.
    """
    first = rows[0].model if rows else ""
    fitted = {r.kind: r.least / r.seconds for r in rows if r.model == first and r.part in PAIRS}
    found: list[Record] = []

    def add(row: Measured, what: str, predicted: float, measured: float, on: str = "") -> None:
        about = {"part": row.part, "model": row.model, "row": row.row, "what": what}
        numbers = {"predicted": predicted, "measured": measured, "fitted_on": on}
        error = predicted / measured - 1
        within = {"error": error, "tolerance": TOLERANCE, "within": abs(error) <= TOLERANCE}
        found.append(about | numbers | within)

    for row in rows:
        elsewhere = row.kind in fitted and (row.model != first or row.part not in PAIRS)
        where = f"{first}, {row.kind[1]}"
        for best in rows:
            same = (best.part, best.model) == (row.part, row.model)
            if best is row or not same or best.row not in BEST:
                continue
            ratio, least = row.seconds / best.seconds, row.least / best.least
            add(row, "ratio, tokens alone", row.tokens / best.tokens, ratio)
            add(row, "ratio, FLOPs", least, ratio)
            if elsewhere and best.kind in fitted:
                predicted = least * fitted[best.kind] / fitted[row.kind]
                add(row, "ratio, fitted", predicted, ratio, where)
        if elsewhere:
            add(row, "seconds", row.least / fitted[row.kind], row.seconds, where)
    return sorted(found, key=lambda check: check["what"] == "seconds")


def summary(checks: Sequence[Mapping[str, Any]]) -> list[Record]:
    """Median and greatest size of the error, by what is predicted."""
    found = []
    for what in dict.fromkeys(each["what"] for each in checks):
        own = [each for each in checks if each["what"] == what]
        errors = [abs(each["error"]) for each in own]
        about = {"what": what, "checks": len(own), "within": sum(each["within"] for each in own)}
        ends = {"median_error": statistics.median(errors), "greatest_error": max(errors)}
        found.append(about | ends)
    return found


def tokenizing_rate(texts: int = 2000, seed: int = 0) -> float:
    """Measure tokens per second of one core: a byte-level BPE of 8000 entries, trained here."""
    draw = random.Random(seed)
    letters = "etaoinshrdlucmfwypvbgkqjxz"
    weights = [1 / (place + 2) for place in range(len(letters))]
    words = ["".join(draw.choices(letters, weights, k=draw.randint(2, 9))) for _ in range(6000)]
    shares = [1 / (place + 1) for place in range(len(words))]  # Zipf's law
    lines = [" ".join(draw.choices(words, shares, k=150)) for _ in range(texts)]
    tokenizer = data.train_bpe(lines, 8000)
    started = time.process_time()
    count = sum(len(tokenizer.encode(line).ids) for line in lines)
    return count / (time.process_time() - started)


def training_bytes(rows: int) -> float:
    """Measure the memory that a pair takes in a training process: its example and its token ids."""
    tokenizer = data.number_tokenizer(data.VOCABULARY)
    pairs = data.synthetic_pairs(rows, data.VOCABULARY)
    texts = ([data.text_of(text[:-1]) for text in pair] for pair in pairs)  # without EOS
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary) / "rows.jsonl"
        write_jsonl(source, ({"chosen": best, "rejected": other} for best, other in texts))
        first = load_examples(source, limit=64).examples
        tokenize_examples(first, tokenizer, None, "keep")  # what is allocated only once
        tracemalloc.start()
        kept = tokenize_examples(load_examples(source).examples, tokenizer, None, "keep")
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert len(kept.input_ids) == rows
        return held / rows


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, or check measurements and print the tables."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    given = list(sys.argv[1:] if argv is None else argv)
    if given[:1] == ["measure"]:
        return measure(given[1:])
    made = script_parser(__doc__)
    add = made.add_argument
    add("--checked", type=names, default=[], help="files of measure; efficiencies fit the first")
    add("--rows", type=int, default=1024, help="pairs on which memory is measured")
    add("--output", type=Path, help="JSON file of all numbers")
    options = made.parse_args(given)
    files = map(read_measurement, map(Path, options.checked))
    rows = [row for found in files for row in measured_rows(found)]
    checks = checks_of(rows)
    result: Record = {
        "machine": machine(CPU),
        "options": {name: str(value) for name, value in vars(options).items()},
        "tokens_per_second": tokenizing_rate(),
        "training_bytes_per_pair": training_bytes(options.rows),
        "checks": checks,
        "checks_summary": summary(checks),
    }
    print_plain("prediction and measurement", checks)
    print_plain("errors of predictions", result["checks_summary"])
    rates = ("tokens_per_second", "training_bytes_per_pair")
    print_plain("on this machine", [{name: result[name] for name in rates}])
    if options.output:
        write_json(options.output, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
