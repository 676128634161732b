"""Explained variance shares as functions of sums over texts, for intervals by cluster."""

from __future__ import annotations

import numpy as np

from hidden_context.statistics.checks import Floats, quotient


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
