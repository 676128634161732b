"""Records of the numbers of a set of pairs or responses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hidden_context.analysis.measure.evidence import PairEvidence, ResponseEvidence
from hidden_context.statistics.checks import Booleans, Floats
from hidden_context.statistics.interval import explained_moments, explained_variance_of_sums


@dataclass(frozen=True)
class Count:
    """A count of rows out of all rows.

    Attributes:
        share: The count as a share of all rows, in [0, 1].
        count: Number of rows that count. It ends in .5 if an odd number of ties count one half, and
            can be any number if a row counts by the share of its annotators.
        total: Number of all rows.
    """

    share: float = field(init=False)
    count: float
    total: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "share", self.count / self.total)
        if self.count == int(self.count):
            object.__setattr__(self, "count", int(self.count))


@dataclass(frozen=True)
class PairRecord:
    """Numbers of a set of pairs.

    Attributes:
        n: Number of pairs.
        loss: Mean cross-entropy in nats: −log P(chosen ≻ rejected) where labels are hard.
        accuracy: Count of pairs with P(preferred ≻ other) above ½. Pairs at exactly ½, and pairs
            whose annotators tied, count one half. A pair with several judges counts by the share of
            their votes.
        reward_mean: Mean of the mean rewards of all 2n texts, in reward units.
        reward_stddev: Mean of their standard deviations, in reward units.
        r2: Explained variance share over the 2n texts; None for a head without variance.
        accuracy_at: Per risk measure, count of pairs whose preferred text has the higher value,
            counted likewise.
        variance_shares: Shares of the variance of the difference between the two sides by cause,
            ``shared_context``, ``noise``, ``ignorance`` or ``unsplit``, summing to 1; None for a
            head that tells no causes apart.
    """

    n: int
    loss: float
    accuracy: Count
    reward_mean: float
    reward_stddev: float
    r2: float | None
    accuracy_at: dict[str, Count]
    variance_shares: dict[str, float] | None = None


@dataclass(frozen=True)
class ResponseRecord:
    """Numbers of a set of rows with several responses each.

    Attributes:
        n: Number of rows.
        num_responses: Number of responses in all rows together.
        reward_mean: Mean of the responses' mean rewards, in reward units.
        reward_stddev: Mean of their standard deviations, in reward units.
        r2: Explained variance share over the responses; None for a head without variance.
        second_at_least: Per risk measure, count of rows whose second response is rated at least as
            high as the first (a tie counts fully); None unless every row has two responses.
        variance_shares: Shares of the variance of rewards by cause (see :class:`PairRecord`).
    """

    n: int
    num_responses: int
    reward_mean: float
    reward_stddev: float
    r2: float | None
    second_at_least: dict[str, Count] | None
    variance_shares: dict[str, float] | None = None


def count_of(share: float, total: int) -> Count:
    """Return the count for a share, in whole and half rows without rounding errors."""
    return Count(round(2 * share * total) / 2, total)


def record_of_pairs(evidence: PairEvidence, rows: Booleans) -> PairRecord:
    """Summarise some of the pairs.

    Args:
        evidence: Numbers of all N pairs.
        rows: Which pairs, a mask of shape ``(N,)`` with at least one pair.

    Returns:
        The record.
    """
    return PairRecord(
        n=int(rows.sum()),
        loss=float(evidence.loss[rows].mean()),
        accuracy=_count(evidence.right[rows]),
        accuracy_at={name: _count(values[rows]) for name, values in evidence.right_at.items()},
        **_of_rewards(evidence, rows),
    )


def record_of_responses(evidence: ResponseEvidence, rows: Booleans) -> ResponseRecord:
    """Summarise the responses of some of the rows.

    Args:
        evidence: Numbers of all responses of N rows.
        rows: Which rows, a mask of shape ``(N,)`` with at least one row.

    Returns:
        The record.
    """
    n, own, rates = int(rows.sum()), rows[evidence.row], evidence.second_at_least
    return ResponseRecord(
        n=n,
        num_responses=int(own.sum()),
        second_at_least=None
        if rates is None
        else {name: count_of(float(values[rows].mean()), n) for name, values in rates.items()},
        **_of_rewards(evidence, own),
    )


def _count(right: Floats) -> Count:
    """Count right pairs, in whole and half pairs unless votes are split otherwise."""
    share, n = float(right.mean()), len(right)
    return Count(share * n, n) if ((2 * right) % 1).any() else count_of(share, n)


def _of_rewards(evidence: PairEvidence | ResponseEvidence, rows: Booleans) -> dict[str, Any]:
    """Summarise rewards: their means, r², and the shares of their variance by cause.

    r² is None for rewards without variance, or if nothing varies; the shares are None if no causes
    are told apart.
    """
    mean, variance = evidence.mean[rows], evidence.variance[rows]
    r2 = None
    if (variance > 0).any():
        centred = (mean - mean.mean()).ravel()  # loses fewer digits far from 0
        r2 = float(explained_variance_of_sums(explained_moments(centred, variance.ravel()).sum(0)))
    causes = {cause: float(part[rows].mean()) for cause, part in evidence.parts.items()}
    total = sum(causes.values())
    shares = {cause: value / total for cause, value in causes.items()} if total > 0 else {}
    return {
        "reward_mean": float(mean.mean()),
        "reward_stddev": float(evidence.stddev[rows].mean()),
        "r2": r2,
        "variance_shares": shares if len(shares) > 1 else None,
    }
