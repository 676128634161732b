"""K-means whose number of clusters the silhouette chooses."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MINI_BATCH_ABOVE: Final = 20_000
_SILHOUETTE_SAMPLE: Final = 2000
_STARTS: Final = 5
_AS_GOOD_AS: Final = 0.01


def cluster_by_silhouette(points: Floats, max_clusters: int, seed: int) -> Ints:
    r"""Divide points by k-means into as many clusters as fit them best.

    For each number k from 2 on, the mean silhouette is

    .. math:: s = \frac1n \sum_i \frac{b_i - a_i}{\max(a_i, b_i)},

    with a the mean distance of a point to its own cluster and b to the next one. The smallest k
    within 0.01 of the best is taken. The silhouette is that of at most 2000 points, the same ones
    for every k; above 20 000 points k-means works in mini-batches.

    Args:
        points: ``(P, d)``.
        max_clusters: Largest k that is tried.
        seed: Of the starting points and the sample.

    Returns:
        Each point's cluster, 0 to k − 1, of shape ``(P,)``; all 0 where the points do not allow
        two clusters.

    Source: Rousseeuw (1987).
    """
    from sklearn.metrics import silhouette_score

    places = np.random.default_rng(seed).permutation(len(points))[:_SILHOUETTE_SAMPLE]
    distinct = len(np.unique(points[places], axis=0))
    found: list[tuple[float, Ints]] = []
    for k in range(2, min(max_clusters, distinct - 1) + 1):
        labels = k_means(points, k, seed)
        if len(np.unique(labels[places])) < 2:
            continue
        found.append((float(silhouette_score(points[places], labels[places])), labels))
    if not found:
        return np.zeros(len(points), dtype=np.int64)
    best = max(score for score, _ in found)
    return next(labels for score, labels in found if score >= best - _AS_GOOD_AS)


def k_means(points: Floats, k: int, seed: int) -> Ints:
    """Divide points into k clusters; see ``cluster_by_silhouette``."""
    from sklearn.cluster import KMeans, MiniBatchKMeans

    kind = MiniBatchKMeans if len(points) > MINI_BATCH_ABOVE else KMeans
    found = kind(k, n_init=_STARTS, random_state=seed).fit_predict(points)
    return np.unique(found, return_inverse=True)[1].astype(np.int64)
