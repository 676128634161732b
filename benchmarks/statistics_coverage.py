"""Whether intervals cover the truth as often as they say, and tests reject as often as they may.

Simulates data sets whose truth is known: prompts with effects of their own, several pairs each,
normal rewards of unequal spread. Prints a table and writes the numbers as JSON:

    python benchmarks/statistics_coverage.py --data_sets 300 --prompts 30 100 500 2000 --pairs 500

- Coverage of the 95 % intervals by prompt, of the same statistics on an unlimited evaluation set.
- Rejections at 5 % by each test of data in which there is nothing to find.
- Power of the tests of hidden context where two objectives hide.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import ndtr

from hidden_context.data.files import write_json
from hidden_context.quickstart.utilities import KINDS
from hidden_context.quickstart.world import World
from hidden_context.statistics.agreement import auroc, contested, diverging_auroc, vote_correlation
from hidden_context.statistics.calibration import brier_score, expected_calibration_error
from hidden_context.statistics.context_tests import annotator_permutation_test, common_sigma_test
from hidden_context.statistics.explained import (
    explained_moments,
    explained_variance_of_sums,
    within_moments,
    within_variance_of_sums,
)
from hidden_context.statistics.interval import Interval, cluster_interval, cluster_sums, ratio
from hidden_context.statistics.paired import mcnemar_test, paired_difference

Floats = NDArray[np.float64]
Row = dict[str, Any]
Trial = Callable[[int], float]
"""Takes the number of a data set to a p-value."""

LEVEL: Final = 0.05
PROMPT_SPREAD: Final = 0.4
NOISE: Final = 0.6
VOTES: Final = 5
OVERSURE: Final = 1.5
PAIRS_PER_PROMPT: Final = 4


@dataclass(frozen=True, eq=False)
class Pairs:
    """Labelled pairs of responses with normal rewards, which the model knows exactly.

    Attributes:
        prompt: ``(N,)``, number of each pair's prompt.
        mean: ``(N, 2)``, mean rewards.
        stddev: ``(N, 2)``, standard deviations.
        label: ``(N,)``, 1 where the annotator prefers the first response, else 0.
        votes: ``(N,)``, share of five other annotators who do.
    """

    prompt: NDArray[np.int64]
    mean: Floats
    stddev: Floats
    label: Floats
    votes: Floats

    @cached_property
    def gap(self) -> Floats:
        """Difference of the mean rewards, ``(N,)``."""
        return np.asarray(self.mean[:, 0] - self.mean[:, 1])

    @cached_property
    def variance(self) -> Floats:
        """Variance of the difference of the rewards, ``(N,)``."""
        return np.asarray(np.square(self.stddev).sum(1))

    @cached_property
    def z(self) -> Floats:
        """The first is preferred with probability Φ(z), ``(N,)``."""
        return np.asarray(self.gap / np.sqrt(self.variance))

    @property
    def features(self) -> Floats:
        """Mean reward and σ of the chosen minus the rejected response."""
        side = 2 * self.label - 1
        return np.stack([side * self.gap, side * (self.stddev[:, 0] - self.stddev[:, 1])], axis=1)


def draw_pairs(prompts: int, generator: np.random.Generator) -> Pairs:
    """Draw pairs: prompts differ in level, in how far responses differ, and in noise."""
    size = 1 + generator.poisson(PAIRS_PER_PROMPT - 1, prompts)
    prompt = np.repeat(np.arange(prompts), size)
    level = generator.normal(size=prompts)[prompt, None]
    spread, noise = np.exp(PROMPT_SPREAD * generator.normal(size=(2, prompts)))[:, prompt, None]
    shape = (len(prompt), 2)
    mean = level + spread * generator.normal(size=shape)
    stddev = NOISE * noise * np.exp(PROMPT_SPREAD * generator.normal(size=shape))
    first = ndtr((mean[:, 0] - mean[:, 1]) / np.sqrt(np.square(stddev).sum(1)))
    label = (generator.random(len(prompt)) < first).astype(float)
    votes = generator.binomial(VOTES, first) / VOTES
    return Pairs(prompt, mean, stddev, label, votes)


# -- coverage ---------------------------------------------------------------------------------


def intervals(pairs: Pairs) -> dict[str, Interval]:
    """Estimate everything whose truth is known, by prompt."""
    moments = explained_moments(pairs.mean.ravel(), np.square(pairs.stddev).ravel())
    within = within_moments(pairs.gap, pairs.variance)
    p = ndtr(pairs.z)

    def mean_of(values: Floats) -> Interval:
        sums = cluster_sums(np.stack([values, np.ones_like(values)], axis=1), pairs.prompt)
        return cluster_interval(sums, ratio, bounds=(0, 1))

    return {
        "r²": cluster_interval(
            cluster_sums(moments, np.repeat(pairs.prompt, 2)),
            explained_variance_of_sums,
            bounds=(0, 1),
        ),
        "r² within prompts": cluster_interval(
            cluster_sums(within, pairs.prompt), within_variance_of_sums, bounds=(0, 1)
        ),
        "accuracy": mean_of(((pairs.gap > 0) == (pairs.label > 0)).astype(float)),
        "Brier score": mean_of(brier_score(p, pairs.label)),
        "ECE, calibrated": expected_calibration_error(p, pairs.label, cluster=pairs.prompt),
        "ECE, too sure": expected_calibration_error(
            ndtr(OVERSURE * pairs.z), pairs.label, cluster=pairs.prompt
        ),
        "AUROC of divergence": diverging_auroc(-np.abs(p - 0.5), pairs.votes, pairs.prompt),
        "Spearman with votes": vote_correlation(p, pairs.votes, pairs.prompt),
    }


@lru_cache
def truths() -> dict[str, float]:
    """What ``intervals`` estimates, in closed form or from some two million pairs."""
    pairs = draw_pairs(500_000, np.random.default_rng(20_231_213))
    p = ndtr(pairs.z)
    square = np.exp(2 * PROMPT_SPREAD**2)  # E[exp(s·z)²]
    noise = NOISE**2 * square**2
    far = ndtr(np.abs(pairs.z))
    return {
        "r²": (1 + square) / (1 + square + noise),
        "r² within prompts": square / (square + noise),
        "accuracy": float(far.mean()),
        "Brier score": float((p * (1 - p)).mean()),
        "ECE, calibrated": 0.0,
        "ECE, too sure": expected_calibration_error(
            ndtr(OVERSURE * pairs.z), p, resamples=2
        ).estimate,
        "AUROC of divergence": auroc(-np.abs(p - 0.5), contested(pairs.votes)),
        "Spearman with votes": float(stats.spearmanr(p, pairs.votes).statistic),
    }


def coverage(prompts: int, data_sets: int, progress: Callable[[str], None]) -> list[Row]:
    """Count how often intervals of one size of data hold the truth."""
    true = truths()
    inside = dict.fromkeys(true, 0)
    width = dict.fromkeys(true, 0.0)
    method = {}
    for number in range(data_sets):
        found = intervals(draw_pairs(prompts, np.random.default_rng([prompts, number])))
        for name, interval in found.items():
            inside[name] += interval.low <= true[name] <= interval.high
            width[name] += (interval.high - interval.low) / data_sets
            method[name] = interval.method
        if number % 50 == 49:
            progress(f"coverage, {prompts} prompts: {number + 1} of {data_sets}")
    return [
        _row("coverage", f"{name}, {prompts} prompts ({method[name]})", inside[name], data_sets)
        | {"truth": true[name], "mean_width": width[name]}
        for name in true
    ]


# -- rejections where there is nothing to find -------------------------------------------------


def null_trials(pairs: int, resamples: int) -> dict[str, Trial]:
    """Tests on data in which their null holds; ``pairs`` is the number of pairs, about."""
    prompts = max(2, pairs // PAIRS_PER_PROMPT)

    def drawn(number: int) -> tuple[Pairs, np.random.Generator]:
        generator = np.random.default_rng([pairs, number, 1])
        return draw_pairs(prompts, generator), generator

    def permutation(annotators: int, block: bool) -> Trial:
        def trial(number: int) -> float:
            data, generator = drawn(number)
            if block:  # whoever gets a prompt judges all its pairs
                who = generator.integers(0, annotators, prompts)[data.prompt]
                conversation = data.prompt
            else:
                who, conversation = generator.integers(0, annotators, len(data.prompt)), None
            return annotator_permutation_test(
                data.features, who, block=conversation, resamples=resamples, seed=number
            ).p_value

        return trial

    def same_pair(number: int) -> float:
        # five annotators judge each pair; who judges what goes by the pair's own gap
        data, generator = drawn(number)
        group = np.argsort(np.argsort(data.gap)) * 4 // len(data.gap)
        who = np.array([5 * g + generator.permutation(5)[:3] for g in group])
        label = (generator.random(who.shape) < ndtr(data.z)[:, None]).astype(float)
        pair = np.broadcast_to(np.arange(len(group))[:, None], who.shape).ravel()
        features = (2 * label - 1) * data.gap[:, None]
        return annotator_permutation_test(
            features.ravel(), who.ravel(), pair, resamples=resamples, seed=number
        ).p_value

    def common_sigma(number: int) -> float:
        data, generator = drawn(number)
        p = ndtr(1.2 * data.gap / np.sqrt(data.variance.mean()))
        label = (generator.random(len(p)) < p).astype(float)
        return common_sigma_test(
            data.gap, data.variance, label, resamples=min(resamples, 199), seed=number
        ).p_value

    def two_models(number: int, clusters: bool) -> tuple[Pairs, list[Floats]]:
        """Two models of equal error; prompts, where they matter, favour one of them."""
        data, generator = drawn(number)
        error = 0.6 * generator.normal(size=(2, len(data.gap)))
        if clusters:
            favour = np.exp(1.0 * generator.normal(size=(2, prompts)))[:, data.prompt]
            error = error * favour
        return data, [data.gap + e for e in error]

    def rightness(data: Pairs, gaps: list[Floats]) -> list[Floats]:
        return [((gap > 0) == (data.label > 0)).astype(float) for gap in gaps]

    def mcnemar(clusters: bool) -> Trial:
        def trial(number: int) -> float:
            data, gaps = two_models(number, clusters)
            return mcnemar_test(*rightness(data, gaps), data.prompt if clusters else None).p_value

        return trial

    def paired_accuracy(number: int) -> float:
        data, gaps = two_models(number, True)
        first, second = rightness(data, gaps)
        columns = np.stack([first, second, np.ones_like(first)], axis=1)
        return paired_difference(
            cluster_sums(columns, data.prompt),
            lambda totals: ratio(totals[..., [0, 2]]),
            lambda totals: ratio(totals[..., [1, 2]]),
            resamples=resamples,
            seed=number,
        ).p_value

    def paired_r2(number: int) -> float:
        data, generator = drawn(number)
        parts = []
        for unit in (1.0, 7.0):  # another unit of reward, equal r² in truth
            mean = unit * (data.mean + 0.5 * generator.normal(size=data.mean.shape))
            stretch = np.exp(0.3 * generator.normal(size=data.mean.shape))
            moments = explained_moments(mean.ravel(), (unit * data.stddev * stretch).ravel() ** 2)
            parts.append(cluster_sums(moments, np.repeat(data.prompt, 2)))
        return paired_difference(
            np.concatenate(parts, axis=1),
            lambda totals: explained_variance_of_sums(totals[..., :4]),
            lambda totals: explained_variance_of_sums(totals[..., 4:]),
            resamples=resamples,
            seed=number,
        ).p_value

    return {
        "annotator permutation, 2 annotators": permutation(2, False),
        f"annotator permutation, {pairs // 5} annotators of about 5": permutation(
            pairs // 5, False
        ),
        "annotator permutation, prompts as blocks": permutation(10, True),
        "annotator permutation, strata are pairs": same_pair,
        "common σ": common_sigma,
        "McNemar, independent pairs": mcnemar(False),
        "McNemar, by prompt": mcnemar(True),
        "paired difference of accuracy": paired_accuracy,
        "paired difference of r²": paired_r2,
    }


# -- power --------------------------------------------------------------------------------------


def power_trials(pairs: int, resamples: int) -> dict[str, Trial]:
    """Tests of hidden context where annotators follow one of two objectives, half and half."""

    def features(number: int) -> tuple[Floats, NDArray[np.bool_], np.random.Generator]:
        world = World(number, helpful_share=0.5)
        generator = np.random.default_rng([number, 2])
        annotators = world.annotators("both")
        rewards = {name: annotators.utility(kind) for name, kind in KINDS.items()}
        rows = world.generate_comparisons(pairs)
        columns = []
        for side in ("chosen", "rejected"):
            kinds = [rewards[row[f"{side}_kind"]] for row in rows]
            columns.append(
                [
                    [kind.mean for kind in kinds] + 0.1 * generator.normal(size=pairs),
                    [kind.stddev for kind in kinds] + 0.1 * generator.normal(size=pairs),
                    [float(len(row[side])) for row in rows],
                ]
            )
        difference = np.subtract(*columns).T
        return difference, np.array([row["objective"] == "helpful" for row in rows]), generator

    def two(number: int) -> float:
        values, helpful, _ = features(number)
        return annotator_permutation_test(
            values, helpful.astype(np.int64), resamples=resamples, seed=number
        ).p_value

    def many(number: int) -> float:
        values, helpful, generator = features(number)
        half = pairs // 10  # annotators of each objective, five pairs each
        who = np.where(helpful, 0, half) + generator.permutation(pairs) % half
        return annotator_permutation_test(values, who, resamples=resamples, seed=number).p_value

    def nobody(number: int) -> float:
        values, _, generator = features(number)
        return annotator_permutation_test(
            values, generator.integers(0, 2, pairs), resamples=resamples, seed=number
        ).p_value

    def own_sigma(number: int) -> float:
        data = draw_pairs(pairs // PAIRS_PER_PROMPT, np.random.default_rng([pairs, number, 3]))
        return common_sigma_test(
            data.gap, data.variance, data.label, resamples=min(resamples, 199), seed=number
        ).p_value

    return {
        f"annotator permutation, 2 objectives as annotators, {pairs} pairs": two,
        f"annotator permutation, {pairs // 5} annotators × 5 pairs": many,
        f"annotator permutation, {pairs} pairs, nothing to find": nobody,
        f"common σ, own σ of each response, {pairs} pairs": own_sigma,
    }


def rejections(
    part: str, trials: dict[str, Trial], data_sets: int, progress: Callable[[str], None]
) -> Iterator[Row]:
    """Count how often each test rejects at 5 %."""
    for name, trial in trials.items():
        started = time.perf_counter()
        rejected = sum(trial(number) <= LEVEL for number in range(data_sets))
        progress(
            f"{part}, {name}: {rejected} of {data_sets}, {time.perf_counter() - started:.0f} s"
        )
        yield _row(part, name, rejected, data_sets)


def _row(part: str, name: str, count: int, total: int) -> Row:
    ends = stats.binomtest(int(count), total).proportion_ci(0.95, "wilson")
    return {
        "part": part,
        "row": name,
        "count": int(count),
        "data_sets": total,
        "share": int(count) / total,
        "low": float(ends.low),
        "high": float(ends.high),
    }


def table(rows: list[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| part | what | share | 95 % of the share | data sets |", "|---|---|--:|--:|--:|"]
    lines += [
        f"| {row['part']} | {row['row']} | {row['share']:.1%} "
        f"| {row['low']:.1%} to {row['high']:.1%} | {row['data_sets']} |"
        for row in rows
    ]
    return "\n".join(lines)


def run(
    data_sets: int,
    prompts: list[int],
    pairs: int,
    power_pairs: int,
    resamples: int = 999,
    progress: Callable[[str], None] = print,
) -> list[Row]:
    """Run all three parts."""
    rows = [row for size in prompts for row in coverage(size, data_sets, progress)]
    rows += rejections("rejected, null", null_trials(pairs, resamples), data_sets, progress)
    rows += rejections("rejected", power_trials(power_pairs, resamples), data_sets, progress)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_sets", type=int, default=300, help="simulated sets of each row")
    parser.add_argument("--prompts", type=int, nargs="+", default=[30, 100, 500, 2000])
    parser.add_argument("--pairs", type=int, default=500, help="pairs of the null data sets")
    parser.add_argument("--power_pairs", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=999)
    parser.add_argument("--output", type=Path, default=Path("results/statistics_coverage.json"))
    options = parser.parse_args()
    rows = run(
        options.data_sets, options.prompts, options.pairs, options.power_pairs, options.resamples
    )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.output, {"level": LEVEL, "rows": rows})
    print(table(rows))


if __name__ == "__main__":
    main()
