r"""How likely the votes of an item are to come out contested, given what each voter would answer.

A share of votes near ½ is contested whether people lean apart or nobody leans. Votes that are all
"equal" are not: everybody says the same. P near ½ alone cannot tell the two apart, nor does it know
how many votes there are.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy import stats

from hidden_context.errors import ConfigError
from hidden_context.statistics.agreement import CONTESTED
from hidden_context.statistics.checks import Codes, Floats

EXACT_UP_TO: Final = 200
"""Votes of an item up to which the probability is exact."""
_ROUNDING: Final = 1e-9


def contested_probability(answers: Floats, votes: Codes) -> Floats:
    r"""Probability that n annotators drawn at random vote with a contested share.

    .. math:: P\bigl(.35 \le (F + \tfrac12 E)/n \le .65,\; E < n\bigr), \qquad
        (F, E, S) \sim \operatorname{Multinomial}(n, \bar p)

    Exact up to ``EXACT_UP_TO`` votes, by the normal distribution of the share above.

    Args:
        answers: Probabilities of the answers first, equal and second of each of I items, averaged
            over annotators, of shape ``(I, 3)``.
        votes: Number n of votes of each item, 1 or more, of shape ``(I,)``.

    Returns:
        Probabilities of shape ``(I,)``.

    Raises:
        ConfigError: If shapes do not fit, rows are no distributions, or an item has no vote.
    """
    answers, votes = _checked(answers), np.asarray(votes, dtype=np.int64)
    if votes.shape != answers.shape[:1] or (votes < 1).any():
        raise ConfigError("a number of votes, 1 or more, is needed for each item.")
    found = np.empty(len(votes))
    for count in np.unique(votes):
        here = votes == count
        exact = count <= EXACT_UP_TO
        found[here] = (_multinomial if exact else _normal)(answers[here], int(count))
    return found


def contested_probability_of_voters(answers: Floats, item: Codes, items: int) -> Floats:
    r"""Probability of a contested share where each voter has probabilities of their own.

    The share's distribution is that of a sum of independent votes (Poisson-multinomial), found by
    adding one vote after the other.

    Args:
        answers: Probabilities of first, equal and second of each of V votes, of shape ``(V, 3)``.
        item: Which item each vote is on, of shape ``(V,)``.
        items: Number I of items.

    Returns:
        Probabilities of shape ``(I,)``; NaN for items without a vote.

    Raises:
        ConfigError: If shapes do not fit, or rows are no distributions.
    """
    answers, item = _checked(answers), np.asarray(item, dtype=np.int64)
    if item.shape != answers.shape[:1] or (len(item) and not 0 <= item.min() <= item.max() < items):
        raise ConfigError(f"an item below {items} is needed for each vote.")
    votes = np.bincount(item, minlength=items)
    order = np.argsort(item, kind="stable")
    place = np.empty(len(item), dtype=np.int64)  # which of its item's votes each is
    place[order] = np.arange(len(item)) - np.repeat(np.cumsum(votes) - votes, votes)
    half_votes = np.zeros((items, 2 * int(votes.max(initial=0)) + 1))
    half_votes[:, 0] = 1.0
    all_equal = np.ones(items)
    for number in range(int(votes.max(initial=0))):
        here = np.flatnonzero(place == number)
        row, (first, equal, second) = item[here], answers[here].T[:, :, None]
        before = half_votes[row]
        after = second * before
        after[:, 1:] += equal * before[:, :-1]
        after[:, 2:] += first * before[:, :-2]
        half_votes[row] = after
        all_equal[row] *= answers[here, 1]
    share = np.arange(half_votes.shape[1]) / (2 * np.maximum(votes, 1)[:, None])
    low, high = CONTESTED
    inside = (share >= low - _ROUNDING) & (share <= high + _ROUNDING)
    found = (half_votes * inside).sum(1) - all_equal
    return np.where(votes > 0, np.clip(found, 0.0, 1.0), np.nan)


def _checked(answers: Floats) -> Floats:
    answers = np.asarray(answers, dtype=np.float64)
    if answers.ndim != 2 or answers.shape[1] != 3:
        raise ConfigError(f"three probabilities are needed for each, not shape {answers.shape}.")
    if (
        not (np.isfinite(answers).all() and (answers >= -1e-6).all())
        or (np.abs(answers.sum(1) - 1) > 1e-4).any()
    ):
        raise ConfigError("the probabilities of first, equal and second have to sum to 1.")
    answers = np.clip(answers, 0.0, 1.0)
    return np.asarray(answers / answers.sum(1, keepdims=True))


def _multinomial(answers: Floats, count: int) -> Floats:
    """Sum over the number of votes "equal", ``(I, 3)`` to ``(I,)``."""
    equal = np.arange(count + 1)
    low, high = CONTESTED
    least = np.ceil(low * count - equal / 2 - _ROUNDING)
    most = np.floor(high * count - equal / 2 + _ROUNDING)
    decided = answers[:, 0] + answers[:, 2]
    # where nobody decides there are no decided votes, and their lean is of no account
    lean = np.divide(answers[:, 0], decided, out=np.full_like(decided, 0.5), where=decided > 0)
    among = stats.binom.cdf(most, count - equal, lean[:, None]) - stats.binom.cdf(
        least - 1, count - equal, lean[:, None]
    )
    weight = np.asarray(stats.binom.pmf(equal, count, answers[:, 1:2]))
    weight[:, count] = 0.0  # everybody says "equal": not contested
    return np.asarray((weight * among).sum(1))


def _normal(answers: Floats, count: int) -> Floats:
    share = answers[:, 0] + answers[:, 1] / 2
    variance = (answers[:, 0] + answers[:, 1] / 4 - share**2) / count
    scale = np.sqrt(np.maximum(variance, np.finfo(np.float64).tiny))
    low, high = CONTESTED
    return np.asarray(
        stats.norm.cdf((high - share) / scale) - stats.norm.cdf((low - share) / scale)
    )
