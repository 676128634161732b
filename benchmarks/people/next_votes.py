"""How many votes ``hidden-context next`` saves: votes of real people, hidden and revealed in order.

    python benchmarks/people/next_votes.py run --data ukp --protocol held --output /tmp/next
    python benchmarks/people/next_votes.py report --output /tmp/next

Every policy reveals votes in batches; after each batch the same estimator, the one of the package,
estimates the shares of all items. Two protocols:

- ``all``: every vote can be asked for, and the truth is the share of all of an item's votes.
- ``held``: some votes are never asked for, and are the truth (2 of 5 on UKP, half of the raters on
  PluriHarms). The noise of the truth is taken off, so that the error is that of the shares of
  everybody: ``|estimate − truth|² − var(truth)`` is unbiased.

A run that was interrupted goes on where it stopped: one file for each policy and seed.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kit import markdown, script_parser
from people.data import load

from hidden_context.acquisition.forecast import ShareForecast, Sizes, forecast_shares
from hidden_context.acquisition.pool import make_pool
from hidden_context.acquisition.select import Limits, choose_votes
from hidden_context.check.features import word_features
from hidden_context.check.items import Items
from hidden_context.data.splits.division import SplitOptions
from hidden_context.data.storage.files import read_json, write_json
from hidden_context.statistics.checks import places
from hidden_context.statistics.votes.posterior import LEAN, SharePosterior, fit_strength

POLICIES = (
    *("random", "round_robin", "linear", "entropy", "next", "next_lean", "next_informative"),
    "counting",
)
"""``counting`` is random order with shares counted, not predicted."""
FRACTIONS = (0.04, 0.08, 0.12, 0.16, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
LEVELS = (0.2, 0.4, 0.6, 0.8)
REFIT = (0.04, 0.2, 0.5)
"""Fractions at which the variances of the forecast's priors are fitted anew."""


class World:
    """The votes of a data set, the annotators who can be asked, and the truth."""

    def __init__(self, name: str, folder: Path, protocol: str, seed: int) -> None:
        column = {"ukp": "topic", "pluriharms": "item"}[name]
        self.items = make_pool(load(name, folder).examples, [], SplitOptions(column)).items
        self.table = self.items.votes.table
        self.group = self.items.group
        self.answers = np.eye(3)[self.table.answer]
        self.generator = np.random.default_rng(seed)
        fixed = word_features(self.items)(np.arange(len(self.items.responses)))
        self.features = lambda learn: fixed
        self.order = self.generator.random(len(self.table))
        self.protocol = protocol
        held = self._held(name) if protocol == "held" else np.zeros(len(self.table), bool)
        self.can_ask = ~held
        votes = self._count(held if protocol == "held" else self.can_ask)
        n = votes.sum(1)
        self.truth = votes / n[:, None]
        self.noise = np.zeros((len(n), 2))
        if protocol == "held":
            lean = self.truth @ LEAN
            spread = [(self.truth * (1 - self.truth)).sum(1), self.truth @ LEAN**2 - lean**2]
            self.noise = np.stack(spread, 1) / (n - 1)[:, None]
        self.askable = self._count(self.can_ask).sum(1).astype(int)

    def _held(self, name: str) -> Any:
        table = self.table
        if name == "ukp":  # two votes of each item, drawn at random
            return places(table.item, np.argsort(self.generator.random(len(table)))) < 2
        half = self.generator.permutation(table.annotators) < table.annotators // 2
        return half[table.annotator]

    def _count(self, rows: Any) -> Any:
        found = np.zeros((len(self.items), 3))
        np.add.at(found, self.table.item[rows], self.answers[rows])
        return found

    def seen(self, asked: Any) -> Items:
        """Items with the votes that were asked for alone."""
        votes = dataclasses.replace(self.items.votes, table=self.table.select(asked))
        return dataclasses.replace(self.items, votes=votes)

    def errors(self, posterior: SharePosterior) -> Any:
        """Squared errors of the three shares and of the lean, ``(I, 2)``."""
        off = posterior.estimate - self.truth
        return np.stack([(off**2).sum(1), (off @ LEAN) ** 2], axis=1) - self.noise


