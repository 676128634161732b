"""Votes of several people on items with two sides, and the kind of each item."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hidden_context.errors import ConfigError
from hidden_context.statistics.agreement import contested
from hidden_context.statistics.checks import Booleans, Codes, Floats, check_shares, quotient

FIRST, EQUAL, SECOND, BETWEEN = 0, 1, 2, -1
"""What a vote answers; ``BETWEEN`` is a share of several people, who are not told apart."""

CONTESTED_KINDS: Final = ("conflict", "mixed", "indifference")
KINDS: Final = ("unanimous", "majority", *CONTESTED_KINDS, "equal")
"""Kinds of items, by what their votes look like; see ``Counts.kind``."""

FEWEST_EACH_SIDE: Final = 2
"""Votes that a conflict has on each side at least."""
FEWEST_EQUAL: Final = 3
"""Votes for ``equal`` that indifference has at least."""


@dataclass(frozen=True, eq=False)
class VoteTable:
    """V votes of A people on I items, each of which has a first and a second side.

    Attributes:
        item: ``(V,)``, number of each vote's item, from 0 to I − 1.
        annotator: ``(V,)``, annotator of each vote, from 0 to A − 1; −1 if nobody is named.
        share: ``(V,)``, 1 for the first side, ½ for equal, 0 for the second; any other number is a
            share of several people.
        weight: ``(V,)``, weight of the vote in statistics of people, above 0.
        shown: ``(V,)``, 1 if the annotator was shown the item's first side first, −1 if the second
            side, 0 if the order is not known.
        items: I, the number of items.
        annotators: A, the number of annotators.
    """

    item: Codes
    annotator: Codes
    share: Floats
    weight: Floats
    shown: Codes
    items: int
    annotators: int

    @classmethod
    def of(
        cls,
        item: ArrayLike,
        annotator: ArrayLike,
        share: ArrayLike,
        *,
        weight: ArrayLike | None = None,
        shown: ArrayLike | None = None,
        items: int | None = None,
        annotators: int | None = None,
    ) -> VoteTable:
        """Make a table from lists; weights default to 1, and shown positions to unknown.

        Args:
            item: Number of each vote's item, ``(V,)``.
            annotator: Annotator of each vote, −1 if nobody is named, ``(V,)``.
            share: Share for the first side, in [0, 1], ``(V,)``.
            weight: Weight of each vote, ``(V,)``.
            shown: Which side was shown first, ``(V,)``.
            items: Number of items; the largest item number plus one if not given.
            annotators: Number of annotators, likewise.

        Raises:
            ConfigError: If the lists are empty or of unequal lengths, a number is out of range, a
                share lies outside [0, 1], or a weight is not above 0.
        """
        items_of, who, said = np.asarray(item), np.asarray(annotator), np.asarray(share, float)
        weights = np.ones(said.shape) if weight is None else np.asarray(weight, float)
        position = np.zeros(said.shape, np.int64) if shown is None else np.asarray(shown)
        columns = (items_of, who, said, weights, position)
        if said.ndim != 1 or not len(said) or len({column.shape for column in columns}) > 1:
            shapes = ", ".join(str(column.shape) for column in columns)
            raise ConfigError(f"votes need equally long, non-empty lists; got shapes {shapes}.")
        check_shares(said, "shares of votes")
        if not (weights > 0).all():
            raise ConfigError("weights of votes must be above 0.")
        if not np.isin(position, (-1, 0, 1)).all():
            raise ConfigError("the side shown first has to be 1, −1, or 0 where it is not known.")
        count = int(items_of.max()) + 1 if items is None else items
        people = int(who.max()) + 1 if annotators is None else annotators
        for name, numbers, low, high in (
            ("item", items_of, 0, count),
            ("annotator", who, -1, people),
        ):
            if numbers.min() < low or numbers.max() >= high:
                raise ConfigError(f"{name} numbers must lie from {low} to {high - 1}.")
        codes = [column.astype(np.int64) for column in (items_of, who, position)]
        return cls(codes[0], codes[1], said, weights, codes[2], count, people)

    def __len__(self) -> int:
        """Return the number of votes."""
        return len(self.share)

    @cached_property
    def answer(self) -> Codes:
        """The answer of each vote, ``(V,)``: ``FIRST``, ``EQUAL``, ``SECOND`` or ``BETWEEN``."""
        whole = {1.0: FIRST, 0.5: EQUAL, 0.0: SECOND}
        found = np.full(len(self), BETWEEN)
        for share, answer in whole.items():
            found[self.share == share] = answer
        return found

    @cached_property
    def named(self) -> Booleans:
        """Which votes have a named annotator, ``(V,)``."""
        return np.asarray(self.annotator >= 0)

    @cached_property
    def is_first_answer(self) -> Booleans:
        """Which votes are the annotator's first answer to the item, ``(V,)``."""
        person = np.where(self.named, self.annotator, self.annotators + np.arange(len(self)))
        key = self.item * (self.annotators + len(self)) + person
        first = np.zeros(len(self), dtype=bool)
        first[np.unique(key, return_index=True)[1]] = True
        return first

    def select(self, rows: Booleans | Codes) -> VoteTable:
        """Keep some votes; items and annotators keep their numbers."""
        names = ("item", "annotator", "share", "weight", "shown")
        return dataclasses.replace(self, **{name: getattr(self, name)[rows] for name in names})

    @cached_property
    def counts(self) -> Counts:
        """Votes for each answer by item."""
        answers = np.zeros((self.items, 3))
        for answer in (FIRST, EQUAL, SECOND):
            chosen = self.answer == answer
            answers[:, answer] = np.bincount(self.item[chosen], minlength=self.items)
        between = self.answer == BETWEEN
        item, share = self.item[between], self.share[between]
        shared = np.zeros((self.items, 3))
        shared[:, FIRST] = np.bincount(item, share, minlength=self.items)
        shared[:, SECOND] = np.bincount(item, 1 - share, minlength=self.items)
        return Counts(answers, shared)


