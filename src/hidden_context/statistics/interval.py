"""Confidence intervals by cluster, for statistics that are functions of sums.

Pairs that share a prompt are not independent, so the bootstrap draws prompts, not pairs. Means,
shares and variance shares are all smooth functions of a few sums over rows. It is enough to keep
these sums for each prompt, so memory grows with the number of prompts, not of rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit, logit

from hidden_context.errors import ConfigError
from hidden_context.statistics.checks import BATCH_NUMBERS, Codes, Floats, quotient

Statistic = Callable[[Floats], Floats]
"""Takes totals ``(..., q)`` to values ``(...)``."""

Method = Literal["bootstrap", "two-way", "delta", "wilson", "posterior", "none"]

FEWEST: Final = 5
"""Clusters below which a sample cannot show its uncertainty."""
EXACT_UP_TO: Final = 1000
"""Largest number of clusters that is resampled."""
RESAMPLES: Final = 1999
SHARE: Final = (0.0, 1.0)
"""Bounds of a share."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes:
        estimate: The statistic of the sample.
        low: Lower end; NaN if the sample allows no interval.
        high: Upper end; NaN if the sample allows no interval.
        level: Confidence level, such as 0.95.
        method: ``bootstrap`` (bias-corrected and accelerated, by cluster), ``two-way`` (by groups
            and annotators both), ``delta`` (by cluster, for many clusters), ``wilson`` (a share
            that is the same in all clusters), ``posterior`` (of a quantity with a learned prior) or
            ``none`` (fewer than five clusters).
    """

    estimate: float
    low: float
    high: float
    level: float
    method: Method

    @classmethod
    def without_ends(cls, estimate: float = np.nan, level: float = 0.95) -> Interval:
        """Return an estimate without an interval."""
        return cls(estimate, np.nan, np.nan, level, "none")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields in JSON form; NaN becomes None."""
        return {
            name: None if isinstance(value, float) and not np.isfinite(value) else value
            for name, value in asdict(self).items()
        }


def cluster_sums(values: Floats, cluster: NDArray[np.int64]) -> Floats:
    """Add up rows by cluster.

    Args:
        values: Numbers of each row, of shape ``(N, q)``.
        cluster: Number of each row's cluster, 0 to C − 1, of shape ``(N,)``.

    Returns:
        Sums of shape ``(C, q)``, for the clusters that occur, in rising order.

    Raises:
        ConfigError: If there are no rows or the lengths differ.
    """
    if len(values) == 0 or len(values) != len(cluster):
        raise ConfigError(
            f"as many rows as clusters are needed, at least one; got {len(values)} and "
            f"{len(cluster)}."
        )
    size = int(cluster.max()) + 1
    sums = np.stack(
        [np.bincount(cluster, weights=column, minlength=size) for column in values.T], axis=1
    )
    return np.asarray(sums[np.bincount(cluster, minlength=size) > 0], dtype=np.float64)


def ratio(totals: Floats) -> Floats:
    """Return the first total over the second; a mean or a share if the second is a count."""
    return quotient(totals[..., 0], totals[..., 1])


def explained_moments(mean: Floats, variance: Floats) -> Floats:
    """Compute moments of texts whose sums give r².

    Args:
        mean: Mean reward of each text, of shape ``(M,)``. Shifting all means changes nothing; means
            near 0 lose the fewest digits.
        variance: Variance of each reward, of shape ``(M,)``.

    Returns:
        Rows (1, μ, μ², σ²), of shape ``(M, 4)``.
    """
    return np.stack([np.ones_like(mean), mean, mean**2, variance], axis=1)


def explained_variance_of_sums(totals: Floats) -> Floats:
    r"""Compute r² from totals of ``explained_moments``.

    .. math:: r^2 = \operatorname{Var}[\mu] / (\operatorname{Var}[\mu] + E[\sigma^2])

    Args:
        totals: Sums over texts, of shape ``(..., 4)``.

    Returns:
        r² in [0, 1], of shape ``(...)``; NaN where nothing varies.

    Source: DPL paper (arXiv 2312.08358), section 5.
    """
    count, first, second, noise = np.moveaxis(totals, -1, 0)
    explained = np.maximum(quotient(second, count) - quotient(first, count) ** 2, 0.0)
    return quotient(explained, explained + quotient(noise, count))


