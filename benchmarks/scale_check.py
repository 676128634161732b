"""Whether the simulation holds: its predictions against what ``throughput.py`` measured.

The very texts of a measurement are laid out again in each way. Two things are predicted:

- *ratios*: how many times faster the tree is than another way, from tokens alone (all tokens over
  unique ones, no padding, no attention, nothing fitted), and from the FLOPs of what is run;
- *seconds*: FLOPs over the measured matrix rate and an efficiency. An efficiency belongs to a
  row and to scoring or training, is fitted on one model, and predicts another, and rankings.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from scale_hardware import shape_of
from scale_lengths import pairs_in
from scale_tokens import (
    MOST_TEXTS,
    NOTHING,
    RANDOM_PAIRS,
    STEPS_SORTED,
    Amount,
    batch_amount,
    padded,
    pass_amount,
    total_of,
)
from throughput_data import Group, load_pairs, sample
from throughput_models import Cost, configuration
from throughput_rankings import draw_rankings

from hidden_context.data.trees import tree_of
from hidden_context.models.engine.budget import DEFAULT_TOKENS, TokenBudget
from hidden_context.models.engine.runner import plan
from hidden_context.training.passes import divide
from hidden_context.training.sampler import StepSampler

PAPER_MULTIPLE, PAPER_PAIRS = 64, 2
TOLERANCE = 0.25
FITTED = "ratio, fitted"
ORDERS = 50  # orders of random batches that are averaged
SHARING = ("tree", "ranking", "pairs")
PAIRS = ("scoring", "training")
FASTEST = {"rankings": "ranking"}  # of other parts it is the tree


class Check(NamedTuple):
    """A prediction beside a measurement.

    Attributes:
        part: Scoring, training or rankings.
        model: The model.
        row: The way; of ratios the slower one.
        what: What is predicted.
        predicted: The prediction.
        measured: The measurement.
        fitted_on: Where an efficiency was fitted; empty where nothing was.
    """

    part: str
    model: str
    row: str
    what: str
    predicted: float
    measured: float
    fitted_on: str = ""

    @property
    def error(self) -> float:
        """Relative error of the prediction."""
        return self.predicted / self.measured - 1

    def record(self, tolerance: float) -> dict[str, Any]:
        """The check as it goes into the file; ``within`` says whether it holds."""
        within = abs(self.error) <= tolerance
        return {**self._asdict(), "error": self.error, "tolerance": tolerance, "within": within}


class Measured(NamedTuple):
    """A row of a measurement with what it had to run.

    Attributes:
        part: Scoring, training or rankings of so many.
        model: The model.
        row: The way.
        seconds: Seconds of all rounds.
        flops: FLOPs of all rounds, padding included.
        rate: Measured FLOPs per second of matrix products.
        tokens: Tokens that a way without padding runs, shared ones once where it shares.
    """

    part: str
    model: str
    row: str
    seconds: float
    flops: float
    rate: float
    tokens: float

    @property
    def kind(self) -> tuple[str, str]:
        """What an efficiency is fitted for: the way, and scoring or training."""
        row = "tree" if self.row in ("ranking", "pairs") else self.row
        return row, "scoring" if self.part in ("scoring", "responses") else "training"

    @property
    def efficiency(self) -> float:
        """Share of the matrix rate that was reached on all that was run."""
        return self.flops / self.seconds / self.rate


def samples_of(found: Mapping[str, Any], part: str, model: str, cache: Path) -> list[Any]:
    """Draw the texts of a measurement's rounds again, from its options."""
    options = found["options"]
    toy, seed = options["toy"] == "True", int(options["seed"])
    vocabulary = min(configuration(model).vocab_size, 32_000)
    if part.startswith("rankings"):
        responses, scale = int(part.split()[-1]), 0.1 if toy else 1.0
        count, rounds = int(options["rankings_per_step"]), int(options["train_rounds"])
        return [
            draw_rankings(count, responses, vocabulary, seed + number, scale)
            for number in range(rounds)
        ]
    pairs = load_pairs(cache, vocabulary, toy)
    if pairs.source != found["data"]:
        raise SystemExit(f"it was measured on {found['data']}, but there are {pairs.source} here")
    if part == "scoring":
        count, longest = int(options["pairs"]), int(options["max_length"])
        rounds = int(options["rounds"])
    else:
        count = int(options["steps"]) * int(options["pairs_per_step"])
        longest, rounds = int(options["train_max_length"]), int(options["train_rounds"])
    return [sample(pairs.pairs, count, longest, seed + number) for number in range(rounds)]


