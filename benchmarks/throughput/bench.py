"""The parts of the throughput benchmark, for one model."""

from __future__ import annotations

import argparse
import gc
import json
import random
import subprocess
import sys
from functools import cached_property
from math import nan
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from throughput.data import branches, load_pairs, number_tokenizer, sample
from throughput.measure import (
    forget_peak,
    matrix_rate,
    peak_rate,
    peak_resident_bytes,
    resident_bytes,
    time_rows,
    trl_version,
)
from throughput.models import GPT2_SHAPES, PRECISIONS, Cost, ModelSet, bytes_of, configuration
from throughput.rankings import draw_rankings, pairs_of, ranking_rows, steps_of
from throughput.report import print_records, records, roofline
from throughput.scoring import difference, equality, scoring_rows
from throughput.training import TrainingOptions, loss_curves, trainers, training_rows

SCRIPT = Path(__file__).with_name("run.py")
MEMORY_ROWS = {"cpu": ("trl", "tree"), "cuda": ("trl", "padded", "tree")}
RESPONSES, PROMPT_TOKENS, RESPONSE_TOKENS = 16, 400, 64


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


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
        config = configuration(shape, options.weights).get_text_config()
        vocabulary = min(config.vocab_size, 32_000)
        self.vocabulary = vocabulary
        self.pairs, results.data = load_pairs(options.cache, vocabulary, options.toy)
        self.tokenizer = number_tokenizer(vocabulary)
        self.dtypes = PRECISIONS

    @cached_property
    def sets(self) -> dict[str, ModelSet]:
        """The models by precision, made when the first part asks for them."""
        options = self.options
        return {
            name: ModelSet(self.shape, name, options.device, weights=options.weights)
            for name in options.precision
        }

    @cached_property
    def cost(self) -> Cost:
        """What a token costs."""
        return next(iter(self.sets.values())).cost()

    def samples(self, count: int, longest: int, rounds: int) -> list[Any]:
        """Draw the pairs of each round."""
        seed = self.options.seed
        return [sample(self.pairs, count, longest, seed + number) for number in range(rounds)]

    def warm_up(self, count: int = 2) -> Any:
        """Two pairs of middling length; on a GPU, where token budgets are tuned, more of them."""
        if self.options.device.type == "cuda":
            return sample(self.pairs, count, self.options.train_max_length, seed=-1)
        by_length = sorted(self.pairs, key=lambda pair: sum(map(len, pair)))
        middle = len(by_length) // 2
        return by_length[middle : middle + 2]

    def rates(self) -> dict[str, float]:
        """Measure the matrix rate in each precision."""
        seconds = 0.02 if self.options.toy else 0.3
        return {
            name: matrix_rate(models.widths, self.dtypes[name], self.options.device, seconds)
            for name, models in self.sets.items()
        }

    def measure(
        self,
        part: str,
        unit: str,
        rows: Any,
        samples: list[Any],
        warm_up: Any,
        expanded: dict[str, list[Any]] | None = None,
    ) -> None:
        """Time rows, and keep and print what comes out (see ``records``)."""
        say(f"{part}, {self.shape}: {len(rows)} rows")
        before = self.rates()
        timings = time_rows(rows, samples, warm_up, self.options.device, say)
        after = self.rates()
        rates = {name: (before[name] + after[name]) / 2 for name in before}
        peak = peak_rate(self.options.device, self.options.peak_tflops)
        found = records(part, self.shape, timings, samples, self.cost, rates, expanded or {}, peak)
        self.results.rows += found
        print_records(found, unit)
        if "roofline" in self.options.part:
            self.results.roofline += roofline(part, self.shape, samples, self.cost, rates, found)

    def equality(self) -> None:
        """Check that tree and padded agree: this model, and a tiny one in float32."""
        say(f"equality, {self.shape}")
        small = "tiny" if self.shape in GPT2_SHAPES else "tiny-llama"
        checked = list(self.sets.values())
        if (self.shape, "float32") not in {(small, name) for name in self.sets}:
            checked.append(ModelSet(small, "float32", self.options.device))
        for models in checked:
            pairs = self.warm_up()
            if models.shape != self.shape:
                pairs = [tuple([i % 500 for i in side] for side in pair) for pair in pairs]
            self.results.equality.append(equality(models, pairs, self.tokenizer))

    def scoring(self) -> None:
        """Score pairs in every way, and note how far rewards differ."""
        options = self.options
        rewards: dict[Any, Any] = {}
        rows = scoring_rows(
            self.sets, options.tokens_per_batch, options.paper_cache == "on", rewards
        )
        samples = self.samples(options.pairs, options.max_length, options.rounds)
        self.measure("scoring", "pairs", rows, samples, self.warm_up(options.pairs))
        for record in self.results.rows:
            key = (record["row"], record["precision"])
            stock = rewards.get(("paper", record["precision"]))
            if record["model"] == self.shape and key in rewards and stock is not None:
                record["difference_to_paper"] = difference(rewards[key], stock)

    def responses(self) -> None:
        """Best of n: 16 responses of 64 tokens to a prompt of 400, EOS included."""
        options = self.options
        draw = random.Random(options.seed)
        lengths = [RESPONSE_TOKENS - 1] * (4 if options.toy else RESPONSES)
        prompt = 50 if options.toy else PROMPT_TOKENS
        samples = [
            [branches(draw, self.vocabulary, prompt, lengths)] for _ in range(options.rounds)
        ]
        rows = scoring_rows(self.sets, options.tokens_per_batch, options.paper_cache == "on", {})
        self.measure("responses", "prompts", rows, samples, [samples[0][0][:2]])

    def training_options(self, pairs_per_step: int) -> Any:
        """Make what all ways of training have in common."""
        options = self.options
        return TrainingOptions(
            pairs_per_step, options.tokens_per_batch, options.paper_cache == "on", seed=options.seed
        )

    def training(self) -> None:
        """Train on pairs in every way."""
        options = self.options
        rows = training_rows(
            self.sets, self.tokenizer, self.training_options(options.pairs_per_step), options.row
        )
        if not rows:
            self.results.skipped.append(f"training, {self.shape}: no row is among those wanted")
            return
        count = options.steps * options.pairs_per_step
        samples = self.samples(count, options.train_max_length, options.train_rounds)
        self.measure("training", "pairs", rows, samples, self.warm_up(count))
        for record in self.results.rows:
            if record["part"] == "training" and record["model"] == self.shape:
                record["weights_bytes"] = self._weights_bytes(record)

    def _weights_bytes(self, record: dict[str, Any]) -> int | None:
        """Memory of the weights that a row trains on, adapters included."""
        models = self.sets[record["precision"]]
        if record["skipped"]:
            return None
        quantised = record["row"] == "qlora"
        return bytes_of(models.quantised() if quantised else models.ours(lora=True))

    def rankings(self) -> None:
        """Train on rankings in every way, in the first precision, a step of each round."""
        options = self.options
        models = next(iter(self.sets.values()))
        scale = 0.1 if options.toy else 1.0
        for responses in options.responses_per_ranking:
            samples = [
                draw_rankings(options.rankings_per_step, responses, self.vocabulary, seed, scale)
                for seed in range(options.seed, options.seed + options.train_rounds)
            ]
            # on a GPU a whole step, by which token budgets are tuned
            warm_up = samples[0] if options.device.type == "cuda" else [samples[0][0][:2]]
            losses: dict[str, list[float]] = {}
            rows = ranking_rows(models, self.tokenizer, self.training_options(0), losses)
            pairs = [pairs_of(rankings) for rankings in samples]
            part = f"rankings of {responses}"
            expanded = {"pairs": pairs, "trl": pairs}
            self.measure(part, "rankings", rows, samples, warm_up, expanded)
            steps = steps_of(losses, len(samples))
            by_round = list(zip(*steps.values(), strict=True))
            self.results.rankings.append(
                {
                    "part": part,
                    "model": self.shape,
                    "precision": models.precision,
                    "responses": responses,
                    "pairs_per_step": len(pairs[0]),
                    "losses": steps,
                    "difference": max((max(step) - min(step) for step in by_round), default=nan),
                }
            )

    def curve(self) -> None:
        """Losses of the first steps, from the same start on the same pairs."""
        options = self.options
        if "float32" not in self.sets:
            self.results.skipped.append(f"curve, {self.shape}: it is compared in float32")
            return
        say(f"curve, {self.shape}")
        count = options.curve_steps * options.curve_pairs
        pairs = sample(self.pairs, count, options.train_max_length, options.seed)
        curves = loss_curves(
            self.sets["float32"], self.tokenizer, pairs, self.training_options(options.curve_pairs)
        )
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
            if row == "trl" and trl_version() is None:
                self.results.skipped.append("memory of TRL: it is not installed")
                continue
            say(f"memory, {self.shape}, {precision}: {row}")
            self.results.memory.append(self._child(row, precision))

    def _child(self, row: str, precision: str) -> dict[str, Any]:
        options = self.options
        command = [sys.executable, str(SCRIPT), "--memory_of", row]
        command += [] if options.weights else ["--model", self.shape]
        command += ["--precision", precision, *(["--toy"] if options.toy else [])]
        names = ("device", "seed", "weights", "cache", "paper_cache", "train_max_length")
        for name in (*names, "pairs_per_step", "threads", "tokens_per_batch"):
            value = getattr(options, name)
            command += [f"--{name}", str(value)] if value is not None else []
        done = subprocess.run(command, capture_output=True, text=True)
        found = {"model": self.shape, "precision": precision, "row": row, "peak_bytes": None}
        if done.returncode:  # killed for want of memory, say
            last = done.stderr.strip().splitlines()[-1:]
            return {**found, "skipped": f"exit code {done.returncode}: {' '.join(last)}"}
        return {**found, **json.loads(done.stdout.splitlines()[-1]), "skipped": None}


