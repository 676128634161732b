"""Tendencies in which a person's answers may differ from a typical person's on the same items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from hidden_context.errors import ConfigError
from hidden_context.statistics.checks import Codes, Floats
from hidden_context.statistics.votes.krippendorff import alpha
from hidden_context.statistics.votes.table import BETWEEN, EQUAL, Counts, VoteTable

DEVIATION, READINESS, POSITION = "deviation", "readiness", "position"
_LEAST_ALPHA: Final = 0.01


@dataclass(frozen=True, eq=False)
class Tilt:
    r"""A model of people who answer like a typical person except for one tendency b each.

    On the item of vote v, person a answers k (first, equal, second) with probability

    .. math:: P(k) \propto q_{vk} \exp(b_a\, t_{vk}).

    Attributes:
        name: ``deviation``, ``readiness`` or ``position``.
        row: ``(U,)``, the informative votes, by their place in the table.
        log_typical: ``(U, 3)``, log q: log-probabilities of a typical person's answers, estimated
            from the item's other votes.
        pull: ``(U, 3)``, t, in [0, 1]: how far each answer goes in the direction of the tendency.
    """

    name: str
    row: Codes
    log_typical: Floats
    pull: Floats

    def of_answers(self, answer: Codes) -> Floats:
        """Return t of the answers that were given, ``(U,)``.

        Args:
            answer: Answers of all votes of the table, ``(V,)``.
        """
        return np.asarray(self.pull[np.arange(len(self.row)), answer[self.row]])

    @property
    def expected(self) -> Floats:
        """Mean of t for a typical person, ``(U,)``."""
        return np.asarray((np.exp(self.log_typical) * self.pull).sum(1))


def tilts_of(table: VoteTable, *, mirrored: bool = True) -> dict[str, Tilt]:
    r"""Find the tendencies about which votes are informative.

    A typical person's answers are estimated from the item's other votes, shrunk towards the shares
    m of all answers, as with a Dirichlet prior whose strength κ follows from the agreement α:

    .. math:: q_{vk} = \frac{n_{vk} + \kappa m_k}{n_v + \kappa},
        \quad \kappa = \frac{1 - \alpha}{\alpha},

    with :math:`n_{vk}` the item's other votes and α Krippendorff's.

    - ``deviation`` is the tendency to give answers that the item's other annotators did not give: t
      is the share of the item's other votes that differ. It needs two votes on an item.
    - ``readiness`` is the tendency to say ``equal``: t is 1 for equal, 0 for the sides.
    - ``position`` is the tendency to choose the side shown first: t is 1 for this side, ½ for
      equal, and 0 for the other side. It needs to be known which side was shown first.

    Args:
        table: The votes, at most one per annotator and item. Shares of several people are ignored.
        mirrored: Whether the names of the two sides have no meaning; see ``krippendorff.alpha``.

    Returns:
        Tilts by name, without tendencies on which no vote is informative.

    Raises:
        ConfigError: If an annotator answers an item twice.
    """
    if not table.is_first_answer.all():
        raise ConfigError("an annotator answers an item twice; select the table's first answers.")
    telling = np.flatnonzero(table.named & (table.answer != BETWEEN))
    others = table.counts.whole[table.item[telling]].copy()
    others[np.arange(len(telling)), table.answer[telling]] -= 1
    typical = _typical(table.counts, others, mirrored)
    count = others.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_typical = np.log(typical)
        differing = 1 - others / count[:, None]
    side = table.shown[telling, None] * np.array([0.5, 0.0, -0.5]) + 0.5
    found = {
        DEVIATION: (count > 0, differing),
        READINESS: (
            np.full(len(telling), typical[:, EQUAL].any()),
            np.tile(np.eye(3)[EQUAL], (len(telling), 1)),
        ),
        POSITION: (table.shown[telling] != 0, side),
    }
    return {
        name: Tilt(name, telling[rows], log_typical[rows], pull[rows])
        for name, (rows, pull) in found.items()
        if rows.any()
    }


def _typical(counts: Counts, others: Floats, mirrored: bool) -> Floats:
    """Return q, ``(U, 3)``, of the item's other votes, ``(U, 3)``."""
    shares = counts.whole.sum(0)
    if mirrored:
        shares = (shares + shares[::-1]) / 2
    shares = shares / max(shares.sum(), 1)
    one_group = np.zeros(len(counts.whole), dtype=np.int64)  # no interval is asked for
    agreement = alpha(counts.whole, one_group, mirrored=mirrored).estimate
    agreement = float(np.clip(np.nan_to_num(agreement), _LEAST_ALPHA, 1 - _LEAST_ALPHA))
    strength = (1 - agreement) / agreement
    return np.asarray(
        (others + strength * shares) / (others.sum(1, keepdims=True) + strength), dtype=np.float64
    )


def sides_were_chosen(table: VoteTable, *, most: float = 0.9, fewest: int = 20) -> bool:
    """Tell whether the side shown first was put there because it won.

    Args:
        table: The votes.
        most: Share of decided items won by the side shown first, above which the answer is True.
        fewest: Number of decided items below which the answer is False.

    Returns:
        Whether, of the items with more votes for one side, nearly all favour the side shown first.
    """
    lead = np.bincount(table.item, table.shown * (table.share - 0.5), table.items)
    decided = np.abs(lead) > 1e-9
    return bool(decided.sum() >= fewest and (lead[decided] > 0).mean() > most)
