"""A test of hidden context: does the spread of rewards differ between responses?"""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.special import log_ndtr

from hidden_context.errors import ConfigError
from hidden_context.statistics.checks import Codes, Floats, batches, check_shares, equally_long
from hidden_context.statistics.significance.permutation import TestResult, permutation_p_value

_MIXTURES: Final = np.linspace(0.0, 1.0, 21) ** 2
"""Shares t of a pair's own variance that are tried, closest near 0, where the null lies."""

_GRID: Final = np.linspace(-6.0, 6.0, 25)
"""Where the profile likelihood of drawn labels is taken, in standard errors of the scale."""

_CELLS: Final = 64
_EXACT_PAIRS: Final = _CELLS**2


def common_sigma_test(
    mean_difference: Floats,
    variance_sum: Floats,
    label: Floats,
    *,
    resamples: int = 199,
    seed: int = 0,
) -> TestResult:
    r"""Test whether labels support a spread of rewards that differs between pairs.

    The family of models is

    .. math:: P_i = \Phi\left(c\, \Delta\mu_i / \sqrt{(1 - t) \bar v + t v_i}\right).

    With t = 0 all pairs have one common σ; with t = 1 each pair has its own. The scale c is free in
    both cases. The statistic is the likelihood ratio of the best t in [0, 1] (a grid of 21) against
    t = 0. The p-value comes from labels drawn from the model fitted with t = 0: the χ² limit does
    not hold for a parameter at the end of its range. Above 4096 pairs, similar pairs are grouped
    into 64 × 64 cells, for the observed and the drawn labels alike. A million pairs then need
    little more memory than their three columns. Swapping chosen and rejected changes nothing.

    Args:
        mean_difference: Δμ, mean reward of the chosen minus the rejected response, ``(N,)``.
        variance_sum: v, variance of the difference of the two rewards, above 0, ``(N,)``.
        label: Share of annotators for the chosen response, in [0, 1], ``(N,)``; 1 for single
            labels. Shares of several annotators vary less than the single labels that are drawn, so
            the test then rejects too seldom.
        resamples: Number of sets of labels drawn from the null.
        seed: Seed of these draws.

    Returns:
        The result; its p-value is (1 + #{LR* ≥ LR}) / (1 + resamples).

    Raises:
        ConfigError: If shapes differ, there are no pairs, a variance is not above 0, or a label
            lies outside [0, 1].
    """
    observed, drawn = common_sigma_ratios(mean_difference, variance_sum, label, resamples, seed)
    return TestResult(
        name="common_sigma",
        question="Does the spread of rewards differ between responses, as the model says?",
        statistic=observed,
        p_value=permutation_p_value(drawn, observed),
        resamples=resamples,
        limit=(
            "In anonymous single labels a conflict of 50 to 50 and indifference look alike: a "
            "small p-value says that spread differs between responses as the model says, not that "
            "annotators disagree. The test assumes that mean differences are right up to their "
            "scale, and that labels are independent given the rewards."
        ),
    )


def common_sigma_ratios(
    mean_difference: Floats, variance_sum: Floats, label: Floats, resamples: int, seed: int
) -> tuple[float, Floats]:
    """Compute the likelihood ratio of own σ against common σ, for observed and drawn labels.

    Args:
        mean_difference: Δμ of each pair, ``(N,)``.
        variance_sum: Variance of the difference of the two rewards, above 0, ``(N,)``.
        label: Share of annotators for the chosen response, in [0, 1], ``(N,)``.
        resamples: Number of sets of labels drawn from the fitted common σ.
        seed: Seed of these draws.

    Returns:
        The ratio of the observed labels, and the ratios of the drawn labels, of shape
        ``(resamples,)``; see ``common_sigma_test`` for the model.

    Raises:
        ConfigError: If shapes differ, there are no pairs, a variance is not above 0, or a label
            lies outside [0, 1].
    """
    gap, own, ones = equally_long(mean_difference, variance_sum, label)
    if not (np.isfinite(gap).all() and np.isfinite(own).all() and bool((own > 0).all())):
        raise ConfigError("differences must be finite, and variances finite and above 0.")
    check_shares(ones, "labels")
    # every pair is turned to the side of the higher mean
    gap, own, ones = np.abs(gap), own / own.mean(), np.where(gap < 0, 1 - ones, ones)
    cell = _cells(gap, own)
    count = np.bincount(cell).astype(np.float64)
    mean_gap, mean_own = (np.bincount(cell, weights=x) / count for x in (gap, own))
    won = np.bincount(cell, weights=ones).astype(np.float64)
    # (T, cells): the factor of the scale, for every share t of the pair's own variance
    slope = mean_gap / np.sqrt((1 - _MIXTURES[:, None]) + _MIXTURES[:, None] * mean_own)
    scale, _ = _best_scale(slope, won, count)
    z = slope * scale[:, None]
    found = (won * log_ndtr(z) + (count - won) * log_ndtr(-z)).sum(-1)
    null = _best_scale(gap, ones, np.ones_like(gap))[0][0]
    drawn = _null_ratios(slope, count, gap * null, cell, resamples, seed)
    return 2 * float(found.max() - found[0]), drawn