def estimate(world: World, asked: Any, sizes: Sizes | None) -> tuple[ShareForecast, SharePosterior]:
    """Estimate the shares by the package's own way."""
    items = world.seen(asked)
    found = forecast_shares(items, world.features, sizes)
    return found, _posterior(world, items, found.shares, found.variance)


def _posterior(world: World, items: Items, shares: Any, variance: Any) -> SharePosterior:
    _, strength = fit_strength(shares, variance, items.counts)
    planned = None if world.protocol == "held" else world.askable.astype(float)
    return SharePosterior(shares, strength, items.counts, planned)


def counted(world: World, asked: Any) -> SharePosterior:
    """Estimate the shares by counting: all items have the same prior."""
    items = world.seen(asked)
    total = items.counts.sum(0) + 0.5
    shares = np.tile(total / total.sum(), (len(items), 1))
    return _posterior(world, items, shares, np.zeros(len(items)))


def batch(
    policy: str, world: World, asked: Any, size: int, known: tuple[Any, SharePosterior] | None
) -> Any:
    """Votes per item to be revealed next, ``(I,)``."""
    have = np.bincount(world.table.item[asked], minlength=len(world.items))
    left = world.askable - have
    if policy in ("random", "counting"):
        rows = np.repeat(np.arange(len(left)), left)
        return np.bincount(world.generator.permutation(rows)[:size], minlength=len(left))
    ties = world.generator.random(len(left))
    if known is None or policy == "round_robin":
        return _largest(lambda step: ties / 2 - (have + step), left, size)
    forecast, posterior = known
    if policy == "linear":
        return _largest(lambda step: -np.abs(forecast.linear - 0.5) + 0 * step, left, size)
    if policy == "entropy":
        entropy = -(posterior.mean * np.log(posterior.mean)).sum(1)
        return _largest(lambda step: entropy - 1e-9 * step, left, size)
    aim = "lean" if policy == "next_lean" else "shares"
    drops = posterior.drops(aim, min(int(left.max()), size))
    order = world.generator.permutation(len(left))  # ties go to any item
    limits = Limits(size, 1.0, left[order], world.group[order])
    votes = choose_votes(drops[:, order], limits, np.arange(len(left)))
    return np.bincount(order[[vote.item for vote in votes]], minlength=len(left))


