"""Levels of hidden variance that the prompts' text foretells, found without looking at a prompt.

Clusters of text alone need not follow the variance: prompts that differ in one word that matters
are neighbours. So the text is asked what it says of the variance. Each prompt's variance is
foretold by a ridge regression on *other* prompts, which keeps the levels honest: no prompt is put
into the high level because its own variance happens to be high.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from hidden_context.contexts.clustering import cluster_by_silhouette

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SIGNIFICANCE: Final = 0.01
_FOLDS: Final = 10
_MIN_PROMPTS: Final = 20
_PENALTIES: Final = np.logspace(-3, 3, 13)
_FLOOR: Final = 0.01


@dataclass(frozen=True, eq=False)
class Levels:
    """Levels of variance.

    Attributes:
        label: Each prompt's level, 0 to L − 1, of shape ``(P,)``.
        explained: Cross-validated share of the variance of the prompts' log variance that the text
            foretells; NaN where it was not tried.
    """

    label: Ints
    explained: float

    @property
    def count(self) -> int:
        """How many levels, L; 1 where the text says nothing of the variance."""
        return int(self.label.max()) + 1


def find_levels(vectors: Floats, mean_variance: Floats, max_levels: int, seed: int) -> Levels:
    r"""Group prompts by the variance that their text foretells.

    The target is :math:`y = \ln(v + 0.01\,\bar v)` of the prompts' mean variances v. Its
    cross-fitted prediction is divided by k-means, with as many levels as the silhouette says.
    Neighbouring levels whose y do not differ (Welch's test, p ≥ 0.01) are then put together. Where
    the prediction does not go with y at all (one-sided p ≥ 0.01), there is one level.

    Args:
        vectors: ``(P, d)``, the prompts.
        mean_variance: ``(P,)``, mean variance of each prompt's pairs.
        max_levels: Most levels.
        seed: Of folds and k-means.

    Returns:
        The levels.
    """
    none = np.zeros(len(vectors), dtype=np.int64)
    if len(vectors) < _MIN_PROMPTS or np.ptp(mean_variance) == 0:
        return Levels(none, np.nan)
    target = np.log(mean_variance + _FLOOR * mean_variance.mean())
    foretold = cross_fitted(vectors, target, seed)
    error = np.square(target - foretold).mean()
    explained = float(1 - error / target.var())
    if np.ptp(foretold) == 0 or explained <= 0:
        return Levels(none, explained)
    if stats.pearsonr(foretold, target, alternative="greater").pvalue >= SIGNIFICANCE:
        return Levels(none, explained)
    label = cluster_by_silhouette(foretold[:, None], max_levels, seed)
    return Levels(merge_alike(label, foretold, target), explained)


def cross_fitted(vectors: Floats, target: Floats, seed: int) -> Floats:
    """Foretell each prompt's target from the other folds, by ridge regression.

    The penalty is chosen within the other folds, by leaving out one prompt at a time.
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import KFold, cross_val_predict

    folds = KFold(_FOLDS, shuffle=True, random_state=seed)
    foretold = cross_val_predict(RidgeCV(_PENALTIES), vectors, target, cv=folds)
    return np.asarray(foretold.round(9))  # so that equal prompts have equal values


def merge_alike(label: Ints, order: Floats, values: Floats) -> Ints:
    """Put neighbouring levels together whose values do not differ.

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