def _cells(gap: Floats, own: Floats) -> Codes:
    """Number the cells of similar pairs; with few pairs, each pair is its own cell."""
    if len(gap) <= _EXACT_PAIRS:
        return np.arange(len(gap))
    levels = np.arange(1, _CELLS) / _CELLS
    row, column = (
        np.searchsorted(np.quantile(values, levels), values, side="right") for values in (gap, own)
    )
    return np.asarray(np.unique(row * _CELLS + column, return_inverse=True)[1], dtype=np.int64)


def _best_scale(slope: Floats, won: Floats, count: Floats) -> tuple[Floats, Floats]:
    """Maximise the likelihood over the scale, in which it is concave, by Fisher scoring.

    Args:
        slope: Factor of the scale, ``(T, cells)``.
        won: Labels of each cell for the side of the higher mean, ``(cells,)``.
        count: Number of pairs in each cell, ``(cells,)``.

    Returns:
        Scales and their standard errors, both ``(T,)``. If the likelihood grows with the scale
        without end, there is no best scale, and the returned scale is merely large.
    """
    slope = np.atleast_2d(slope)
    scale = np.zeros(len(slope))
    for _ in range(30):
        z = slope * scale[:, None]
        log_density = -0.5 * z**2 - 0.5 * np.log(2 * np.pi)
        log_p, log_q = log_ndtr(z), log_ndtr(-z)
        gradient = won * np.exp(log_density - log_p) - (count - won) * np.exp(log_density - log_q)
        information = (slope**2 * count * np.exp(2 * log_density - log_p - log_q)).sum(1)
        information = np.maximum(information, 1e-12)
        step = (slope * gradient).sum(1) / information
        scale = scale + step
        if bool((step**2 * information < 1e-12).all()):
            break
    return scale, 1 / np.sqrt(information)


def _null_ratios(
    slope: Floats, count: Floats, z: Floats, cell: Codes, resamples: int, seed: int
) -> Floats:
    """Return likelihood ratios ``(resamples,)`` of labels drawn from P = Φ(z) of every pair."""
    order = np.argsort(cell, kind="stable")
    cell, p = cell[order], np.exp(log_ndtr(z[order]))
    won = np.zeros((resamples, len(count)))
    generator = np.random.default_rng(seed)
    start = 0
    for size in batches(len(p), resamples):
        part, start = slice(start, start + size), start + size
        drawn = generator.random((resamples, len(p[part]))) < p[part]
        starts = np.flatnonzero(np.diff(cell[part], prepend=-1))
        won[:, cell[part][starts]] += np.add.reduceat(drawn, starts, axis=1, dtype=np.int64)
    centre, error = _best_scale(slope, np.bincount(cell, weights=p).astype(np.float64), count)
    best = np.full(resamples, -np.inf)
    common = best
    for place, (row, middle, spread) in enumerate(zip(slope, centre, error, strict=True)):
        at = (middle + _GRID * spread)[:, None] * row  # (G, cells)
        log_p, log_q = log_ndtr(at), log_ndtr(-at)
        profile = _peak(won @ (log_p - log_q).T + log_q @ count)
        common = profile if place == 0 else common
        best = np.maximum(best, profile)
    return 2 * (best - common)


def _peak(profile: Floats) -> Floats:
    """Return the maximum over the last axis, refined by the parabola through its neighbours."""
    top = np.clip(profile.argmax(-1), 1, profile.shape[-1] - 2)
    rows = np.arange(len(profile))
    before, here, after = (profile[rows, top + shift] for shift in (-1, 0, 1))
    curvature = np.minimum(before - 2 * here + after, -1e-300)
    shift = np.clip(0.5 * (before - after) / curvature, -1.0, 1.0)
    return np.asarray(here - 0.25 * (before - after) * shift)
