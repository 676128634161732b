"""Pairs that people voted on, and folds of their groups."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Final

import numpy as np

from hidden_context.errors import ConfigError
from hidden_context.statistics.checks import Booleans, Codes, Floats

FOLDS: Final = 4


@dataclasses.dataclass(frozen=True, eq=False)
class VotedPairs:
    """C pairs among R responses, each pair with the votes of one or more people.

    Attributes:
        features: Features of the responses, standardised, of shape ``(R, D)``.
        lengths: Lengths of the responses, in any unit, of shape ``(R,)``.
        groups: Group of each response, of shape ``(R,)``. The two of a pair have the same one,
            unless the pair was put together from two groups.
        first: Index of each pair's first response, of shape ``(C,)``.
        second: Index of its second response, of shape ``(C,)``.
        share: Share of the votes for the first, in [0, 1], of shape ``(C,)``; "equal" is half a
            vote each way.
        votes: Number of votes of each pair, or its weight, positive, of shape ``(C,)``.
        equal: Share of the votes that say "equal", of shape ``(C,)``; None where not known.

    Raises:
        ConfigError: If shapes do not fit, or a share or a number of votes is out of range.
    """

    features: Floats
    lengths: Floats
    groups: Codes
    first: Codes
    second: Codes
    share: Floats
    votes: Floats
    equal: Floats | None = None

    def __post_init__(self) -> None:
        texts, pairs = len(self.groups), len(self.share)
        equal = np.zeros(pairs) if self.equal is None else self.equal
        of_pairs = (self.first, self.second, self.share, self.votes, equal)
        right = [np.shape(part) == (pairs,) for part in of_pairs]
        right += [np.shape(self.lengths) == (texts,), np.shape(self.features)[:-1] == (texts,)]
        if not pairs or not all(right):
            raise ConfigError(
                f"the parts of voted pairs do not fit: {texts} groups of responses, features of "
                f"shape {np.shape(self.features)}, {pairs} shares of votes."
            )
        if not ((self.share >= 0) & (self.share <= 1)).all() or not (self.votes > 0).all():
            raise ConfigError("shares have to lie in [0, 1], and numbers of votes above 0.")

    def __len__(self) -> int:
        """Return the number C of pairs."""
        return len(self.share)

    @property
    def length_difference(self) -> Floats:
        """Length of the first response minus length of the second, of shape ``(C,)``."""
        return self.lengths[self.first] - self.lengths[self.second]

    def take(self, chosen: Codes | Booleans) -> VotedPairs:
        """Take some of the pairs, by indices or a mask; the responses stay as they are."""
        names = ("first", "second", "share", "votes", "equal")
        taken = {n: each[chosen] for n in names if (each := getattr(self, n)) is not None}
        return dataclasses.replace(self, **taken)

    def swapped(self) -> VotedPairs:
        """Return the same pairs with their sides exchanged."""
        return dataclasses.replace(self, first=self.second, second=self.first, share=1 - self.share)

    def folds(self, count: int = FOLDS, seed: int = 0) -> list[tuple[Booleans, Booleans]]:
        """Divide the pairs into folds by group (see ``group_folds``)."""
        groups = np.stack([self.groups[self.first], self.groups[self.second]], axis=1)
        return list(group_folds(groups, count, seed))


def group_folds(
    groups: Codes, count: int = FOLDS, seed: int = 0
) -> Iterator[tuple[Booleans, Booleans]]:
    """Divide pairs into folds by group, so that no group is both learned from and held out.

    A pair of two groups is held out if both groups are, and learned from if neither is. A pair with
    one group on each side is in neither part. Groups are shuffled, and fold k takes every
    ``count``-th group. If there is only one group, each pair is its own group.

    Args:
        groups: Group of each of the two responses, of shape ``(C, 2)``.
        count: Most folds; there are fewer where there are fewer groups.
        seed: Seed of the shuffle.

    Yields:
        For each fold two masks of shape ``(C,)``: what is learned from, and what is held out. A
        fold where one of them would be empty is left out.
    """
    codes = np.unique(groups, return_inverse=True)[1].reshape(-1, 2)
    if codes.max(initial=0) == 0:
        codes = np.repeat(np.arange(len(groups))[:, None], 2, axis=1)
    number = int(codes.max(initial=0)) + 1
    fold_of = np.empty(number, dtype=np.int64)
    fold_of[np.random.default_rng(seed).permutation(number)] = np.arange(number) % count
    fold = fold_of[codes]
    for k in range(min(count, number)):
        learn, held_out = (fold != k).all(1), (fold == k).all(1)
        if learn.any() and held_out.any():
            yield learn, held_out