@dataclass(frozen=True, eq=False)
class Counts:
    """The number of votes for each answer to each of I items.

    Attributes:
        whole: ``(I, 3)``, votes for first, equal and second.
        shared: ``(I, 3)``, votes that are shares of several people, divided by their share.
    """

    whole: Floats
    shared: Floats

    @property
    def answers(self) -> Floats:
        """Votes for first, equal and second, ``(I, 3)``."""
        return self.whole + self.shared

    @property
    def first(self) -> Floats:
        """Votes for the first side, ``(I,)``."""
        return self.answers[:, FIRST]

    @property
    def equal(self) -> Floats:
        """Votes for ``equal``, ``(I,)``."""
        return self.answers[:, EQUAL]

    @property
    def second(self) -> Floats:
        """Votes for the second side, ``(I,)``."""
        return self.answers[:, SECOND]

    @property
    def votes(self) -> Floats:
        """Number of votes, ``(I,)``."""
        return np.asarray(self.answers.sum(1))

    @property
    def share(self) -> Floats:
        """(first + ½ equal) / n, ``(I,)``; NaN without a vote."""
        return quotient(self.first + self.equal / 2, self.votes)

    @property
    def judged(self) -> Booleans:
        """Which items several people judged: two votes, or a share of several people, ``(I,)``."""
        return np.asarray((self.votes >= 2) | (self.shared.sum(1) > 0))

    @cached_property
    def kind(self) -> NDArray[np.str_]:
        """Each item's kind, one of ``KINDS``, ``(I,)``; empty unless several people judged it.

        ``unanimous`` means all votes are on one side, ``equal`` that all votes say equal. Any other
        item that is not contested has a ``majority``. A contested item is a ``conflict``,
        ``indifference``, or ``mixed``.
        """
        opposed, many_equal = np.minimum(self.first, self.second), self.equal >= FEWEST_EQUAL
        two_sides = opposed >= FEWEST_EACH_SIDE
        rules = {  # the first that holds
            "": ~self.judged,
            "unanimous": np.maximum(self.first, self.second) == self.votes,
            "equal": self.equal == self.votes,
            "majority": ~contested(self.share),
            "conflict": two_sides & (~many_equal | (2 * opposed >= self.equal)),
            "indifference": many_equal,
        }
        return np.select(list(rules.values()), list(rules), "mixed")

    @property
    def unanimous(self) -> Booleans:
        """Which judged items have all votes on one side, ``(I,)``."""
        return np.asarray(self.kind == "unanimous")

    @property
    def equal_only(self) -> Booleans:
        """Which judged items have all votes for ``equal``, ``(I,)``."""
        return np.asarray(self.kind == "equal")

    @property
    def split(self) -> Booleans:
        """Which judged items are not unanimous in any answer, ``(I,)``."""
        return np.isin(self.kind, ("majority", *CONTESTED_KINDS))

    @property
    def contested(self) -> Booleans:
        """Which judged items' shares lie in ``CONTESTED``, but not by ``equal`` alone, ``(I,)``."""
        return np.isin(self.kind, CONTESTED_KINDS)

    @property
    def conflict(self) -> Booleans:
        """Which contested items have two votes or more on each side, ``(I,)``.

        If there are also three votes for ``equal``, at least as many votes must be opposed as are
        ``equal``: 2 min(first, second) ≥ equal.
        """
        return np.asarray(self.kind == "conflict")

    @property
    def indifference(self) -> Booleans:
        """Which contested items have three votes or more for ``equal``, ``(I,)``.

        If there are also two votes on each side, more votes must be ``equal`` than are opposed, so
        no item is both.
        """
        return np.asarray(self.kind == "indifference")

    @property
    def differ(self) -> Floats:
        """Share of the pairs of an item's votes that differ, ``(I,)``; NaN below two votes.

        Votes that are shares of several people are ignored.
        """
        same = (self.whole * (self.whole - 1)).sum(1)
        return np.asarray(1 - self._of_pairs(same))

    @property
    def opposite(self) -> Floats:
        """Share of the pairs of an item's votes that take opposite sides, ``(I,)``, likewise."""
        return self._of_pairs(2 * self.whole[:, FIRST] * self.whole[:, SECOND])

    def _of_pairs(self, ordered: Floats) -> Floats:
        votes = self.whole.sum(1)
        return np.where(votes > 1, quotient(ordered, votes * (votes - 1)), np.nan)
