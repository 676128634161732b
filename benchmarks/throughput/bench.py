"""The parts of the throughput benchmark, for one model."""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from functools import cached_property, partial
from math import nan
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from throughput import data, measure, models, training
from throughput.attention import attention
from throughput.budget import recovery, tuning
from throughput.parity import parity
from throughput.report import Record, print_records, records, roofline
from throughput.scoring import difference, equality, scoring_rows

from hidden_context.errors import HiddenContextError
from hidden_context.models.engine.budget import default_tokens

SCRIPT = Path(__file__).with_name("run.py")
MEMORY_ROWS = {"cpu": ("trl", "tree"), "cuda": ("trl", "padded", "tree")}
RESPONSES, PROMPT_TOKENS, RESPONSE_TOKENS = 16, 400, 64
# a gradient of 8B weights in float32 takes some 10 MB a token beside their 32 GB: these have 3000
CHECKED_PAIRS, CHECKED_LENGTH = 8, 192
CURVE_STEPS, CURVE_PAIRS = 50, 2
LONGEST = 1024
# TRL's padded batch of 8 pairs of 1024 tokens would need more than 20 GB at GPT-2's size in float32
LONGEST_TRAINED = 512
LONG_PAIRS, TOY_PAIRS = 4, 6  # long ones: 4000 tokens, for what differs on long texts only


KINDS = (
    *("equality", "rows", "roofline", "rankings", "memory", "parity", "attention", "budget"),
    *("recovery", "targets", "skipped"),
)


class Results(SimpleNamespace):
    """All that was measured, as it goes into the JSON file: a list of records of each kind."""

    def __init__(self, machine: dict[str, Any], options: dict[str, Any]) -> None:
        lists: dict[str, Any] = {kind: [] for kind in KINDS}
        super().__init__(machine=machine, options=options, data="", curve={}, **lists)


