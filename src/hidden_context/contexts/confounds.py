"""Confounds: length and position, which hidden variance may follow besides the context."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from scipy import stats

from hidden_context.errors import ConfigError
from hidden_context.statistics.checks import Codes, Floats, sample_rows
from hidden_context.statistics.interval import FEWEST, Interval, cluster_interval, cluster_sums
from hidden_context.statistics.means import ratio_interval

MAX_PAIRS: Final = 200_000
"""Largest number of pairs; of more pairs, this many are drawn at random by the seed."""

_WORDS: Final = {
    "length": "the pair's total length",
    "length_difference": "how much the two sides differ in length",
    "position": "the place of the pair",
}


@dataclass(frozen=True)
class Confound:
    """Correlation of hidden variance with something other than the context.

    Attributes:
        name: ``length``, ``length_difference`` or ``position``.
        correlation: Spearman's rank correlation, with its interval by prompt.
        text: Its meaning, in a sentence.
    """

    name: Literal["length", "length_difference", "position"]
    correlation: Interval
    text: str


def length_confounds(
    variance: Floats,
    length: Floats,
    cluster: Codes,
    *,
    position: Floats | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> list[Confound]:
    """Tell whether hidden variance follows length or position.

    Args:
        variance: ``(N,)``, hidden variance of each pair.
        length: ``(N, 2)``, characters or tokens of both sides; rows with NaN are left out.
        cluster: ``(N,)``, the number of each pair's prompt.
        position: ``(N,)``, the pair's place in a sequence, or 0 and 1 for which side was shown
            first; NaN leaves a row out; None where it is not known.
        level: Confidence level.
        seed: Seed of the bootstrap, and of the pairs drawn where there are over 200 000.

    Returns:
        Length, difference of lengths, then position; what does not vary is left out.

    Raises:
        ConfigError: If the shapes do not fit.
    """
    variance, length = np.asarray(variance, np.float64), np.asarray(length, np.float64)
    size = len(variance)
    if length.shape != (size, 2) or np.shape(cluster) != (size,):
        raise ConfigError(
            f"{size} variances need lengths of shape ({size}, 2) and as many prompt numbers; got "
            f"{length.shape} and {np.shape(cluster)}."
        )
    if position is not None and np.shape(position) != (size,):
        raise ConfigError(f"{size} variances need as many positions, not {np.shape(position)}.")
    drawn = sample_rows(size, seed, MAX_PAIRS)
    columns: dict[Any, Floats] = {
        "length": length.sum(1),
        "length_difference": np.abs(length[:, 0] - length[:, 1]),
    }
    if position is not None:
        columns["position"] = np.asarray(position, np.float64)
    found = []
    for name, column in columns.items():
        rows = drawn[np.isfinite(column[drawn])]
        if len(rows) < 3 or np.ptp(column[rows]) == 0 or np.ptp(variance[rows]) == 0:
            continue
        own = np.unique(np.asarray(cluster)[rows], return_inverse=True)[1]
        correlation = spearman_interval(variance[rows], column[rows], own, level=level, seed=seed)
        found.append(Confound(name, correlation, _sentence(name, correlation, int(own.max()) + 1)))
    return found


def spearman_interval(
    x: Floats, y: Floats, cluster: Codes, *, level: float = 0.95, seed: int = 0
) -> Interval:
    r"""Compute Spearman's rank correlation, with an interval by cluster.

    With u and v the mid-ranks over n, the correlation is :math:`\rho = C / \sqrt{AB}`, where
    C, A and B are the covariance of u and v and their variances. Its influence function

    .. math:: \psi_i = \frac{\psi^C_i}{\sqrt{AB}}
        - \frac\rho2 \left(\frac{\psi^A_i}{A} + \frac{\psi^B_i}{B}\right), \qquad
        \psi^C_i = \tilde u_i \tilde v_i + \frac1n \sum_j K(x_i, x_j) \tilde v_j
        + \frac1n \sum_j K(y_i, y_j) \tilde u_j - 3C

    includes what each row does to the ranks of the other rows. K is 1 if its first argument is
    smaller, and ½ if both are equal. The interval comes from the mean of :math:`\rho + \psi_i`,
    resampled by cluster.

    Args:
        x: ``(n,)``, not constant.
        y: ``(n,)``, not constant.
        cluster: ``(n,)``, each row's cluster, 0 to C − 1.
        level: Confidence level.
        seed: Seed of the bootstrap.

    Returns:
        The interval, between −1 and 1.

    Source: Croux and Dehon (2010) for the influence function without ties.
    """
    u, v = _centred_ranks(x), _centred_ranks(y)
    first, second, both = (u * u).mean(), (v * v).mean(), (u * v).mean()
    rho = both / np.sqrt(first * second)
    psi_both = u * v + _pull(x, v) + _pull(y, u) - 3 * both
    psi_first = u * u + 2 * _pull(x, u) - 3 * first
    psi_second = v * v + 2 * _pull(y, v) - 3 * second
    psi = psi_both / np.sqrt(first * second) - rho / 2 * (psi_first / first + psi_second / second)
    found = ratio_interval(
        rho + psi, np.ones_like(psi), cluster, bounds=(-1, 1), level=level, seed=seed
    )
    low, high = (float(np.clip(end, -1, 1)) for end in (found.low, found.high))
    return Interval(float(rho), low, high, level, found.method)


def _centred_ranks(values: Floats) -> Floats:
    return np.asarray((stats.rankdata(values) - 0.5) / len(values) - 0.5)


def _pull(order: Floats, weights: Floats) -> Floats:
    """Average over j, for each row i, weights[j] where order[i] < order[j], half where equal."""
    _, group = np.unique(order, return_inverse=True)
    by_value = np.bincount(group, weights=weights)
    above = by_value.sum() - np.cumsum(by_value)
    return np.asarray((above + by_value / 2)[group] / len(order))


def _sentence(name: str, correlation: Interval, prompts: int) -> str:
    what, rho = _WORDS[name], correlation.estimate
    numbers = f"Spearman {rho:+.2f}, {correlation.level:.0%} interval {correlation.low:+.2f} to "
    numbers += f"{correlation.high:+.2f}"
    if not np.isfinite(correlation.low):
        few = "A single prompt is" if prompts == 1 else f"{prompts} prompts are"
        return f"{few} too few to tell whether hidden variance follows {what}: {FEWEST} are needed."
    if correlation.low <= 0 <= correlation.high:
        return f"There is no sign that hidden variance follows {what} ({numbers})."
    way = "rises" if rho > 0 else "falls"
    if abs(rho) < 0.1:
        return f"Hidden variance {way} only slightly with {what} ({numbers})."
    return (
        f"Hidden variance {way} with {what} ({numbers}): check whether contexts differ in this "
        "before reading them as disagreement."
    )


def context_beyond_length(
    variance: Floats, length: Floats, cluster: Codes, context: Codes, *, seed: int = 0
) -> Interval:
    r"""Return the share of the ranks of hidden variance that contexts explain beyond both lengths.

    The share is a partial R². Here R² comes from least squares on the mid-ranks of total length and
    |length difference|, and R²₊ from the same fit with an indicator of each context added:

    .. math:: (R^2_+ - R^2) / (1 - R^2).

    Args:
        variance: ``(N,)``, hidden variance of each pair.
        length: ``(N, 2)``, of both sides; rows with NaN are left out.
        cluster: ``(N,)``, the number of each pair's prompt.
        context: ``(N,)``, the context of each pair's prompt; −1 leaves the pair out.
        seed: Seed of the bootstrap, and of the pairs drawn where there are over 200 000.

    Returns:
        The interval, by prompt, in [0, 1].

    Raises:
        ConfigError: If no pair is left, or variance or length is the same for all of them.
    """
    length = np.asarray(length, np.float64)
    rows = sample_rows(len(variance), seed, MAX_PAIRS)
    rows = rows[np.isfinite(length[rows]).all(1) & (np.asarray(context)[rows] >= 0)]
    if len(rows) == 0 or np.ptp(variance[rows]) == 0:
        raise ConfigError("no pair with a length and a context, or all variances are equal.")
    sides = length[rows]
    _, group = np.unique(np.asarray(context)[rows], return_inverse=True)
    # the indicators add up to the intercept, so the last one is not needed
    lengths = [_centred_ranks(sides.sum(1)), _centred_ranks(np.abs(sides[:, 0] - sides[:, 1]))]
    columns = [np.ones(len(rows)), *lengths, *(group == k for k in range(int(group.max())))]
    design = np.stack([*columns, _centred_ranks(variance[rows])], axis=1).astype(np.float64)
    upper = np.triu_indices(design.shape[1])
    products = design[:, upper[0]] * design[:, upper[1]]
    own = np.unique(np.asarray(cluster)[rows], return_inverse=True)[1]

    def partial_r2(totals: Floats) -> Floats:
        moments = np.zeros((*totals.shape[:-1], design.shape[1], design.shape[1]))
        moments[..., upper[0], upper[1]] = totals
        moments[..., upper[1], upper[0]] = totals
        without, with_contexts = (_residual(moments, k) for k in (3, design.shape[1] - 1))
        return np.asarray(1 - with_contexts / without)

    return cluster_interval(cluster_sums(products, own), partial_r2, bounds=(0, 1), seed=seed)


def _residual(moments: Floats, count: int) -> Floats:
    """Return the residual sum of squares of the last column on the first ``count`` columns."""
    inner, cross = moments[..., :count, :count], moments[..., :count, -1:]
    # a resample may lack a context: the pseudo-inverse leaves its column out
    solved = np.linalg.pinv(inner, hermitian=True) @ cross
    return np.asarray(moments[..., -1, -1] - (cross * solved)[..., 0].sum(-1))
