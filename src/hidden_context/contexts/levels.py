"""Groups of prompts: by the hidden variance that their text predicts, or by text alone.

Clusters of text alone need not follow the variance: prompts that differ in one word that matters
are neighbours. So the variance is predicted from the text, for each prompt by a ridge regression on
*other* prompts. This keeps the levels honest: no prompt is put into the high level because its own
variance happens to be high.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from scipy import stats

from hidden_context.statistics.checks import Codes, Floats

MINI_BATCH_ABOVE: Final = 20_000
SIGNIFICANCE: Final = 0.01


@dataclass(frozen=True, eq=False)
class Levels:
    """Levels of hidden variance, one for each prompt.

    Attributes:
        label: Each prompt's level, 0 to L − 1, of shape ``(P,)``.
        explained: Cross-validated share of the variance of the prompts' log variance that the text
            predicts; NaN where it was not tried.
    """

    label: Codes
    explained: float

    @property
    def count(self) -> int:
        """Number of levels, L; 1 if the text says nothing about the variance."""
        return int(self.label.max()) + 1


def find_levels(vectors: Floats, mean_variance: Floats, max_levels: int, seed: int) -> Levels:
    r"""Group prompts by the variance that their text predicts.

    The target is :math:`y = \ln(v + 0.01\,\bar v)` of the prompts' mean variances v. Its
    cross-fitted prediction is divided by k-means, with as many levels as the silhouette chooses.
    Neighbouring levels whose y do not differ (Welch's test, p ≥ 0.01) are then merged. If the
    prediction does not correlate with y (one-sided p ≥ 0.01), there is one level.

    Args:
        vectors: ``(P, d)``, the prompts.
        mean_variance: ``(P,)``, mean variance of each prompt's pairs.
        max_levels: Most levels.
        seed: Seed of folds and k-means.

    Returns:
        The levels.
    """
    none = np.zeros(len(vectors), dtype=np.int64)
    if len(vectors) < 20 or np.ptp(mean_variance) == 0:
        return Levels(none, np.nan)
    target = np.log(mean_variance + 0.01 * mean_variance.mean())
    predicted = cross_fitted(vectors, target, seed)
    explained = float(1 - np.square(target - predicted).mean() / target.var())
    if (
        np.ptp(predicted) == 0
        or explained <= 0
        or stats.pearsonr(predicted, target, alternative="greater").pvalue >= SIGNIFICANCE
    ):
        return Levels(none, explained)
    label = cluster_by_silhouette(predicted[:, None], max_levels, seed)
    return Levels(merge_alike(label, predicted, target), explained)


def cross_fitted(vectors: Floats, target: Floats, seed: int) -> Floats:
    """Predict each prompt's target from the other folds, by ridge regression.

    The penalty is chosen within the other folds, by leaving out one prompt at a time.
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import KFold, cross_val_predict

    folds = KFold(10, shuffle=True, random_state=seed)
    predicted = cross_val_predict(RidgeCV(np.logspace(-3, 3, 13)), vectors, target, cv=folds)
    return np.asarray(predicted.round(9))  # so that equal prompts have equal values


def merge_alike(label: Codes, order: Floats, values: Floats) -> Codes:
    """Merge neighbouring levels whose values do not differ.

    Args:
        label: ``(P,)``, levels 0 to L − 1.
        order: ``(P,)``, by whose mean the levels are neighbours.
        values: ``(P,)``, what is compared, by Welch's test.

    Returns:
        Levels 0 to L′ − 1 in rising order, of shape ``(P,)``.
    """
    levels = sorted(range(int(label.max()) + 1), key=lambda k: float(order[label == k].mean()))
    groups = [np.flatnonzero(label == level) for level in levels]
    while len(groups) > 1:
        p_values = [_p_value(values[a], values[b]) for a, b in pairwise(groups)]
        worst = int(np.argmax(p_values))
        if p_values[worst] < SIGNIFICANCE:
            break
        groups[worst : worst + 2] = [np.concatenate(groups[worst : worst + 2])]
    merged = np.empty(len(label), dtype=np.int64)
    for place, group in enumerate(groups):
        merged[group] = place
    return merged


def _p_value(first: Floats, second: Floats) -> float:
    if min(len(first), len(second)) < 2:
        return 1.0
    if np.ptp(first) == 0 and np.ptp(second) == 0:
        return 1.0 if first[0] == second[0] else 0.0
    return float(stats.ttest_ind(first, second, equal_var=False).pvalue)


def cluster_by_silhouette(points: Floats, max_clusters: int, seed: int) -> Codes:
    r"""Cluster points by k-means, with the number of clusters that fits best.

    For each number k from 2 on, the mean silhouette is

    .. math:: s = \frac1n \sum_i \frac{b_i - a_i}{\max(a_i, b_i)},

    with a the mean distance of a point to its own cluster and b to the next cluster. The smallest k
    within 0.01 of the best is taken. The silhouette is computed on at most 2000 points, the same
    points for every k. Above 20 000 points, k-means works in mini-batches.

    Args:
        points: ``(P, d)``.
        max_clusters: Largest k that is tried.
        seed: Seed of the starting points and the sample.

    Returns:
        Each point's cluster, 0 to k − 1, of shape ``(P,)``; all 0 where the points do not allow
        two clusters.

    Source: Rousseeuw (1987).
    """
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from sklearn.metrics import silhouette_score

    kind = MiniBatchKMeans if len(points) > MINI_BATCH_ABOVE else KMeans
    places = np.random.default_rng(seed).permutation(len(points))[:2000]
    distinct = len(np.unique(points[places], axis=0))
    found: list[tuple[float, Codes]] = []
    for k in range(2, min(max_clusters, distinct - 1) + 1):
        fitted = kind(k, n_init=5, random_state=seed).fit_predict(points)
        labels = np.unique(fitted, return_inverse=True)[1].astype(np.int64)
        if len(np.unique(labels[places])) < 2:
            continue
        found.append((float(silhouette_score(points[places], labels[places])), labels))
    if not found:
        return np.zeros(len(points), dtype=np.int64)
    best = max(score for score, _ in found)
    return next(labels for score, labels in found if score >= best - 0.01)
