r"""Contested items: the probability of contested votes, and how well measures find them.

A share of votes near ½ is contested, whether people have opposite preferences or no preference.
Votes that are all "equal" are not contested: everybody says the same. P near ½ alone cannot tell
the two apart, and it does not depend on the number of votes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import stats

from hidden_context.errors import ConfigError
from hidden_context.statistics.agreement import CONTESTED, contested, weighted_auroc
from hidden_context.statistics.checks import (
    Booleans,
    Codes,
    Floats,
    batches,
    numbered,
    places,
    sample_rows,
)
from hidden_context.statistics.interval import FEWEST, Interval, percentile_interval

EXACT_UP_TO: Final = 200
"""Votes of an item up to which the probability is exact."""
NEAR_HALF: Final = "near_half"
LENGTH: Final = "length"
MOST: Final = 20_000
"""Items that are looked at; of more, a sample drawn by seed."""
_ROUNDING: Final = 1e-9


def contested_probability(answers: Floats, votes: Codes) -> Floats:
    r"""Compute the probability that n randomly drawn annotators vote with a contested share.

    .. math:: P\bigl(.35 \le (F + \tfrac12 E)/n \le .65,\; E < n\bigr), \qquad
        (F, E, S) \sim \operatorname{Multinomial}(n, \bar p)

    The result is exact up to ``EXACT_UP_TO`` votes. Above, the share is taken as normal.

    Args:
        answers: Probabilities of the answers first, equal and second to each of I items, averaged
            over annotators, of shape ``(I, 3)``.
        votes: Number n of votes of each item, 1 or more, of shape ``(I,)``.

    Returns:
        Probabilities of shape ``(I,)``.

    Raises:
        ConfigError: If shapes do not fit, rows are no distributions, or an item has no vote.
    """
    answers, votes = _checked(answers), np.asarray(votes, dtype=np.int64)
    if votes.shape != answers.shape[:1] or (votes < 1).any():
        raise ConfigError("a number of votes, 1 or more, is needed for each item.")
    share = answers[:, 0] + answers[:, 1] / 2
    variance = (answers[:, 0] + answers[:, 1] / 4 - share**2) / votes
    ends = (np.array(CONTESTED)[:, None] - share) / np.sqrt(np.maximum(variance, 1e-300))
    found = np.diff(stats.norm.cdf(ends), axis=0)[0]
    for count in np.unique(votes[votes <= EXACT_UP_TO]):
        here = votes == count
        found[here] = _multinomial(answers[here], int(count))
    return found


def contested_probability_of_voters(answers: Floats, item: Codes, items: int) -> Floats:
    r"""Compute the probability of a contested share from each voter's own probabilities.

    The share is a sum of independent votes (Poisson-multinomial); its distribution is computed by
    adding one vote after the other.

    Args:
        answers: Probabilities of first, equal and second of each of V votes, of shape ``(V, 3)``.
        item: Item of each vote, of shape ``(V,)``.
        items: Number I of items.

    Returns:
        Probabilities of shape ``(I,)``; NaN for items without a vote.

    Raises:
        ConfigError: If shapes do not fit, or rows are no distributions.
    """
    answers, item = _checked(answers), np.asarray(item, dtype=np.int64)
    if item.shape != answers.shape[:1] or (len(item) and not 0 <= item.min() <= item.max() < items):
        raise ConfigError(f"each vote needs an item number from 0 to {items - 1}.")
    votes = np.bincount(item, minlength=items)
    place = places(item)
    half_votes = np.zeros((items, 2 * int(votes.max(initial=0)) + 1))
    half_votes[:, 0] = 1.0
    all_equal = np.ones(items)
    for number in range(int(votes.max(initial=0))):
        here = np.flatnonzero(place == number)
        row, (first, equal, second) = item[here], answers[here].T[:, :, None]
        before = half_votes[row]
        after = second * before
        after[:, 1:] += equal * before[:, :-1]
        after[:, 2:] += first * before[:, :-2]
        half_votes[row] = after
        all_equal[row] *= answers[here, 1]
    share = np.arange(half_votes.shape[1]) / (2 * np.maximum(votes, 1)[:, None])
    found = (half_votes * contested(share)).sum(1) - all_equal
    return np.where(votes > 0, np.clip(found, 0.0, 1.0), np.nan)


def _checked(answers: Floats) -> Floats:
    answers = np.asarray(answers, dtype=np.float64)
    if answers.ndim != 2 or answers.shape[1] != 3:
        raise ConfigError(f"three probabilities are needed for each, not shape {answers.shape}.")
    if (
        not (np.isfinite(answers).all() and (answers >= -1e-6).all())
        or (np.abs(answers.sum(1) - 1) > 1e-4).any()
    ):
        raise ConfigError("the probabilities of first, equal and second have to sum to 1.")
    answers = np.clip(answers, 0.0, 1.0)
    return np.asarray(answers / answers.sum(1, keepdims=True))


def _multinomial(answers: Floats, count: int) -> Floats:
    """Sum over the number of votes "equal", ``(I, 3)`` to ``(I,)``."""
    equal = np.arange(count + 1)
    low, high = CONTESTED
    least = np.ceil(low * count - equal / 2 - _ROUNDING)
    most = np.floor(high * count - equal / 2 + _ROUNDING)
    decided = answers[:, 0] + answers[:, 2]
    # if all votes are "equal", there are no decided votes, and their share does not matter
    lean = np.divide(answers[:, 0], decided, out=np.full_like(decided, 0.5), where=decided > 0)
    decided_votes = stats.binom(count - equal, lean[:, None])
    weight = np.asarray(stats.binom.pmf(equal, count, answers[:, 1:2]))
    weight[:, count] = 0.0  # everybody says "equal": not contested
    return np.asarray((weight * (decided_votes.cdf(most) - decided_votes.cdf(least - 1))).sum(1))


@dataclass(frozen=True)
class MeasureFound:
    """How well a measure separates the items sought from the others.

    Attributes:
        name: Name of the measure.
        auroc: Probability that a sought item scores higher than another item, ties counted ½.
        minus_near_half: The measure's AUROC minus the AUROC of P near ½; None for P near ½ itself,
            or without it.
        minus_length: The measure's AUROC minus the AUROC of the difference in length, likewise.
    """

    name: str
    auroc: Interval
    minus_near_half: Interval | None
    minus_length: Interval | None


def compare_measures(
    scores: Mapping[str, Floats],
    sought: Booleans,
    cluster: Codes | None = None,
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> list[MeasureFound]:
    """Compare measures on the same items and the same resamples.

    Args:
        scores: For each measure, a score of each item, higher where the item is more likely to be
            sought, ``(N,)``.
        sought: Which items are sought, such as the contested ones, ``(N,)``.
        cluster: Number of each item's group, ``(N,)``; None if items are independent.
        level: Confidence level.
        resamples: Number of bootstrap resamples over groups.
        seed: Seed of the bootstrap, and of the sample taken if there are more than ``MOST`` items.

    Returns:
        One entry for each measure whose scores are finite and not all the same, in the order given,
        with percentile intervals; no intervals below five groups. Empty if no item, or every item,
        is sought.

    Raises:
        ConfigError: If the shapes differ.
    """
    sought = np.asarray(sought, dtype=bool)
    columns = {name: np.asarray(values, dtype=np.float64) for name, values in scores.items()}
    if any(values.shape != sought.shape for values in columns.values()) or sought.ndim != 1:
        raise ConfigError("every measure needs a score for each item.")
    codes = numbered(cluster, len(sought))
    kept = sample_rows(len(sought), seed, MOST)
    sought, codes = sought[kept], numbered(codes[kept], len(kept))
    areas = {
        name: weighted_auroc(values[kept], sought)
        for name, values in columns.items()
        if np.isfinite(values[kept]).all() and np.ptp(values[kept]) > 0
    }
    if not areas or sought.all() or not sought.any():
        return []
    found = {name: float(area(np.ones((1, len(kept))))[0]) for name, area in areas.items()}
    count, generator = int(codes.max()) + 1, np.random.default_rng(seed)
    parts = [np.zeros((len(areas), 0))]
    for size in batches(resamples if count >= FEWEST else 0, len(kept)):
        drawn = generator.multinomial(count, np.full(count, 1 / count), size=size)
        weights = drawn[:, codes].astype(np.float64)
        parts.append(np.stack([area(weights) for area in areas.values()]))
    draws = dict(zip(areas, np.concatenate(parts, axis=1), strict=True))

    def difference(name: str, other: str) -> Interval | None:
        if name == other or other not in found:
            return None
        return percentile_interval(found[name] - found[other], draws[name] - draws[other], level)

    return [
        MeasureFound(
            name,
            percentile_interval(area, draws[name], level),
            difference(name, NEAR_HALF),
            difference(name, LENGTH),
        )
        for name, area in found.items()
    ]
