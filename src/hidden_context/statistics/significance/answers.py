"""A test whether annotators choose differently, from their answers alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from hidden_context.errors import ConfigError
from hidden_context.statistics.checks import Booleans, Codes, Floats, numbered
from hidden_context.statistics.significance.permutation import TestResult, permutation_p_value
from hidden_context.statistics.votes.table import BETWEEN, VoteTable
from hidden_context.statistics.votes.tilts import tilts_of

_ROUNDING: Final = 1e-9
_WITHIN_LIMIT: Final = (
    "This test assumes nothing about who judged which item, so votes on items that one person "
    "judged say nothing. Annotators may differ in care as well as in values."
)
_ACROSS_LIMIT: Final = (
    "This test assumes that items were assigned to annotators at random within each part of the "
    "data. If they were not, it may find who judged what. Annotators may differ in care as well as "
    "in values."
)


@dataclass(frozen=True)
class AnnotatorTest(TestResult):
    """What a test of annotators found, and in which of its parts.

    Attributes:
        votes: How many votes tell something.
        annotators: Whose they are: how many people.
        parts: p-value of each part, corrected for there being several: in which way annotators
            differ.
    """

    votes: int = 0
    annotators: int = 0
    parts: dict[str, float] | None = None


def answers_test(
    table: VoteTable,
    strata: Codes | None = None,
    *,
    block: Codes | None = None,
    features: Mapping[str, Floats] | None = None,
    mirrored: bool = True,
    resamples: int = 999,
    seed: int = 0,
) -> AnnotatorTest | None:
    r"""Test whether annotators answer differently, by permuting who cast which vote.

    Where annotators are alike, the votes of one item may change places among the people who cast
    them. Each part asks for one tendency t (see ``tilts_of``): to deviate, to say ``equal``, to
    choose the side that stands first; and along each feature, to choose the side that has more of
    it. With c the tendency of a vote less the mean of its stratum, the statistic of a part is

    .. math:: T = \sum_a \frac{(\sum_{v \in a} c_v)^2}{V_a + \bar V}

    where :math:`V_a` is the variance of the inner sum by permutation, and :math:`\bar V` its mean
    over annotators. Parts are put on one scale by mean and deviation of their permutations; the
    largest is the test's.

    Args:
        table: The votes, each annotator's once for an item. Shares of several people and votes by
            nobody named play no part.
        strata: Part of the data of each item, ``(I,)``, within which items went to annotators at
            random: votes change places within the part, and what counts is how far they are from
            what the item's other votes predict. None lets votes change places within their item
            alone, which assumes nothing of who got which item.
        block: Block of each item, ``(I,)``: items that one answer settles together, such as the
            pairs of a ranking. An annotator's votes on a block move as one, and within their block
            only between annotators who judged the same of its items. None where each item stands
            alone.
        features: By name what an item's first side has more of than its second, ``(I,)``: such as
            length, or the leading directions of an embedding.
        mirrored: Whether the names of the two sides mean nothing.
        resamples: How many permutations.
        seed: Of the permutations.

    Returns:
        The result; its p-value is (1 + #{max T* ≥ max T}) / (1 + resamples). None where no stratum
        has votes of two annotators that differ.

    Raises:
        ConfigError: If an annotator answers an item twice, lengths differ, or a block lies in two
            strata.
    """
    values = _values(table, features or {}, mirrored, strata is not None)
    blocks = numbered(block, table.items, "block")
    units = _Units.of(
        table, blocks, None if strata is None else numbered(strata, table.items, "stratum")
    )
    found = {name: units.part(value) for name, value in values.items()}
    parts = {name: part for name, part in found.items() if part is not None}
    if not parts:
        return None
    telling = np.logical_or.reduce([part.telling for part in parts.values()])
    moving = _places(units.stratum, telling)
    generator = np.random.default_rng(seed)
    drawn = {name: np.empty(resamples) for name in parts}
    for draw in range(resamples):
        order = np.arange(len(units.who))  # which unit comes to each unit's place
        for places in moving:
            order[places] = generator.permuted(places, axis=1)
        for name, part in parts.items():
            drawn[name][draw] = part.statistic(order)
    scores, best = {}, np.full(resamples, -np.inf)
    for name, part in parts.items():
        middle, spread = drawn[name].mean(), max(float(drawn[name].std()), _ROUNDING)
        scores[name] = float((part.statistic() - middle) / spread)
        best = np.maximum(best, (drawn[name] - middle) / spread)
    p_values = {name: permutation_p_value(best, score) for name, score in scores.items()}
    return AnnotatorTest(
        name="answers_within_items" if strata is None else "answers_across_items",
        question="Do annotators choose differently?",
        statistic=max(scores.values()),
        p_value=min(p_values.values()),
        resamples=resamples,
        limit=_WITHIN_LIMIT if strata is None else _ACROSS_LIMIT,
        votes=int(units.votes[telling].sum()),
        annotators=len(np.unique(units.who[telling])),
        parts=p_values,
    )


def _values(
    table: VoteTable, features: Mapping[str, Floats], mirrored: bool, against_others: bool
) -> dict[str, Floats]:
    """Return each part's value of every vote, NaN where it has none.

    Against others it is less what they predict.
    """
    values = {}
    for name, tilt in tilts_of(table, mirrored=mirrored).items():
        values[name] = np.full(len(table), np.nan)
        predicted = tilt.expected if against_others else 0.0
        values[name][tilt.row] = tilt.of_answers(table.answer) - predicted
    for name, feature in features.items():
        if np.shape(feature) != (table.items,):
            raise ConfigError(f"feature {name!r} needs a number for each of {table.items} items.")
        values[name] = np.asarray(feature, dtype=np.float64)[table.item] * (2 * table.share - 1)
    return values


@dataclass(frozen=True, eq=False)
class _Units:
    """What moves as one: an annotator's votes on a block. U units.

    Attributes:
        row: Votes that are in a unit.
        unit: ``(len(row),)``, their unit.
        who: ``(U,)``, the unit's annotator.
        stratum: ``(U,)``, units that may change places.
        votes: ``(U,)``, how many votes each has.
        people: Number of annotators.
    """

    row: Codes
    unit: Codes
    who: Codes
    stratum: Codes
    votes: Codes
    people: int

    @classmethod
    def of(cls, table: VoteTable, blocks: Codes, strata: Codes | None) -> _Units:
        row = np.flatnonzero(table.named & (table.answer != BETWEEN))
        item, who = table.item[row], table.annotator[row]
        key = blocks[item] * table.annotators + who
        _, first, unit = np.unique(key, return_index=True, return_inverse=True)
        if strata is None:
            # units that judged the same items have the same sum of the items' random numbers
            marks = np.random.default_rng(0).integers(0, 2**32, table.items).astype(np.float64)
            same = np.bincount(unit, marks[item])
            columns = np.stack([blocks[item[first]].astype(np.float64), same])
            stratum = np.unique(columns, axis=1, return_inverse=True)[1].ravel()
        else:
            stratum = strata[item[first]]
            if not np.array_equal(stratum[unit], strata[item]):
                raise ConfigError("the items of one block must lie in one stratum.")
        return cls(row, unit, who[first], stratum, np.bincount(unit), table.annotators)

    def part(self, value: Floats) -> _Part | None:
        """Sum a value of every vote by unit, centred by stratum; None where nothing can move."""
        own = value[self.row]
        has = np.isfinite(own)
        known = np.bincount(self.unit, has, len(self.who)) > 0
        total = np.bincount(self.unit, np.where(has, own, 0.0), len(self.who))
        count = np.maximum(np.bincount(self.stratum, known), 1)
        mean = np.bincount(self.stratum, total * known) / count
        centred = np.where(known, total - mean[self.stratum], 0.0)
        variance = (np.bincount(self.stratum, centred**2) / count)[self.stratum]
        telling = known & (variance > _ROUNDING * max(1.0, float(np.square(total).max())))
        if not telling.any():
            return None
        by_person = np.bincount(self.who[telling], variance[telling], self.people)
        scale = by_person + by_person[by_person > 0].mean()
        return _Part(np.where(telling, centred, 0.0), telling, self.who, scale)


@dataclass(frozen=True, eq=False)
class _Part:
    """One part of the test, over U units: centred values, 0 where a unit has none."""

    values: Floats
    telling: Booleans
    who: Codes
    scale: Floats

    def statistic(self, order: Codes | None = None) -> float:
        """Return T, of the units as they are or in another order."""
        placed = self.values if order is None else self.values[order]
        sums = np.bincount(self.who, placed, len(self.scale))
        return float((sums**2 / self.scale).sum())


def _places(stratum: Codes, telling: Booleans) -> list[Codes]:
    """Return the units of strata with a telling one, strata of one size side by side."""
    rows = np.flatnonzero(np.bincount(stratum, telling)[stratum] > 0)
    rows = rows[np.argsort(stratum[rows], kind="stable")]
    size = np.bincount(stratum[rows])[stratum[rows]]
    return [rows[size == n].reshape(-1, n) for n in np.unique(size) if n > 1]