def amount_of(row: str, part: str, groups: Sequence[Group], options: Mapping[str, str]) -> Amount:
    """Lay out the texts of a round as a row of the measurement runs them."""
    budget = DEFAULT_TOKENS["cpu"]
    if options["tokens_per_batch"] != "None":
        budget = int(options["tokens_per_batch"])
    if row.startswith("sorted "):
        budget = int(row.split()[1])
    way: Literal["tree", "padded"] = "tree" if row in SHARING else "padded"
    if part == "scoring":
        texts = [text for group in groups for text in group]
        if row == "paper":
            return total_of(padded([len(text)], PAPER_MULTIPLE) for text in texts)
        batches = plan(texts, range(len(texts)), way, TokenBudget(budget), MOST_TEXTS)
        return total_of(batch_amount(texts, batch, way) for batch in batches)
    if row in ("pairs", "trl") and part.startswith("rankings"):
        groups = pairs_in(groups)
    if row == "paper":
        return _random(groups, PAPER_PAIRS, PAPER_MULTIPLE)
    if row == "trl":
        return _random(groups, RANDOM_PAIRS, 1)
    in_a_step = int(options["pairs_per_step"]) if part == "training" else len(groups)
    sizes = [sum(map(len, group)) for group in groups]
    sampler = StepSampler(sizes, in_a_step, window=STEPS_SORTED, seed=int(options["seed"]))
    total = NOTHING
    kind = "tree" if way == "tree" else "sorted padded"
    for step in sampler.steps():
        examples = [groups[place] for place in step]
        passes = divide([list(example) for example in examples], way, budget)
        total += total_of(
            pass_amount([examples[e] for e in each.examples], kind) for each in passes
        )
    return total


def _random(groups: Sequence[Group], at_once: int, multiple: int) -> Amount:
    """Batches of random pairs, both sides padded together: the mean over many orders."""
    import random

    total, at_once = NOTHING, min(at_once, len(groups))
    for seed in range(ORDERS):
        order = random.Random(seed).sample(list(groups), len(groups))
        for start in range(0, len(order), at_once):
            lengths = [len(text) for group in order[start : start + at_once] for text in group]
            total += padded(lengths, multiple)
    return total.times(1 / ORDERS)


def bare_tokens(row: str, part: str, groups: Sequence[Group]) -> float:
    """Tokens without padding: of each text, or unique ones where the way shares."""
    if row in ("pairs", "trl") and part.startswith("rankings"):
        groups = pairs_in(groups)
    if row in SHARING:
        return sum(tree_of(group, range(len(group))).num_tokens for group in groups)
    return sum(len(text) for group in groups for text in group)


def measured_rows(found: Mapping[str, Any], cache: Path) -> list[Measured]:
    """Read a measurement's rows in float32, and lay out what each of them ran.

    Raises:
        SystemExit: If it has no matrix rates.
    """
    rates = {
        (each["part"], each["model"], each["precision"]): each["matrix_flops_per_second"]
        for each in found["roofline"]
    }
    if not rates:
        raise SystemExit("the measurement has no matrix rates; run it with --part …,roofline")
    drawn: dict[tuple[str, str], list[Any]] = {}
    rows = []
    for record in found["rows"]:
        part, model, row = record["part"], record["model"], record["row"]
        wanted = part in PAIRS or part.startswith("rankings")
        if record["skipped"] or not wanted or record["precision"] != "float32":
            continue
        if (part, model) not in drawn:
            drawn[part, model] = samples_of(found, part, model, cache)
        groups = drawn[part, model]
        amount = total_of(amount_of(row, part, each, found["options"]) for each in groups)
        flops = flops_of(part, shape_of(model).cost_where(row in SHARING), amount)
        tokens = sum(bare_tokens(row, part, each) for each in groups)
        rate = rates[part, model, record["precision"]]
        seconds = sum(record["seconds"])
        rows.append(Measured(part, model, row, seconds, flops, rate, tokens))
    return rows


