"""Whether intervals cover the truth as often as they say, and tests reject as often as they may.

Simulates data sets whose truth is known: prompts with effects of their own, several pairs each,
normal rewards of unequal spread. Prints a table and writes the numbers as JSON:

    python benchmarks/error_rates/intervals.py --data_sets 300 --prompts 30 100 500 2000 --pairs 500

- Coverage of the 95 % intervals by prompt, of the same statistics on an unlimited evaluation set.
- Rejections at 5 % by each test of data in which there is nothing to find.
- Rejections where data break what a test takes for granted, as a warning.
- Power of the tests of hidden context where two objectives hide.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from error_rates import trials
from kit import markdown, script_parser
from numpy.typing import NDArray
from scipy import stats
from scipy.special import ndtr

from hidden_context.data.storage.files import write_json
from hidden_context.statistics.agreement import auroc, contested, diverging_auroc, rank_correlation
from hidden_context.statistics.calibration import expected_calibration_error
from hidden_context.statistics.interval import (
    MANY,
    SHARE,
    Interval,
    cluster_sums,
    explained_moments,
    explained_variance_of_sums,
    wilson,
    within_moments,
    within_variance_of_sums,
)

Floats = NDArray[np.float64]
Row = dict[str, Any]
Progress = Callable[[str], None]

LEVEL: Final = 0.05
OVERSURE: Final = 1.5


def intervals(pairs: trials.Pairs) -> dict[str, Interval]:
    """Estimate everything whose truth is known, by prompt."""
    moments = explained_moments(pairs.mean.ravel(), np.square(pairs.stddev).ravel())
    by_prompt = cluster_sums(moments, np.repeat(pairs.prompt, 2))
    within_prompts = cluster_sums(within_moments(pairs.gap, pairs.variance), pairs.prompt)
    p = ndtr(pairs.z)
    return {
        "r²": MANY.interval(by_prompt, explained_variance_of_sums, SHARE),
        "r² within prompts": MANY.interval(within_prompts, within_variance_of_sums, SHARE),
        "accuracy": MANY.share((pairs.gap > 0) == (pairs.label > 0), pairs.prompt),
        "Brier score": MANY.share((p - pairs.label) ** 2, pairs.prompt),
        "ECE, calibrated": expected_calibration_error(p, pairs.label, cluster=pairs.prompt),
        "ECE, too sure": expected_calibration_error(
            ndtr(OVERSURE * pairs.z), pairs.label, cluster=pairs.prompt
        ),
        "AUROC of divergence": diverging_auroc(-np.abs(p - 0.5), pairs.votes, pairs.prompt),
        "Spearman with votes": rank_correlation(p, pairs.votes, pairs.prompt),
    }


@lru_cache
def truths() -> dict[str, float]:
    """What ``intervals`` estimates, in closed form or from some million pairs."""
    pairs = trials.draw_pairs(250_000, np.random.default_rng(20_231_213))
    p = ndtr(pairs.z)
    square = np.exp(2 * trials.PROMPT_SPREAD**2)  # E[exp(s·z)²]
    noise = trials.NOISE**2 * square**2
    return {
        "r²": (1 + square) / (1 + square + noise),
        "r² within prompts": square / (square + noise),
        "accuracy": float(ndtr(np.abs(pairs.z)).mean()),
        "Brier score": float((p * (1 - p)).mean()),
        "ECE, calibrated": 0.0,
        "ECE, too sure": expected_calibration_error(
            ndtr(OVERSURE * pairs.z), p, resamples=2
        ).estimate,
        "AUROC of divergence": auroc(-np.abs(p - 0.5), contested(pairs.votes)),
        "Spearman with votes": float(stats.spearmanr(p, pairs.votes).statistic),
    }


def coverage(prompts: int, data_sets: int, progress: Progress) -> list[Row]:
    """Count how often intervals of one size of data hold the truth."""
    true = truths()
    inside = dict.fromkeys(true, 0)
    width = dict.fromkeys(true, 0.0)
    method = {}
    for number in range(data_sets):
        found = intervals(trials.draw_pairs(prompts, np.random.default_rng([prompts, number])))
        for name, interval in found.items():
            inside[name] += interval.low <= true[name] <= interval.high
            width[name] += (interval.high - interval.low) / data_sets
            method[name] = interval.method
        if number % 50 == 49:
            progress(f"coverage, {prompts} prompts: {number + 1} of {data_sets}")
    return [
        share_row(
            "coverage", f"{name}, {prompts} prompts ({method[name]})", inside[name], data_sets
        )
        | {"truth": true[name], "mean_width": width[name]}
        for name in true
    ]


def rejections(
    part: str, tests: dict[str, trials.Trial], data_sets: int, progress: Progress
) -> Iterator[Row]:
    """Count how often each test rejects at 5 %."""
    for name, trial in tests.items():
        started = time.perf_counter()
        rejected = sum(trial(number) <= LEVEL for number in range(data_sets))
        progress(
            f"{part}, {name}: {rejected} of {data_sets}, {time.perf_counter() - started:.0f} s"
        )
        yield share_row(part, name, rejected, data_sets)


def share_row(part: str, name: str, count: float, total: float) -> Row:
    """Return a row of the table: how many of how many, with Wilson's interval."""
    found = wilson(int(count) / total, int(total), 0.95)
    return {
        "part": part,
        "row": name,
        "count": int(count),
        "data_sets": int(total),
        "share": found.estimate,
        "low": found.low,
        "high": found.high,
    }


def write(rows: list[Row], path: Path) -> None:
    """Write the rows as JSON, and print them as a table."""
    write_json(path, {"level": LEVEL, "rows": rows})
    columns = {
        "what": lambda row: row["row"],
        "share": lambda row: f"{row['share']:.1%}",
        "95 % of the share": lambda row: f"{row['low']:.1%} to {row['high']:.1%}",
        "data sets": lambda row: str(row["data_sets"]),
    }
    cells = [[row["part"], *(write(row) for write in columns.values())] for row in rows]
    print(markdown(["part", *columns], cells))


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("--data_sets", type=int, default=300, help="data sets of each row")
    parser.add_argument("--prompts", type=int, nargs="*", default=[30, 100, 500, 2000])
    parser.add_argument("--pairs", type=int, default=500, help="pairs of the null data sets")
    parser.add_argument("--power_pairs", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=999)
    parser.add_argument("--output", type=Path, default=Path("results/statistics_coverage.json"))
    options = parser.parse_args()
    count, resamples = options.data_sets, options.resamples
    rows = [row for size in options.prompts for row in coverage(size, count, print)]
    null = trials.NullTrials(options.pairs, resamples)
    power = trials.PowerTrials(options.power_pairs, resamples)
    rows += rejections("rejected, nothing to find", null.all(), count, print)
    rows += rejections("rejected, beyond the limits", null.beyond_limits(), count, print)
    rows += rejections("rejected, something to find", power.all(), count, print)
    write(rows, options.output)


if __name__ == "__main__":
    main()