class Bench:
    """Runs the parts for one model.

    Args:
        options: The options.
        shape: The model's shape.
        results: Where what is measured goes.
    """

    def __init__(self, options: argparse.Namespace, shape: str, results: Results) -> None:
        self.options, self.shape, self.results = options, shape, results
        config = models.configuration(shape, options.weights).get_text_config()
        self.vocabulary = min(config.vocab_size, data.VOCABULARY)
        self.pairs, results.data = data.load_pairs(data.CACHE, self.vocabulary, options.toy)
        self.tokenizer = data.number_tokenizer(self.vocabulary)
        place = {"device": options.device, "weights": options.weights}
        self.make = partial(models.ModelSet, shape, **place, drawn="bfloat16")

    @cached_property
    def sets(self) -> dict[str, models.ModelSet]:
        """The models by precision, made when the first part asks for them."""
        options = self.options
        return {
            name: models.ModelSet(self.shape, name, options.device, weights=options.weights)
            for name in options.precision
        }

    @property
    def first(self) -> models.ModelSet:
        """The models in the first precision."""
        return next(iter(self.sets.values()))

    @cached_property
    def cost(self) -> models.Cost:
        """What a token costs."""
        return self.first.cost()

    def samples_of(self, part: str) -> list[Any]:
        """Draw the texts of each round of scoring, training or rankings of so many responses."""
        options = self.options
        if part.startswith("rankings"):
            each, scale = options.rankings_per_step, 0.1 if options.toy else 1.0
            draw = partial(data.draw_rankings, each, int(part.split()[-1]), self.vocabulary)
            return [draw(seed, scale) for seed in range(options.train_rounds)]
        count, longest, rounds = options.pairs, LONGEST, options.rounds
        if part == "training":
            count, rounds = options.steps * options.pairs_per_step, options.train_rounds
            longest = LONGEST_TRAINED
        return [data.sample(self.pairs, count, longest, seed) for seed in range(rounds)]

    def warm_up(self, count: int = 2) -> Any:
        """Two pairs of middling length; on a GPU, where token budgets are tuned, more of them."""
        if self.options.device.type == "cuda":
            return data.sample(self.pairs, count, LONGEST_TRAINED, seed=-1)
        by_length = sorted(self.pairs, key=lambda pair: sum(map(len, pair)))
        middle = len(by_length) // 2
        return by_length[middle : middle + 2]

    def rates(self) -> dict[str, float]:
        """Measure the matrix rate in each precision."""
        seconds = 0.02 if self.options.toy else 0.3
        dtypes, device = models.PRECISIONS, self.options.device
        return {
            name: measure.matrix_rate(own.widths, dtypes[name], device, seconds)
            for name, own in self.sets.items()
        }

    def measure(
        self,
        part: str,
        unit: str,
        rows: Any,
        samples: list[Any],
        warm_up: Any,
        expanded: dict[str, list[Any]] | None = None,
    ) -> list[Record]:
        """Time rows; keep, print and return what comes out (see ``records``)."""
        measure.say(f"{part}, {self.shape}: {len(rows)} rows")
        before = self.rates()
        timings = measure.time_rows(rows, samples, warm_up, self.options.device)
        rates = {name: (before[name] + after) / 2 for name, after in self.rates().items()}
        found = records(self, part, timings, samples, rates, expanded or {})
        self.results.rows += found
        print_records(found, unit)
        if "roofline" in self.options.part:
            self.results.roofline += roofline(self, part, samples, rates, found)
        return found

    def equality(self) -> None:
        """Check that tree and padded agree: this model, and a tiny one in float32."""
        small = "tiny" if self.shape in models.GPT2_SHAPES else "tiny-llama"
        checked = list(self.sets.values())
        if (self.shape, "float32") not in {(small, name) for name in self.sets}:
            checked.append(models.ModelSet(small, "float32", self.options.device))
        for own in checked:
            pairs = self.warm_up()
            if own.shape != self.shape:
                pairs = [tuple([i % 500 for i in side] for side in pair) for pair in pairs]
            self.results.equality.append(equality(own, pairs, self.tokenizer))

    def scoring(self) -> None:
        """Score pairs in every way, and note how far rewards differ."""
        rewards: dict[Any, Any] = {}
        rows, samples = scoring_rows(self.sets, rewards), self.samples_of("scoring")
        warm_up = self.warm_up(self.options.pairs)
        for record in self.measure("scoring", "pairs", rows, samples, warm_up):
            own, stock = (rewards.get((n, record["precision"])) for n in (record["row"], "paper"))
            if own is not None and stock is not None:
                record["difference_to_paper"] = difference(own, stock)

    def responses(self) -> None:
        """Best of n: 16 responses of 64 tokens to a prompt of 400, EOS included."""
        options, draw = self.options, random.Random(0)
        lengths = [RESPONSE_TOKENS - 1] * (4 if options.toy else RESPONSES)
        prompt = 50 if options.toy else PROMPT_TOKENS
        samples = [
            [data.branches(draw, self.vocabulary, prompt, lengths)] for _ in range(options.rounds)
        ]
        rows = scoring_rows(self.sets, {})
        self.measure("responses", "prompts", rows, samples, [samples[0][0][:2]])

    def training(self) -> None:
        """Train on pairs in every way."""
        options = self.options
        rows = training.training_rows(
            self.sets, self.tokenizer, options.pairs_per_step, options.row
        )
        if not rows:
            self.results.skipped.append(f"training, {self.shape}: no row is among those wanted")
            return
        warm_up = self.warm_up(options.steps * options.pairs_per_step)
        samples = self.samples_of("training")
        for record in self.measure("training", "pairs", rows, samples, warm_up):
            own, record["weights_bytes"] = self.sets[record["precision"]], None
            if not record["skipped"]:  # of the weights that a row trains on, with adapters
                used = own.quantised() if record["row"] == "qlora" else own.ours(lora=True)
                record["weights_bytes"] = models.bytes_of(used)

    def rankings(self) -> None:
        """Train on rankings in every way, in the first precision, a step of each round."""
        options = self.options
        own = self.first
        for responses in options.responses_per_ranking:
            part = f"rankings of {responses}"
            samples = self.samples_of(part)
            # on a GPU a whole step, by which token budgets are tuned
            warm_up = samples[0] if options.device.type == "cuda" else [samples[0][0][:2]]
            losses: dict[str, list[float]] = {}
            rows = training.ranking_rows(own, self.tokenizer, losses)
            pairs = [data.pairs_of(rankings) for rankings in samples]
            self.measure(part, "rankings", rows, samples, warm_up, {"pairs": pairs, "trl": pairs})
            # of rows that ran in every round, without the warm-up
            steps = {name: own[1:] for name, own in losses.items() if len(own) == 1 + len(samples)}
            by_round = list(zip(*steps.values(), strict=True))
            self.results.rankings.append(
                {
                    "part": part,
                    "model": self.shape,
                    "precision": own.precision,
                    "responses": responses,
                    "pairs_per_step": len(pairs[0]),
                    "losses": steps,
                    "difference": max((max(step) - min(step) for step in by_round), default=nan),
                }
            )

    def curve(self) -> None:
        """Losses of the first steps, from the same start on the same pairs."""
        if "float32" not in self.sets:
            self.results.skipped.append(f"curve, {self.shape}: it is compared in float32")
            return
        count = CURVE_PAIRS * (4 if self.options.toy else CURVE_STEPS)
        pairs = data.sample(self.pairs, count, LONGEST_TRAINED, 0)
        curves = training.loss_curves(self.sets["float32"], self.tokenizer, pairs, CURVE_PAIRS)
        tree = curves["tree"]
        self.results.curve = {
            "model": self.shape,
            "losses": curves,
            "differences": {
                name: max(abs(a - b) for a, b in zip(losses, tree, strict=True))
                for name, losses in curves.items()
                if name != "tree" and isinstance(losses, list) and isinstance(tree, list)
            },
        }

    def memory(self) -> None:
        """Measure TRL's memory and ours, in the first precision, each in its own process."""
        precision = self.options.precision[0]
        for row in MEMORY_ROWS.get(self.options.device.type, ()):
            if row == "trl" and measure.trl_version() is None:
                self.results.skipped.append("memory of TRL: it is not installed")
                continue
            measure.say(f"memory, {self.shape}, {precision}: {row}")
            self.results.memory.append(self._child(row, precision))

    def checked_pairs(self, count: int = CHECKED_PAIRS, longest: int = CHECKED_LENGTH) -> Any:
        """Draw the pairs of a check; a few where the script is only tried."""
        return data.sample(self.pairs, TOY_PAIRS if self.options.toy else count, longest, 0)

    def parity(self) -> None:
        """Compare all ways in all precisions."""
        self.results.parity += parity(self.make, self.checked_pairs(), self.tokenizer)

    def attention(self) -> None:
        """Time every kind of attention on a few long pairs, in the first precision."""
        options = self.options
        pairs = data.sample(self.pairs, 512, LONGEST_TRAINED, 0)
        self.results.attention += attention(
            self.make,
            options.precision[0],
            sorted(pairs, key=lambda pair: max(map(len, pair)))[-LONG_PAIRS:],
            self.tokenizer,
            quick=options.toy,
        )

    def budget(self) -> None:
        """Tune the budget of scoring in each way, in the first precision."""
        options = self.options
        dtype = models.PRECISIONS[self.first.precision]
        start = 64 if options.toy else default_tokens(options.device, dtype)
        count, most = (16, 4 * start) if options.toy else (1024, 32 * start)
        pairs = data.sample(self.pairs, count, LONGEST, 0)
        self.results.budget += tuning(self.first, pairs, start, most)

    def recovery(self) -> None:
        """Score with too little memory, in the first precision."""
        self.results.recovery += recovery(self.first, self.checked_pairs(64, LONGEST))

    def qlora(self) -> None:
        """Compare tree and padded on weights in 4 bits, if they can be had here."""
        own = self.sets.get("bfloat16")
        if own is None:
            self.results.skipped.append("qlora: it computes in bfloat16")
            return
        try:
            own.quantised()
        except HiddenContextError as error:
            self.results.skipped.append(f"qlora: {error}")
            return
        found = equality(own, self.checked_pairs(), self.tokenizer, quantised=True)
        self.results.equality.append(found)

    def _child(self, row: str, precision: str) -> dict[str, Any]:
        options = self.options
        command = [sys.executable, str(SCRIPT), "--memory_of", row]
        command += [] if options.weights else ["--model", self.shape]
        command += ["--precision", precision, *(["--toy"] if options.toy else [])]
        for name in ("device", "weights", "pairs_per_step", "threads"):
            value = getattr(options, name)
            command += [f"--{name}", str(value)] if value is not None else []
        done = subprocess.run(command, capture_output=True, text=True)
        found = {"model": self.shape, "precision": precision, "row": row, "peak_bytes": None}
        if done.returncode:  # killed for want of memory, say
            last = done.stderr.strip().splitlines()[-1:]
            return {**found, "skipped": f"exit code {done.returncode}: {' '.join(last)}"}
        return {**found, **json.loads(done.stdout.splitlines()[-1]), "skipped": None}