def flops_of(part: str, cost: Cost, amount: Amount) -> float:
    """FLOPs of an amount, in scoring or in training with LoRA."""
    count: Callable[[int, int], float] = cost.scoring if part == "scoring" else cost.training
    return count(int(amount.tokens), int(amount.context))


def check_ratios(rows: Sequence[Measured]) -> list[Check]:
    """Predict how many times faster sharing is: from tokens alone, from FLOPs, and as fitted."""
    checks, fitted = [], efficiencies(rows)
    for part, model in dict.fromkeys((row.part, row.model) for row in rows):
        own = {row.row: row for row in rows if (row.part, row.model) == (part, model)}
        fast = own.get(FASTEST.get(part.split()[0], "tree"))
        if fast is None:
            continue
        for name, slow in own.items():
            if slow is fast:
                continue
            measured = slow.seconds / fast.seconds
            for what, predicted in (
                ("ratio, tokens alone", slow.tokens / fast.tokens),
                ("ratio, FLOPs", slow.flops / fast.flops),
            ):
                checks.append(Check(part, model, name, what, predicted, measured))
            known = slow.kind in fitted and fast.kind in fitted
            if known and (model != rows[0].model or part not in PAIRS):
                factor = fitted[fast.kind] / fitted[slow.kind]
                predicted = slow.flops / fast.flops * factor
                where = f"{rows[0].model}, {slow.kind[1]}"
                checks.append(Check(part, model, name, FITTED, predicted, measured, where))
    return checks


def efficiencies(rows: Sequence[Measured]) -> dict[tuple[str, str], float]:
    """Fit an efficiency for each way, on the first model's scoring and training of pairs."""
    return {
        row.kind: row.efficiency for row in rows if row.model == rows[0].model and row.part in PAIRS
    }


def check_seconds(rows: Sequence[Measured]) -> list[Check]:
    """Predict seconds by efficiencies that another model, or another part, was fitted on."""
    fitted = efficiencies(rows)
    first = rows[0].model if rows else ""
    return [
        Check(
            *(row.part, row.model, row.row, "seconds"),
            row.flops / (row.rate * fitted[row.kind]),
            row.seconds,
            f"{first}, {row.kind[1]}",
        )
        for row in rows
        if row.kind in fitted and (row.model != first or row.part not in PAIRS)
    ]


def read_measurement(path: Path) -> dict[str, Any]:
    """Read the JSON file of a measurement.

    Raises:
        SystemExit: If it is missing, or is not what ``throughput.py --output`` writes.
    """
    remedy = "give a file that throughput.py --output or scale_measure.py --output wrote"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SystemExit(f"--checked: {path}: {error.strerror}; {remedy}") from error
    except ValueError as error:
        raise SystemExit(f"--checked: {path} is not JSON ({error}); {remedy}") from error
    missing = {"machine", "options", "rows", "roofline"}
    if isinstance(found, dict):
        missing -= set(found)
    if missing:
        raise SystemExit(f"--checked: {path} has no {', '.join(sorted(missing))}; {remedy}")
    return found


def check(paths: Sequence[Path], cache: Path, tolerance: float = TOLERANCE) -> list[dict[str, Any]]:
    """Check the simulation against the JSON files of measurements, of which the first is fitted.

    Raises:
        SystemExit: If the measurement cannot be laid out again here.
    """
    files = [read_measurement(path) for path in paths]
    rows = [row for found in files for row in measured_rows(found, cache)]
    return [each.record(tolerance) for each in check_ratios(rows) + check_seconds(rows)]


def summary(checks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Median and greatest size of the error, by what is predicted."""
    found = []
    for what in dict.fromkeys(each["what"] for each in checks):
        own = [each for each in checks if each["what"] == what]
        errors = [abs(each["error"]) for each in own]
        found.append(
            {
                "what": what,
                "checks": len(own),
                "within": sum(each["within"] for each in own),
                "median_error": statistics.median(errors),
                "greatest_error": max(errors),
            }
        )
    return found
