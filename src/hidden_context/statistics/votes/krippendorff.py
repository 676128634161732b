r"""Krippendorff's α: agreement of any number of annotators, corrected for chance.

.. math:: \alpha = 1 - D_o / D_e

with :math:`D_o` the mean disagreement of two answers to one item, and :math:`D_e` the mean
disagreement of two answers to any items. α is 1 if all agree, and 0 if they agree only by chance.
Items may have any number of answers; items with fewer than two carry no information.

Source: Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability".
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike

from hidden_context.errors import ConfigError
from hidden_context.statistics.checks import Codes, Floats, equally_long, numbered, places, quotient
from hidden_context.statistics.interval import RESAMPLES, Interval, cluster_interval, cluster_sums

Metric = Literal["nominal", "ordinal", "interval"]
METRICS: Final = ("nominal", "ordinal", "interval")


def alpha(
    counts: Floats,
    group: Codes | None = None,
    *,
    metric: Metric = "nominal",
    mirrored: bool = False,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    r"""Estimate Krippendorff's α of answers from K categories.

    Two answers c and k disagree by :math:`\delta_{ck}^2`: 1 if they differ (``nominal``),
    :math:`(c - k)^2` (``interval``), or the squared number of answers from one to the other, each
    end counted half (``ordinal``).

    Args:
        counts: Answers of each item by category, in order, ``(I, K)``.
        group: Number of each item's group, ``(I,)``; the bootstrap resamples groups. None makes
            each item a group.
        metric: How disagreement between two answers is measured.
        mirrored: Whether the order of the categories may be reversed item by item, because the
            names of the sides have no meaning, such as "first" and "second" of a pair. Both sides
            are then equally likely by chance. Otherwise data whose first side is always the winner
            would look as if people agreed only by chance.
        level: Confidence level.
        resamples: Number of bootstrap resamples over groups.
        seed: Seed of the bootstrap.

    Returns:
        α with its interval; NaN where no item has two answers or all answers are the same.

    Raises:
        ConfigError: If there are no items, or the metric is unknown.
    """
    if metric not in METRICS:
        raise ConfigError(f"metric is {metric!r}; it has to be one of {', '.join(METRICS)}.")
    if counts.ndim != 2 or not len(counts):
        raise ConfigError(f"counts of at least one item are needed, not {counts.shape}.")
    categories = counts.shape[1]
    together = coincidences(counts).reshape(len(counts), -1)

    def statistic(totals: Floats) -> Floats:
        found = totals.reshape(*totals.shape[:-1], categories, categories)
        if mirrored:
            found = (found + found[..., ::-1, ::-1]) / 2
        return _alpha_of_coincidences(found, metric)

    sums = cluster_sums(together, numbered(group, len(counts), "group"))
    return cluster_interval(sums, statistic, level=level, resamples=resamples, seed=seed)


def coincidences(counts: Floats) -> Floats:
    r"""Count how often two answers occur together in an item.

    .. math:: o_{ick} = n_{ic} (n_{ik} - [c = k]) / (n_i - 1)

    Args:
        counts: Answers of each item by category, ``(I, K)``.

    Returns:
        Coincidences by item, ``(I, K, K)``; 0 for items with fewer than two answers. The
        coincidences of an item sum to its number of answers.
    """
    votes = counts.sum(1)
    pairs = counts[:, :, None] * counts[:, None, :]
    diagonal = np.arange(counts.shape[1])
    pairs[:, diagonal, diagonal] -= counts
    scale = np.where(votes > 1, 1 / np.maximum(votes - 1, 1), 0.0)
    return np.asarray(pairs * scale[:, None, None])


def rating_alpha(
    item: ArrayLike,
    value: ArrayLike,
    group: Codes | None = None,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    r"""Estimate Krippendorff's α of ratings, with their squared difference as disagreement.

    Args:
        item: Number of each rating's item, ``(V,)``.
        value: The ratings, ``(V,)``.
        group: Number of each rating's group, ``(V,)``; the bootstrap resamples groups. None makes
            each item a group. An item lies in one group.
        level: Confidence level.
        resamples: Number of bootstrap resamples over groups.
        seed: Seed of the bootstrap.

    Returns:
        α with its interval; NaN where no item has two ratings or all ratings are the same.

    Raises:
        ConfigError: If the lists are empty or of unequal lengths.
    """
    _, ratings = equally_long(item, value)
    code = numbered(item, len(ratings), "item")
    ratings = ratings - np.median(ratings)  # α is unchanged; sums of squares lose fewer digits
    votes = np.bincount(code)
    mean = np.bincount(code, ratings) / votes
    rated = votes[code] > 1
    spread = np.where(rated, np.square(ratings - mean[code]), 0.0)
    within = np.bincount(code, spread) * 2 * votes / np.maximum(votes - 1, 1)
    columns = [
        np.bincount(code, np.where(rated, column, 0.0))
        for column in (np.ones_like(ratings), ratings, np.square(ratings))
    ]
    own = np.arange(len(votes)) if group is None else _of_items(code, group)
    sums = cluster_sums(np.stack([*columns, within], axis=1), own)
    return cluster_interval(sums, _alpha_of_moments, level=level, resamples=resamples, seed=seed)


def mean_difference(item: Codes, value: Floats, items: int) -> Floats:
    """Return the mean absolute difference of two ratings of an item.

    Args:
        item: Number of each rating's item, below ``items``, ``(V,)``.
        value: The ratings, ``(V,)``.
        items: I, number of items.

    Returns:
        Means over pairs of an item's ratings, ``(I,)``; NaN below two ratings.
    """
    votes = np.bincount(item, minlength=items)
    # a rating is the larger of the two in as many pairs as there are ratings before it
    often = 2 * places(item, np.argsort(value)) - votes[item] + 1
    total = np.bincount(item, often * value, items)
    return np.where(votes > 1, quotient(2 * total, votes * (votes - 1)), np.nan)


def _of_items(code: Codes, group: Codes) -> Codes:
    """Return the group of each item."""
    groups = numbered(group, len(code), "group")
    first = np.unique(code, return_index=True)[1]
    if not np.array_equal(groups, groups[first][code]):
        raise ConfigError("the ratings of one item must lie in one group.")
    return groups[first]


def _alpha_of_coincidences(found: Floats, metric: Metric) -> Floats:
    """Return α ``(...)`` from coincidences ``(..., K, K)``."""
    margins = found.sum(-1)
    answers = margins.sum(-1)
    distance = _distances(margins, metric)
    observed = quotient((found * distance).sum((-1, -2)), answers)
    chance = (margins[..., :, None] * margins[..., None, :] * distance).sum((-1, -2))
    return np.asarray(1 - quotient(observed, quotient(chance, answers * (answers - 1))))


def _distances(margins: Floats, metric: Metric) -> Floats:
    """Return δ² of every two categories, ``(..., K, K)`` or ``(K, K)``."""
    place = np.arange(margins.shape[-1])
    if metric == "nominal":
        return np.asarray(place[:, None] != place, dtype=np.float64)
    if metric == "interval":
        return np.square(place[:, None] - place).astype(np.float64)
    middle = np.cumsum(margins, axis=-1) - margins / 2
    return np.asarray(np.square(middle[..., :, None] - middle[..., None, :]))


def _alpha_of_moments(totals: Floats) -> Floats:
    """Return α from number, sum, sum of squares and 2nS/(n − 1) within items, ``(..., 4)``."""
    count, total, squares, within = np.moveaxis(totals, -1, 0)
    chance = quotient(2 * (squares - quotient(total**2, count)), count - 1)
    return np.asarray(1 - quotient(quotient(within, count), chance))
