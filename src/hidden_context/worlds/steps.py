"""The paper's worked examples in exact rational arithmetic.

Utilities depend on one hidden context ``z`` uniform on [0, 1], shared by the alternatives of a
comparison. They are constant between a few thresholds, so every probability is a sum of interval
lengths. Sources: Proposition 3.3, Theorems 3.1 and 3.4 of the paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from statistics import mean

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class StepUtility:
    """A utility that is constant in the hidden context between thresholds.

    Args:
        values: The utility on each interval of ``z``, in utility units.
        upper: The upper end of each interval, rising to 1.

    >>> StepUtility((10, 0), (Fraction(3, 5), 1)).expected()
    Fraction(6, 1)
    """

    values: tuple[int | Fraction, ...]
    upper: tuple[int | Fraction, ...] = (1,)

    def __post_init__(self) -> None:
        edges = (0, *self.upper)
        rising = all(low < high for low, high in pairwise(edges))
        if len(self.values) != len(self.upper) or not rising or edges[-1] != 1:
            raise ValueError("one value per interval is needed, and upper ends that rise to 1")

    def at(self, z: Fraction) -> Fraction:
        """Return the utility in context ``z``, ``0 < z <= 1``."""
        steps = zip(self.values, self.upper, strict=True)
        return next(Fraction(value) for value, end in steps if z <= end)

    def expected(self) -> Fraction:
        """``E_z u(a, z)``."""
        steps = zip(self.values, pairwise((0, *self.upper)), strict=True)
        return Fraction(sum(value * (high - low) for value, (low, high) in steps))


def preference_probability(first: StepUtility, second: StepUtility) -> Fraction:
    """``p(a, b) = P_z(u(a, z) > u(b, z)) + P_z(u(a, z) = u(b, z)) / 2`` (Section 3).

    Args:
        first: The utility of ``a``.
        second: The utility of ``b``, under the same context.

    Returns:
        The exact probability.
    """
    total = Fraction(0)
    edges = sorted({Fraction(end) for end in (0, *first.upper, *second.upper)})
    for low, high in pairwise(edges):
        left, right = first.at(high), second.at(high)
        total += Fraction(1 + (left > right) - (left < right), 2) * (high - low)
    return total


def borda_counts(alternatives: Mapping[str, StepUtility]) -> dict[str, Fraction]:
    """``BC(a) = mean_b p(a, b)``, the comparison with itself counted ½ (Section 3.1).

    Args:
        alternatives: Utilities by name.

    Returns:
        Exact Borda counts by name.
    """
    return {
        name: mean(preference_probability(utility, other) for other in alternatives.values())
        for name, utility in alternatives.items()
    }


def probability_matrix(alternatives: Sequence[StepUtility]) -> NDArray[np.float64]:
    """Return ``p(a_i, a_j)`` as an array, ``(n, n)``, ½ on the diagonal."""
    return np.array(
        [[float(preference_probability(a, b)) for b in alternatives] for a in alternatives]
    )


def bradley_terry_utilities(probabilities: ArrayLike, l2: float = 1e-3) -> NDArray[np.float64]:
    """Return the infinite-data solution of ordinary preference learning.

    Minimises ``−mean_{ij} p(i,j) log sigmoid(r_i − r_j) + (l2/2)·mean_i r_i²``, which is strictly
    convex; its order is that of the Borda counts (Theorem 3.1).

    Args:
        probabilities: ``p(i, j)``, ``(n, n)``, with ``p(i, j) + p(j, i) = 1``.
        l2: Weight of the penalty; positive, so that a sure preference keeps ``r`` finite.

    Returns:
        Utilities ``r``, ``(n,)``, in logits.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    p = np.asarray(probabilities, dtype=np.float64)
    n = len(p)

    def loss(r: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        difference = r[:, None] - r[None, :]
        value = (p * np.logaddexp(0, -difference)).sum() / n**2 + l2 * (r**2).sum() / (2 * n)
        # As p(j, i) = 1 − p(i, j), the two terms with r_i become one.
        gradient = (expit(difference) - p).sum(axis=1) / n**2 + l2 * r / n
        return float(value), gradient

    result = minimize(loss, np.zeros(n), jac=True, method="BFGS", options={"gtol": 1e-10})
    return np.asarray(result.x)


PROPOSITION_3_3: dict[str, StepUtility] = {
    "a": StepUtility((10, 0), (Fraction(3, 5), 1)),
    "b": StepUtility((3, 1), (Fraction(9, 10), 1)),
    "c": StepUtility((2,)),
}
"""Three alternatives: ``a`` has the highest expected utility, ``b`` the highest Borda count."""

THEOREM_3_4: tuple[dict[str, StepUtility], dict[str, StepUtility]] = (
    {"a": StepUtility((0,)), "b": StepUtility((3, -1), (Fraction(1, 2), 1))},
    {"a": StepUtility((0,)), "b": StepUtility((1, -3), (Fraction(1, 2), 1))},
)
"""Two worlds with the same comparisons and opposite expected utilities (1 and −1) of ``b``."""