def _largest(value: Any, left: Any, size: int) -> Any:
    """Take the largest values; value(step) is that of an item's next vote but ``step``."""
    deep = int(left.max())
    values = np.array([np.where(step < left, value(step), -np.inf) for step in range(deep)])
    chosen = np.argsort(-values.T.reshape(-1), kind="stable")[:size]
    return np.bincount(chosen // deep, minlength=len(left))


def informative(items: Items, predicted: Any) -> Any:
    """How informative an annotator's votes are, 1 on average.

    The squared slope of an annotator's votes (1, ½, 0) on the lean that is predicted without them,
    drawn to everybody's slope by 20 votes; half of its standard error is added, so that annotators
    who are little known are asked as well.
    """
    votes = items.votes.table.select(items.votes.table.named)
    people = len(items.votes.names)
    if not len(votes) or not people:
        return np.ones(people)
    x = (predicted @ LEAN)[votes.item] - 0.5
    y = votes.share - 0.5
    size = float((x * x).mean())
    everybody = float((x * y).sum()) / max(float((x * x).sum()), 1e-12)
    spread = float(np.mean((y - everybody * x) ** 2))
    known = np.bincount(votes.annotator, x * x, people) + 20.0 * size
    own = np.bincount(votes.annotator, x * y, people) + 20.0 * size * everybody
    slope = own / np.maximum(known, 1e-12)
    weight = np.maximum(slope + np.sqrt(spread / np.maximum(known, 1e-12)) / 2, 0.1) ** 2
    return weight / weight.mean()


def reveal(world: World, asked: Any, new: Any, preferred: Any = None) -> None:
    """Reveal as many votes of each item as asked for, in random order or by preference."""
    free = np.flatnonzero(world.can_ask & ~asked)
    rank = world.order[free] if preferred is None else -preferred[free] + 1e-6 * world.order[free]
    item = world.table.item[free]
    asked[free[places(item, np.argsort(rank, kind="stable")) < new[item]]] = True


def simulate(name: str, folder: Path, protocol: str, policy: str, seed: int) -> dict[str, Any]:
    """Reveal all votes by a policy; sums of errors by group after each batch."""
    world = World(name, folder, protocol, seed)
    asked = np.zeros(len(world.table), bool)
    total, known, sizes, rows = int(world.askable.sum()), None, None, []
    for fraction in FRACTIONS:
        size = round(fraction * total) - int(asked.sum())
        preferred = None
        if policy == "next_informative" and known is not None:
            preferred = informative(world.seen(asked), known[0].shares)[world.table.annotator]
        reveal(world, asked, batch(policy, world, asked, size, known), preferred)
        assert asked.sum() == round(fraction * total)
        if policy == "counting":
            posterior = counted(world, asked)
        else:
            sizes = None if fraction in REFIT else sizes
            known = estimate(world, asked, sizes)
            sizes, posterior = known[0].sizes, known[1]
        sums = [np.bincount(world.group, error).tolist() for error in world.errors(posterior).T]
        expected = [float(posterior.expected_error(aim).mean()) for aim in ("shares", "lean")]
        rows.append({"fraction": fraction, "sums": sums, "expected": expected})
    return {"votes": total, "items": np.bincount(world.group).tolist(), "rows": rows}


def run(arguments: argparse.Namespace) -> None:
    """Run what has not been run yet."""
    folder = Path(os.environ["HIDDEN_CONTEXT_DATA"])
    for seed in arguments.seeds:
        for policy in arguments.policies:
            name = f"{arguments.data}-{arguments.protocol}-{policy}-{seed}.json"
            path = arguments.output / name
            if path.exists():
                continue
            start = time.perf_counter()
            found = simulate(arguments.data, folder, arguments.protocol, policy, seed)
            found["seconds"] = time.perf_counter() - start
            write_json(path, found, indent=None)
            print(name, f"{found['seconds']:.0f} s", flush=True)


def bound(name: str, folder: Path) -> dict[str, Any]:
    """Votes that even an order would need that knew each item's shares, for the error of random.

    Of votes that are not asked for, nobody can know more than the shares they are drawn from: each
    adds its variance to the error. Random order leaves average votes, the best order the surest.
    """
    world = World(name, folder, "all", 0)
    shares = estimate(world, world.can_ask, None)[1].mean
    found = {}
    lean = shares @ LEAN**2 - (shares @ LEAN) ** 2
    for label, each in (("three_way", (shares * (1 - shares)).sum(1)), ("two_way", lean)):
        variance = np.sort((each / world.askable**2)[world.table.item[world.can_ask]])
        left = np.cumsum(variance) / variance.sum()
        unasked = [np.searchsorted(left, 1 - f) / len(left) for f in LEVELS]
        found[label] = {str(f): float((1 - u) / f) for f, u in zip(LEVELS, unasked, strict=True)}
    return found


def votes_needed(curve: Any, error: float) -> float:
    """Fraction of the votes at which a curve first comes down to an error, between batches.

    The first batch's fraction where it is below the error from the start; NaN if never.
    """
    down = np.minimum.accumulate(curve)
    if error < down[-1]:
        return float("nan")
    return float(np.interp(-error, -down, FRACTIONS))


def ratios(sums: dict[str, Any], items: Any, base: str, kind: int, draws: int = 1000) -> Any:
    """Votes needed for the error of ``base`` at each level, with intervals over groups."""
    groups = len(items)
    drawn = np.random.default_rng(0).multinomial(groups, np.full(groups, 1 / groups), size=draws)
    weights = np.concatenate([np.ones((1, groups), int), drawn])
    found: dict[str, Any] = {}
    for policy, each in sums.items():
        values = []
        for weight in weights:
            size = weight @ items
            own, other = (x[:, kind] @ weight / size for x in (each, sums[base]))
            reached = np.interp(LEVELS, FRACTIONS, np.minimum.accumulate(other))
            values.append([votes_needed(own, e) / f for e, f in zip(reached, LEVELS, strict=True)])
        # never is later than any level
        drawn = np.nan_to_num(np.array(values[1:]), nan=np.inf)
        low, high = np.quantile(drawn, [0.025, 0.975], axis=0, method="nearest")
        found[policy] = {
            str(f): [float(v) if np.isfinite(v) else None for v in (values[0][n], low[n], high[n])]
            for n, f in enumerate(LEVELS)
        }
    return found


def report(arguments: argparse.Namespace) -> None:
    """Write ``next_votes.json`` and print the tables."""
    result: dict[str, Any] = {}
    for data in ("ukp", "pluriharms"):
        for protocol in ("all", "held"):
            sums, items, seeds = {}, None, {}
            for policy in POLICIES:
                paths = sorted(arguments.output.glob(f"{data}-{protocol}-{policy}-*.json"))
                runs = [read_json(path) for path in paths]
                if runs:  # sums of errors averaged over seeds, (F, 2, G), and items by group
                    sums[policy] = np.mean([[r["sums"] for r in run["rows"]] for run in runs], 0)
                    items, seeds[policy] = np.array(runs[0]["items"], float), len(runs)
            if "random" not in sums:
                continue
            entry: dict[str, Any] = {"seeds": seeds}
            if protocol == "all":
                entry["bound"] = bound(data, Path(os.environ["HIDDEN_CONTEXT_DATA"]))
            for kind, label in enumerate(("three_way", "two_way")):
                errors = {p: s[:, kind].sum(1) / items.sum() for p, s in sums.items()}
                entry[label] = {
                    "error": {
                        p: {str(f): float(error) for f, error in zip(FRACTIONS, each, strict=True)}
                        for p, each in errors.items()
                    }
                }
                for base in {"random", "counting"} & set(sums):
                    entry[label][f"votes_for_{base}"] = ratios(sums, items, base, kind)
            result[f"{data} {protocol}"] = entry
    write_json(arguments.output / "next_votes.json", result)
    for name, entry in result.items():
        print(f"{name}, bound: {entry.get('bound')}, seeds: {entry['seeds']}\n")
        for label in ("three_way", "two_way"):
            for base in ("votes_for_random", "votes_for_counting"):
                rows = [
                    [policy, *(_cell(value, float(f)) for f, value in levels.items())]
                    for policy, levels in entry[label].get(base, {}).items()
                ]
                heads = ["policy", *(f"{level:.0%}" for level in LEVELS)]
                print(markdown(heads, rows, f"{name}, {label}, {base}"))


def _cell(value: list[float | None], level: float) -> str:
    middle, low, high = value
    if middle is None:
        return "never"
    mark = "≤" if middle <= FRACTIONS[0] / level + 1e-9 else ""
    ends = ["never" if end is None else f"{end:.2f}" for end in (low, high)]
    return f"{mark}{middle:.2f} [{ends[0]}, {ends[1]}]"


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("verb", choices=("run", "report"))
    parser.add_argument("--data", choices=("ukp", "pluriharms"), default="ukp")
    parser.add_argument("--protocol", choices=("all", "held"), default="held")
    parser.add_argument("--policies", nargs="*", choices=POLICIES, default=list(POLICIES))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    (run if arguments.verb == "run" else report)(arguments)


if __name__ == "__main__":
    main()
