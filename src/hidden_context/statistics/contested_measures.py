"""Which measure finds the contested items? Areas under the curve, and how far they differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hidden_context.errors import ConfigError
from hidden_context.statistics.agreement import auroc, weighted_auroc
from hidden_context.statistics.checks import Codes, Floats, numbered
from hidden_context.statistics.interval import FEWEST, Interval

NEAR_HALF: Final = "near_half"
LENGTH: Final = "length"
RESAMPLES: Final = 1000
MOST: Final = 20_000
"""Items that are looked at; of more, a sample drawn by seed."""
_BATCH_NUMBERS: Final = 4_000_000


@dataclass(frozen=True)
class MeasureFound:
    """How well a measure tells the items sought from the others.

    Attributes:
        name: The measure.
        auroc: Probability that an item sought scores higher than another, ties counted ½.
        minus_near_half: Its area minus that of P near ½; None for P near ½ itself, or without it.
        minus_length: Its area minus that of the difference in length, likewise.
    """

    name: str
    auroc: Interval
    minus_near_half: Interval | None
    minus_length: Interval | None


def compare_measures(
    scores: Mapping[str, Floats],
    sought: NDArray[np.bool_],
    cluster: Codes | None = None,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[MeasureFound]:
    """Hold measures against each other on the same items, and on the same resamples.

    Args:
        scores: By measure a score of each item, higher where one sought is expected, ``(N,)``.
        sought: Which items are sought, such as the contested ones, ``(N,)``.
        cluster: Number of each item's group, ``(N,)``; None where items are independent.
        level: Confidence level.
        resamples: Of the bootstrap over groups.
        seed: Of the bootstrap, and of the sample of more than ``MOST`` items.

    Returns:
        One entry for each measure whose scores are finite and not all the same, in the order given,
        with percentile intervals; none below five groups. Empty where no item, or every item, is
        sought.

    Raises:
        ConfigError: If the shapes differ.
    """
    sought = np.asarray(sought, dtype=bool)
    columns = {name: np.asarray(values, dtype=np.float64) for name, values in scores.items()}
    if any(values.shape != sought.shape for values in columns.values()) or sought.ndim != 1:
        raise ConfigError("every measure needs a score for each item.")
    codes = numbered(cluster, len(sought))
    if len(sought) > MOST:
        kept = np.random.default_rng(seed).choice(len(sought), MOST, replace=False)
        columns = {name: values[kept] for name, values in columns.items()}
        sought, codes = sought[kept], numbered(codes[kept], MOST)
    columns = {
        name: values
        for name, values in columns.items()
        if np.isfinite(values).all() and np.ptp(values) > 0
    }
    if not columns or sought.all() or not sought.any():
        return []
    found = {name: auroc(values, sought) for name, values in columns.items()}
    draws = _resampled(columns, sought, codes, resamples, seed)

    def difference(name: str, other: str) -> Interval | None:
        if name == other or other not in found:
            return None
        return _interval(found[name] - found[other], draws[name] - draws[other], level)

    return [
        MeasureFound(
            name,
            _interval(area, draws[name], level),
            difference(name, NEAR_HALF),
            difference(name, LENGTH),
        )
        for name, area in found.items()
    ]


def _resampled(
    columns: Mapping[str, Floats],
    sought: NDArray[np.bool_],
    codes: Codes,
    resamples: int,
    seed: int,
) -> dict[str, Floats]:
    """Areas of every measure in each resample of the groups, ``(resamples,)`` each; or empty."""
    count = int(codes.max()) + 1
    if count < FEWEST:
        return {name: np.zeros(0) for name in columns}
    areas = {name: weighted_auroc(values, sought) for name, values in columns.items()}
    generator = np.random.default_rng(seed)
    step = max(1, _BATCH_NUMBERS // len(sought))
    parts: dict[str, list[Floats]] = {name: [] for name in columns}
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        drawn = generator.multinomial(count, np.full(count, 1 / count), size=size)
        weights = drawn[:, codes].astype(np.float64)
        for name, area in areas.items():
            parts[name].append(area(weights))
    return {name: np.concatenate(each) for name, each in parts.items()}


def _interval(estimate: float, draws: Floats, level: float) -> Interval:
    if not np.isfinite(draws).any():
        return Interval(estimate, np.nan, np.nan, level, "none")
    low, high = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high), level, "bootstrap")