def within_moments(difference: Floats, variance: Floats) -> Floats:
    """Compute moments of pairs whose sums give the r² within prompts.

    Args:
        difference: Difference of the two mean rewards of each pair, of shape ``(N,)``.
        variance: Variance of the difference of the two rewards, of shape ``(N,)``.

    Returns:
        Rows (Δμ², Var Δu), of shape ``(N, 2)``.
    """
    return np.stack([difference**2, variance], axis=1)


def within_variance_of_sums(totals: Floats) -> Floats:
    r"""Compute r² within prompts: the explained share of the variance of reward differences.

    .. math:: r^2_w = E[(\mu_a - \mu_b)^2]
        / (E[(\mu_a - \mu_b)^2] + E[\operatorname{Var}(u_a - u_b)])

    Comparisons never show a reward level that all responses to a prompt share, so the spread
    between prompts in r² is arbitrary. Comparisons identify only the share within prompts. With
    independent sides, it is the r² of rewards centred by prompt.

    Args:
        totals: Sums of ``within_moments``, of shape ``(..., 2)``.

    Returns:
        The share in [0, 1], of shape ``(...)``; NaN where nothing varies.
    """
    return quotient(totals[..., 0], totals[..., 0] + totals[..., 1])


def cluster_interval(
    sums: Floats,
    statistic: Statistic,
    *,
    bounds: tuple[float, float] | None = None,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    r"""Estimate a function of totals, with an interval by cluster.

    Up to ``EXACT_UP_TO`` clusters, the interval is a bias-corrected and accelerated bootstrap over
    clusters. Above, it uses the delta method: with T the totals over C clusters of sums
    :math:`s_c`,

    .. math:: \widehat{\operatorname{Var}} f(T)
        = \frac{C}{C-1} \sum_c \left(\nabla f(T) \cdot (s_c - \bar s)\right)^2,

    on the logit scale for a statistic between two bounds, so that the interval stays between them.
    If a share is the same in every cluster, resampling would show no uncertainty; the interval is
    then Wilson's of C clusters. Fewer than five clusters give no interval.

    Args:
        sums: Sums of each cluster, of shape ``(C, q)``.
        statistic: Function of the totals, vectorised over leading dimensions.
        bounds: Ends of the statistic's range, such as ``(0, 1)`` for a share; None for the line.
        level: Confidence level.
        resamples: Number of bootstrap resamples.
        seed: Seed of the bootstrap.

    Returns:
        The interval.

    Raises:
        ConfigError: If there is no cluster, or the level is not between 0 and 1.

    Source: Efron (1987) for the bootstrap, as ``scipy.stats.bootstrap`` has it; Wilson (1927).
    """
    if not 0 < level < 1:
        raise ConfigError(f"level is {level}; it has to lie strictly between 0 and 1.")
    if sums.ndim != 2 or not len(sums):
        raise ConfigError(f"sums of at least one cluster are needed, not {sums.shape}.")
    estimate = float(statistic(sums.sum(0)))
    count = len(sums)
    if count < FEWEST or not np.isfinite(estimate):
        return Interval.without_ends(estimate, level)
    if bounds == (0, 1) and estimate in (0.0, 1.0):
        return wilson(estimate, count, level)
    if count > EXACT_UP_TO:
        return _delta_interval(sums, statistic, estimate, bounds, level)
    # all clusters are equal up to rounding: there is nothing to resample
    if np.abs(influence(sums, statistic)).max() <= 1e-12 * (1 + abs(estimate)):
        return Interval(estimate, estimate, estimate, level, "bootstrap")
    delta = _delta_interval(sums, statistic, estimate, bounds, level)
    low, high, _ = resampled(
        lambda index, axis: statistic(sums[index].sum(-2)), count, level, resamples, seed, sums.size
    )
    # a sample too small or lopsided for the correction gives NaN
    return Interval(estimate, low, high, level, "bootstrap") if np.isfinite(low + high) else delta


@dataclass(frozen=True)
class Resampling:
    """How intervals are made.

    Attributes:
        level: Confidence level.
        resamples: Number of bootstrap resamples.
        seed: Seed of the bootstrap and of permutations.
    """

    level: float = 0.95
    resamples: int = 999
    seed: int = 0

    def interval(
        self, sums: Floats, statistic: Statistic, bounds: tuple[float, float] | None = None
    ) -> Interval:
        """Compute a statistic of sums by prompt, with its interval."""
        return cluster_interval(sums, statistic, bounds=bounds, **vars(self))

    def share(self, values: NDArray[Any], cluster: Codes) -> Interval:
        """Compute the mean of values between 0 and 1, with its interval by prompt."""
        sums = cluster_sums(np.stack([values, np.ones(len(values))], axis=1), cluster)
        return self.interval(sums, ratio, SHARE)


VOTES: Final = Resampling(resamples=1000)
"""How intervals of votes are made by default."""
MANY: Final = Resampling(resamples=RESAMPLES)
"""How intervals are made where there are few of them."""


def wilson(share: float, count: float, level: float) -> Interval:
    """Return Wilson's interval of a share of ``count`` draws, which need not be a whole number."""
    z2 = float(stats.norm.ppf((1 + level) / 2)) ** 2
    reach = np.sqrt(z2 * (count * share * (1 - share) + z2 / 4)) * np.array([-1, 1])
    low, high = np.clip((count * share + z2 / 2 + reach) / (count + z2), 0, 1).tolist()
    return Interval(share, low, high, level, "wilson")


def resampled(
    of_indices: Callable[..., Floats],
    count: int,
    level: float,
    resamples: int,
    seed: int,
    numbers: int,
) -> tuple[float, float, Floats]:
    """Bootstrap a statistic of cluster numbers.

    Ends are bias-corrected and accelerated up to ``EXACT_UP_TO`` clusters, percentiles above.

    Args:
        of_indices: Function from numbers below ``count`` along the last axis to the statistic;
            it is called with that axis too.
        count: Number of clusters.
        level: Confidence level.
        resamples: Number of resamples.
        seed: Seed of the resamples.
        numbers: How many numbers one resample needs; sets how many are computed together.

    Returns:
        The two ends, NaN if the resamples allow no interval, and the statistic of each resample.
    """
    with warnings.catch_warnings():  # warnings about NaN ends, which the caller checks
        warnings.simplefilter("ignore")
        found = stats.bootstrap(
            (np.arange(count),),
            of_indices,
            vectorized=True,
            n_resamples=resamples,
            batch=max(1, BATCH_NUMBERS // numbers),
            confidence_level=level,
            method="BCa" if count <= EXACT_UP_TO else "percentile",
            rng=np.random.default_rng(seed),
        )
    low, high = found.confidence_interval
    return float(low), float(high), found.bootstrap_distribution


def influence(sums: Floats, statistic: Statistic) -> Floats:
    """Return the influence of each cluster on a statistic, to first order, of shape ``(C,)``.

    The gradient is taken by central differences; the totals' own size sets the step.
    """
    totals = sums.sum(0)
    step = 1e-6 * np.maximum(np.abs(sums).sum(0), 1e-12)
    up, down = totals + np.diag(step), totals - np.diag(step)
    gradient = (statistic(up) - statistic(down)) / (2 * step)
    return np.asarray((sums - sums.mean(0)) @ gradient)


def _delta_interval(
    sums: Floats,
    statistic: Statistic,
    estimate: float,
    bounds: tuple[float, float] | None,
    level: float,
) -> Interval:
    count = len(sums)
    error = float(np.sqrt(count / (count - 1) * np.square(influence(sums, statistic)).sum()))
    reach = float(stats.norm.ppf((1 + level) / 2)) * error
    if bounds is None or not bounds[0] < estimate < bounds[1]:
        return Interval(estimate, estimate - reach, estimate + reach, level, "delta")
    width = bounds[1] - bounds[0]
    share = (estimate - bounds[0]) / width
    reach /= width * share * (1 - share)  # the slope of the logit
    low, high = (bounds[0] + width * expit(logit(share) + side * reach) for side in (-1, 1))
    return Interval(estimate, float(low), float(high), level, "delta")


def percentile_interval(
    estimate: float, draws: Floats, level: float, method: Method = "bootstrap"
) -> Interval:
    """Return the interval between percentiles of resamples; leave out NaN unless all are NaN."""
    if not np.isfinite(draws).any():
        return Interval.without_ends(estimate, level)
    low, high = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high), level, method)
