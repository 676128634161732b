r"""The posterior of an item's vote shares, and the expected gain from one more vote.

The shares of first, equal and second have a Dirichlet prior. Its mean is a forecast, and it counts
as much as some number of votes; the observed votes are added. The remaining uncertainty of the
shares, and its expected reduction by the next votes, have closed forms.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, TypeAlias

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.special import betainc, gammaln

from hidden_context.errors import ConfigError
from hidden_context.statistics.agreement import CONTESTED
from hidden_context.statistics.checks import Floats

Aim: TypeAlias = Literal["shares", "lean", "contested"]
"""What to estimate: the three shares, (first + ½ equal), or whether an item is contested."""

LEAN: Final = np.array([1.0, 0.5, 0.0])
MOST_AHEAD: Final = 8
"""Votes of one item that are looked ahead where the aim is ``contested``."""
_STRENGTHS: Final = 2.0 ** np.arange(0, 9.1, 0.25)


@dataclass(frozen=True, eq=False)
class SharePosterior:
    """Dirichlet posteriors of the shares of I items.

    Attributes:
        prior: Means of the priors, of shape ``(I, 3)``.
        strength: How many votes each prior is worth, of shape ``(I,)``.
        counts: Votes for first, equal and second, of shape ``(I, 3)``.
        planned: Final number of votes of each item, of shape ``(I,)``; the aim is then to know the
            shares of these votes. None if the aim is the shares of everybody who could be asked.

    Raises:
        ConfigError: If shapes do not fit, a prior is not a distribution or has no strength, a count
            is negative, or an item has more votes than planned.
    """

    prior: Floats
    strength: Floats
    counts: Floats
    planned: Floats | None = None

    def __post_init__(self) -> None:
        items = len(self.strength)
        if self.prior.shape != (items, 3) or self.counts.shape != (items, 3):
            raise ConfigError(
                f"three shares and three counts are needed for each of {items} items, not shapes "
                f"{self.prior.shape} and {self.counts.shape}."
            )
        if not (self.prior > 0).all() or (np.abs(self.prior.sum(1) - 1) > 1e-6).any():
            raise ConfigError("prior shares have to be above 0 and to sum to 1.")
        if not (self.strength > 0).all() or not (self.counts >= 0).all():
            raise ConfigError("strengths have to be above 0, and counts 0 or more.")
        if self.planned is not None and not (self.planned >= self.votes - 1e-9).all():
            raise ConfigError("an item has more votes than are planned.")

    @cached_property
    def votes(self) -> Floats:
        """Number of votes on each item, of shape ``(I,)``."""
        return np.asarray(self.counts.sum(1))

    @cached_property
    def total(self) -> Floats:
        """A, the strength plus the number of votes, of shape ``(I,)``."""
        return self.strength + self.votes

    @cached_property
    def mean(self) -> Floats:
        """Expected shares among everybody who could be asked, of shape ``(I, 3)``."""
        known = self.strength[:, None] * self.prior + self.counts
        return np.asarray(known / self.total[:, None])

    @property
    def estimate(self) -> Floats:
        """Expected shares of the planned votes, or of everybody if none are planned, ``(I, 3)``."""
        if self.planned is None:
            return self.mean
        rest = (self.planned - self.votes)[:, None]
        return np.asarray((self.counts + rest * self.mean) / self.planned[:, None])

    def expected_error(self, aim: Aim = "shares", more: Floats | int = 0) -> Floats:
        r"""Compute the expected squared error of the estimate after j more votes.

        .. math:: \frac{q A}{(A + 1)(A + j)}, \quad\text{and of } M \text{ planned votes}\quad
            \frac{q A}{A + 1}\,\frac{(m - j)(A + m)}{(A + j)\,M^2}

        with m = M − n votes still to come. q is the variance of one vote: Σ p (1 − p) for the
        shares, Var(1, ½, 0) for the lean. For ``contested`` it is the expected c (1 − c), where c
        is the probability that everybody's lean lies within .35 and .65.

        Args:
            aim: The quantity to estimate.
            more: Number j of additional votes, one number for each item or one for all.

        Returns:
            Expected errors of shape ``(I,)``.

        Raises:
            ConfigError: If the aim is ``contested`` and ``more`` is not one number up to 8, or if
                votes are planned with that aim.
        """
        if aim == "contested":
            return self._doubt(more)
        variance = self.mean @ LEAN**2 - (self.mean @ LEAN) ** 2  # of one vote
        if aim == "shares":
            variance = (self.mean * (1 - self.mean)).sum(1)
        after = np.asarray(variance * self.total / (self.total + 1) / (self.total + more))
        if self.planned is None:
            return after
        rest = self.planned - self.votes
        return np.asarray(
            after * np.maximum(rest - more, 0) * (self.total + rest) / self.planned**2
        )

    def drops(self, aim: Aim, most: int) -> Floats:
        """Compute the expected drop of the error for each of the next votes, ``(most, I)``.

        Drops never rise from one vote to the next. If the aim is ``contested``, a first vote may
        tell nothing and a second vote much; such votes share their joint drop.

        Args:
            aim: The quantity to estimate.
            most: Number of votes to look ahead; for ``contested``, at most 8.
        """
        if aim == "contested":
            most = min(most, MOST_AHEAD)
        errors = np.stack([self.expected_error(aim, more) for more in range(most + 1)])
        found = np.maximum(-np.diff(errors, axis=0), 0.0)
        if aim != "contested":
            return found
        each = [isotonic_regression(own, increasing=False).x for own in found.T]
        return np.stack(each, axis=1)

    def _doubt(self, more: Floats | int) -> Floats:
        if not isinstance(more, int) or not 0 <= more <= MOST_AHEAD:
            raise ConfigError(f"with the aim contested, look ahead 0 to {MOST_AHEAD} votes.")
        if self.planned is not None:
            raise ConfigError("the aim contested is about everybody, so it takes no planned votes.")
        found = np.zeros(len(self.total))
        alpha = self.mean * self.total[:, None]
        for first, equal in itertools.product(range(more + 1), repeat=2):
            if first + equal <= more:
                new = np.array([first, equal, more - first - equal], dtype=np.float64)
                ways = np.exp(gammaln(more + 1) - gammaln(new + 1).sum())
                contested = chance_contested(alpha + new)
                found += ways * np.exp(log_chance(alpha, new)) * contested * (1 - contested)
        return found


def chance_contested(alpha: Floats) -> Floats:
    r"""Compute P(.35 ≤ first + ½ equal ≤ .65) under a Dirichlet distribution.

    Uses the beta distribution of the same mean and variance; exact if nobody says ``equal``.

    Args:
        alpha: Parameters, of shape ``(I, 3)``.

    Returns:
        Probabilities of shape ``(I,)``.
    """
    total = alpha.sum(1)
    shares = alpha / total[:, None]
    lean = shares @ LEAN
    variance = (shares @ LEAN**2 - lean**2) / (total + 1)
    # a beta's own variance is μ(1 − μ)/(a + b + 1)
    both = np.maximum(lean * (1 - lean) / np.maximum(variance, 1e-12) - 1, 1e-6)
    low, high = CONTESTED
    first, second = lean * both, (1 - lean) * both
    return np.asarray(betainc(first, second, high) - betainc(first, second, low))


def fit_strength(prior: Floats, variance: Floats, counts: Floats) -> tuple[float, Floats]:
    r"""Fit how many votes a forecast is worth, from votes that the forecast did not use.

    An item's shares differ from the forecast because the forecast is uncertain (its variance v),
    and because the texts do not determine the shares (q / (a + 1), the same a for all items):

    .. math:: a_i = \frac{q_i}{q_i/(a + 1) + v_i} - 1, \qquad q_i = \sum_k p_k (1 - p_k)

    a is the most likely value from 1 to 512 under the Dirichlet-multinomial distribution, with a
    weak prior around 16 votes (a factor of 2 either way). The prior alone decides if no item has
    two votes.

    Args:
        prior: Forecast shares, of shape ``(I, 3)``.
        variance: Summed variance of the forecast shares, of shape ``(I,)``.
        counts: Votes, of shape ``(I, 3)``.

    Returns:
        a, and the strength a_i of each item, of shape ``(I,)``.

    Source: Mosimann (1962) for the Dirichlet-multinomial distribution.
    """
    spread = (prior * (1 - prior)).sum(1)

    def own(strength: float) -> Floats:
        doubt = spread / (strength + 1) + variance
        return np.maximum(spread / doubt - 1, 0.3)

    def score(strength: float) -> float:
        usual = np.log(strength / 16.0) / 0.7
        return float(log_chance(own(strength)[:, None] * prior, counts).sum()) - usual**2 / 2

    best = float(max(_STRENGTHS.tolist(), key=score))
    return best, own(best)


def log_chance(alpha: Floats, counts: Floats) -> Floats:
    """Compute the log-probability of votes, in one order, if their shares are Dirichlet.

    Args:
        alpha: Parameters, of shape ``(I, 3)``.
        counts: Votes for first, equal and second, of shape ``(I, 3)`` or ``(3,)``.

    Returns:
        Log-probabilities in nats, of shape ``(I,)``.

    Source: Mosimann (1962) for the Dirichlet-multinomial distribution.
    """
    total = alpha.sum(1)
    own = (gammaln(alpha + counts) - gammaln(alpha)).sum(1)
    return np.asarray(own + gammaln(total) - gammaln(total + counts.sum(-1)))