def memory_of(options: argparse.Namespace) -> dict[str, int]:
    """Measure, in this process, the peak of one optimiser step above the model's own memory.

    On a GPU it is the device's memory, and the step after the one for which budgets are tuned.
    """
    if options.memory_of == "trl":
        import trl.trainer.reward_trainer  # noqa: F401  its own size is no part of the peak
    bench = Bench(options, options.model[0], Results({}, {}))
    models = bench.sets[options.precision[0]]
    train = trainers(models, bench.tokenizer, options.tokens_per_batch)[options.memory_of]
    models.ours(lora=True) if options.memory_of in ("padded", "tree") else models.stock(lora=True)
    pairs = sample(bench.pairs, options.pairs_per_step, options.train_max_length, options.seed)
    wanted = bench.training_options(options.pairs_per_step)
    if options.device.type == "cuda":
        train(pairs, wanted)
        gc.collect()
        torch.cuda.reset_peak_memory_stats(options.device)
        before = torch.cuda.memory_allocated(options.device)
        train(pairs, wanted)
        peak = torch.cuda.max_memory_allocated(options.device)
    else:
        gc.collect()
        forget_peak()
        before = resident_bytes()
        train(pairs, wanted)
        peak = peak_resident_bytes()
    return {"model_bytes": before, "peak_bytes": peak - before}
