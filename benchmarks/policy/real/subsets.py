"""Best of n among responses drawn once: who is chosen of n of them, in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hidden_context.errors import DataError


def best_of_subsets(scores: ArrayLike, sizes: Sequence[int]) -> NDArray[np.float64]:
    r"""Return the probability that each of S responses is the best of n of them, no one twice.

    .. math:: \pi_n(i) = \frac1m\left[\binom{b+m}{n} - \binom{b}{n}\right]\Big/\binom{S}{n}

    with b the responses of a lower reward and m those of the same one, itself included; of equal
    rewards each is as likely to be taken. An expectation over it is the mean over all subsets: an
    unbiased estimate of that for n fresh draws. At n = S it is the plain best of all.

    Args:
        scores: Rewards of shape ``(P, S)``.
        sizes: N values of n, from 1 to S.

    Returns:
        Probabilities of shape ``(N, P, S)``; each row sums to 1.

    Raises:
        DataError: If a reward is not finite, or an n is not from 1 to S.
    """
    values = np.asarray(scores, dtype=float)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise DataError(f"finite rewards of shape (prompts, responses) are needed: {values.shape}")
    count = values.shape[1]
    wrong = [n for n in sizes if not 1 <= n <= count]
    if wrong or not len(sizes):
        raise DataError(f"best of {wrong or 'nothing'}: each n is from 1 to the {count} responses")
    below = (values[:, None, :] < values[:, :, None]).sum(2)
    same = (values[:, None, :] == values[:, :, None]).sum(2)
    # of ways to take n of k responses, in floats: the largest is a count of 16 over 8 or so
    ways = np.array([[comb(k, n) for k in range(count + 1)] for n in sizes], dtype=float)
    taken = ways[:, below + same] - ways[:, below]
    return np.asarray(taken / same / ways[:, -1][:, None, None])
