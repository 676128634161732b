"""Losses of a model's predictions of votes, and the lowest possible loss.

A vote is first, equal or second. Two-way losses count "equal" as half a vote each way. Three-way
losses treat "equal" as a separate answer, and need a model that has this answer.
"""

from __future__ import annotations

import numpy as np
from scipy.special import xlogy

from hidden_context.errors import ConfigError
from hidden_context.statistics.checks import Floats, check_shares, quotient
from hidden_context.statistics.votes.table import Counts


def two_way_losses(log_probs: Floats, share: Floats) -> Floats:
    r"""Compute the cross-entropy of each vote between the two sides.

    .. math:: -y \log(p_1 + \tfrac12 p_=) - (1 - y) \log(p_2 + \tfrac12 p_=)

    Args:
        log_probs: Log-probabilities of first, equal and second in nats, of shape ``(V, 3)``; −∞ for
            an answer that a model does not have.
        share: y, 1 for the first, ½ equal, 0 for the second, of shape ``(V,)``.

    Returns:
        Losses in nats, of shape ``(V,)``.

    Raises:
        ConfigError: If the shapes do not fit, or a share lies outside [0, 1].
    """
    log_probs, share = _checked(log_probs, share)
    half = log_probs[:, 1] + float(np.log(0.5))
    first, second = (np.logaddexp(log_probs[:, side], half) for side in (0, 2))
    return cross_entropy(first, second, share)


def three_way_losses(log_probs: Floats, share: Floats) -> Floats:
    """Compute the cross-entropy of each vote among first, equal and second.

    Args:
        log_probs: Log-probabilities of the three answers in nats, of shape ``(V, 3)``.
        share: 1 for the first, ½ equal, 0 for the second, of shape ``(V,)``; any other number is
            the share of several people, none of whom said equal.

    Returns:
        Losses in nats, of shape ``(V,)``.

    Raises:
        ConfigError: If the shapes do not fit, or a share lies outside [0, 1].
    """
    log_probs, share = _checked(log_probs, share)
    decided = cross_entropy(log_probs[:, 0], log_probs[:, 2], share)
    return np.where(share == 0.5, -log_probs[:, 1], decided)


def entropy_floor(counts: Counts) -> tuple[Floats, Floats]:
    r"""Compute the entropy of each item's observed shares: the lowest possible loss per vote.

    No prediction that is the same for all voters on an item has a lower mean loss on the item's
    votes. A prediction that knows the voters can have a lower loss.

    Args:
        counts: Votes of I items.

    Returns:
        Two- and three-way entropies in nats, each of shape ``(I,)``; NaN for items without a vote.
    """
    shares = quotient(counts.answers, counts.votes[:, None])
    one = shares[:, 0] + shares[:, 1] / 2
    two_way = -xlogy(one, one) - xlogy(1 - one, 1 - one)
    return np.maximum(two_way, 0.0), np.maximum(-xlogy(shares, shares).sum(1), 0.0)


def vote_brier(probability: Floats, share: Floats) -> Floats:
    """Compute the squared distance of predicted from observed two-way shares, ``(I,)``.

    Raises:
        ConfigError: If a number lies outside [0, 1].
    """
    probability, share = np.asarray(probability), np.asarray(share)
    check_shares(probability, "probabilities")
    check_shares(share, "shares")
    return np.asarray(np.square(probability - share), dtype=np.float64)


def _checked(log_probs: Floats, share: Floats) -> tuple[Floats, Floats]:
    log_probs, share = (np.asarray(values, dtype=np.float64) for values in (log_probs, share))
    if share.ndim != 1 or log_probs.shape != (len(share), 3):
        raise ConfigError(
            f"three log-probabilities are needed for each vote; got shapes {log_probs.shape} and "
            f"{share.shape}."
        )
    check_shares(share, "votes")
    return log_probs, share


def cross_entropy(first: Floats, second: Floats, share: Floats) -> Floats:
    """Return the cross-entropy −y·first − (1 − y)·second of shares y, with 0·∞ = 0, ``(V,)``."""
    # a side without votes must not contribute, even if its log-probability is −∞
    with np.errstate(invalid="ignore"):
        return np.asarray(
            np.where(share > 0, -share * first, 0.0)
            + np.where(share < 1, -(1 - share) * second, 0.0)
        )
