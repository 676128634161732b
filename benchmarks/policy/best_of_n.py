"""Best-of-n in closed form: who is chosen of n draws from a policy of known probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hidden_context.errors import DataError


def selection(scores: ArrayLike, weights: ArrayLike, sizes: Sequence[int]) -> NDArray[np.float64]:
    r"""Return the probability that each response is the best of n, drawn with replacement.

    .. math:: \pi_n(i) = \frac{w_i}{F(r_i)-F(r_i^-)}\bigl[F(r_i)^n - F(r_i^-)^n\bigr]

    with F the distribution function of the reward under the policy. Of draws with equal rewards
    each is as likely to be taken.

    Args:
        scores: Rewards of S responses to each of P prompts, shape ``(P, S)``.
        weights: Their probabilities, of that shape; each row sums to 1.
        sizes: N values of n, each at least 1.

    Returns:
        Probabilities of shape ``(N, P, S)``; each row sums to 1.

    Raises:
        DataError: If shapes differ, a reward is not finite, a row of weights does not sum to 1, or
            an n is below 1.
    """
    values, mass = _checked(scores, weights, sizes)
    order = np.argsort(values, axis=1, kind="stable")
    ranked = np.take_along_axis(values, order, 1)
    own = np.take_along_axis(mass, order, 1)
    upto = np.cumsum(own, axis=1)
    upto /= upto[:, -1:]
    below, within = _levels(ranked, upto)
    power = np.asarray(sizes, dtype=float)[:, None, None]
    taken = within**power - below**power
    level = within - below
    share = np.divide(own, level, out=np.zeros_like(own), where=level > 0)
    chosen = np.empty_like(taken)
    np.put_along_axis(chosen, np.broadcast_to(order, taken.shape), taken * share, 2)
    return chosen / chosen.sum(2, keepdims=True)


def divergence(chosen: ArrayLike, weights: ArrayLike) -> NDArray[np.float64]:
    r"""Return :math:`\mathrm{KL}(\pi\|\pi_1)=\sum_i\pi(i)\log(\pi(i)/w_i)` in nats.

    Args:
        chosen: Probabilities of shape ``(…, P, S)``.
        weights: Those of the starting policy, shape ``(P, S)``.

    Returns:
        Divergences of shape ``(…, P)``.
    """
    pi, start = np.asarray(chosen, dtype=float), np.asarray(weights, dtype=float)
    ratio = np.divide(pi, start, out=np.ones_like(pi), where=pi > 0)
    return np.asarray((pi * np.log(ratio)).sum(-1))


def divergence_bound(n: int) -> float:
    """Return log n − (n − 1)/n, the KL for a continuous reward and the most for any other."""
    return float(np.log(n) - (n - 1) / n)


def _levels(
    ranked: NDArray[np.float64], upto: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """F(r⁻) and F(r) of ranked rewards, equal ones sharing both."""
    rows, count = ranked.shape
    place = np.broadcast_to(np.arange(count), ranked.shape)
    new = np.ones((rows, count), dtype=bool)
    new[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    first = np.maximum.accumulate(np.where(new, place, 0), axis=1)
    ends = np.ones((rows, count), dtype=bool)
    ends[:, :-1] = new[:, 1:]
    last = np.minimum.accumulate(np.where(ends, place, count)[:, ::-1], axis=1)[:, ::-1]
    before = np.concatenate([np.zeros((rows, 1)), upto[:, :-1]], axis=1)
    return np.take_along_axis(before, first, 1), np.take_along_axis(upto, last, 1)


def _checked(
    scores: ArrayLike, weights: ArrayLike, sizes: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    values, mass = np.asarray(scores, dtype=float), np.asarray(weights, dtype=float)
    if values.ndim != 2 or values.shape != mass.shape or not values.size:
        raise DataError(
            f"rewards of shape {values.shape} and weights of shape {mass.shape}: both are to be "
            "(prompts, responses)"
        )
    if not np.isfinite(values).all():
        raise DataError("a reward is not finite, so nothing is the best")
    if (mass < 0).any() or not np.allclose(mass.sum(1), 1, rtol=0, atol=1e-9):
        raise DataError("the weights of every prompt's responses have to be ≥ 0 and sum to 1")
    if min(sizes, default=0) < 1:
        raise DataError(
            f"best of {min(sizes, default=0)}: every n is at least 1, and one is needed"
        )
    return values, mass
