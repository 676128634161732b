"""Ignorance against disagreement: what more data takes away, and what it cannot."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from ground_truth_dialogues import TextSetting, draw, train
from ground_truth_heads import Contender
from ground_truth_metrics import ratio_interval

# The objective as annotator: 250 pairs of 200 people would tell next to nothing of each of them.
ENSEMBLE: Final = Contender(
    "factor ensemble, objective known",
    "factor",
    {"ensemble": "heads", "annotators": "variational", "annotator_column": "objective"},
)
_PAIRS_EACH: Final = 20


def shares(parts: dict[str, np.ndarray], seed: int) -> dict[str, Any]:
    """Shares of the variance of differences, with 95 % bootstrap intervals over test pairs.

    ``disagreement`` is a share of what people do (disagreement and noise), so that it does not rise
    merely because ignorance falls; ``epistemic`` is a share of all.
    """
    people = parts["disagreement"] + parts["noise"]
    pairs = {
        "disagreement": (parts["disagreement"], people),
        "epistemic": (parts["epistemic"], people + parts["epistemic"]),
    }

    result: dict[str, Any] = {}
    for name, (part, whole) in pairs.items():
        result[name] = float(part.sum() / whole.sum())
        result[f"{name}_interval"] = ratio_interval(part, whole, seed)
    return result


def by_size(
    sizes: Sequence[int], seeds: Sequence[int], setting: TextSetting, progress: Any = print
) -> list[dict[str, Any]]:
    """Train the ensemble on growing parts of the constant world and split its variance.

    Args:
        sizes: Numbers of training pairs, multiples of twenty.
        seeds: Seeds of world and training.
        setting: Test size and training options.
        progress: Called with a line after each training.

    Returns:
        One record per size and seed.
    """
    results = []
    for seed in seeds:
        for size in sizes:
            started = time.perf_counter()
            sized = dataclasses.replace(setting, num_annotators=max(1, round(size / _PAIRS_EACH)))
            drawn = draw("constant", seed, sized)
            model = train(ENSEMBLE, drawn, sized, seed)
            chosen, rejected = (
                model.head.distribution(
                    model.raw_outputs([row[side] for row in drawn.test]).double()
                )
                for side in ("chosen", "rejected")
            )
            parts = {name: part.numpy() for name, part in chosen.difference_parts(rejected).items()}
            record = {"pairs": len(drawn.train), "seed": seed, **shares(parts, seed)}
            results.append({**record, "seconds": time.perf_counter() - started})
            progress(
                f"{size} pairs, seed {seed}: epistemic {record['epistemic']:.3f}, disagreement "
                f"{record['disagreement']:.3f} {record['disagreement_interval']}"
            )
    return results
