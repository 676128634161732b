"""The paper's table as numbers by name: one fold's, their averages, and paired differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from scipy import stats


def interval(values: Sequence[float]) -> dict[str, float]:
    """Mean over folds and half the width of its 95 % interval by Student's t."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return {"mean": mean, "half_width": math.nan}
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
    factor = float(stats.t.ppf(0.975, len(values) - 1))
    return {"mean": mean, "half_width": factor * spread / math.sqrt(len(values))}


def numbers_of(summary: dict[str, Any]) -> dict[str, float]:
    """Flatten a summary's cells: one name per number."""
    numbers: dict[str, float] = {}
    for cell in summary["cells"]:
        key = f"{cell['reward_model_type']}/{cell['train_set']}"
        if cell["r_squared"]["value"] is not None:
            numbers[f"{key}/r_squared"] = cell["r_squared"]["value"]
        for measure in ("jailbreak_rate", "helpfulness_accuracy"):
            for reading, count in cell[measure].items():
                if isinstance(count, dict) and count["share"] is not None:
                    numbers[f"{key}/{measure}/{reading}"] = count["share"]
    for key, metrics in summary["held_out"].items():
        numbers.update({f"{key}/held_out_{name}": value for name, value in metrics.items()})
    return numbers


def differences(per_fold: Sequence[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Paired differences within folds: what caution changes, and r² of both against harmless."""
    pairs = {}
    for kind in ("mean_and_variance", "categorical"):
        for measure in ("jailbreak_rate", "helpfulness_accuracy"):
            stem = f"{kind}/both/{measure}"
            pairs[f"{stem}: quantile - mean"] = (f"{stem}/risk_sensitive", f"{stem}/mean")
        r_squared = (f"{kind}/both/r_squared", f"{kind}/harmless/r_squared")
        pairs[f"{kind}/r_squared: both - harmless"] = r_squared
    return {
        name: interval([numbers[first] - numbers[second] for numbers in per_fold])
        for name, (first, second) in pairs.items()
        if first in per_fold[0] and second in per_fold[0]
    }


def print_table(table: dict[str, dict[str, float]]) -> None:
    """Print the averages with their intervals in Markdown."""
    print(f"\n{'| number':60} | mean over folds | 95 % interval |\n|---|---|---|")
    for name, value in table.items():
        print(f"| {name:58} | {value['mean']:.3f} | ± {value['half_width']:.3f} |")
