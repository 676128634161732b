"""A test of whether annotators choose differently, from their answers alone."""

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
    "data. If they were not, the test may only find who judged what. Annotators may differ in care "
    "as well as in values."
)


@dataclass(frozen=True)
class AnnotatorTest(TestResult):
    """The result of a test of annotators, as a whole and for each of its parts.

    Attributes:
        votes: Number of informative votes.
        annotators: Number of annotators who cast these votes.
        parts: p-value of each part, corrected for the number of parts; shows in which way
            annotators differ.
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
    r"""Test whether annotators answer differently, by permuting votes among annotators.

    If annotators are alike, the votes on an item can be exchanged among the annotators who cast
    them. Each part tests one tendency t (see ``tilts_of``): to deviate, to say ``equal``, or to
    choose the side shown first. There is one more part for each feature: to choose the side with
    the larger value. With c the tendency of a vote minus the mean of its stratum, the statistic of
    a part is

    .. math:: T = \sum_a \frac{(\sum_{v \in a} c_v)^2}{V_a + \bar V}

    where :math:`V_a` is the variance of the inner sum under permutation, and :math:`\bar V` its
    mean over annotators. Each part is standardised by the mean and deviation of its permutations;
    the test uses the largest part.

    Args:
        table: The votes, at most one per annotator and item. Shares of several people and votes
            without a named annotator are ignored.
        strata: Stratum of each item, ``(I,)``. The test assumes that items were assigned to
            annotators at random within each stratum. Votes are permuted within the stratum, and
            each counts by its distance from the prediction of the item's other votes. None permutes
            votes only within their item, which assumes nothing about who got which item.
        block: Block of each item, ``(I,)``: items that one answer decides together, such as the
            pairs of a ranking. An annotator's votes on a block move together. Within a block, they
            move only between annotators who judged the same items of the block. None if each item
            is a block of its own.
        features: By name, the first side's value minus the second side's, ``(I,)``: such as length,
            or the leading directions of an embedding.
        mirrored: Whether the order of the two sides has no meaning.
        resamples: Number of permutations.
        seed: Seed of the permutations.

    Returns:
        The result; its p-value is (1 + #{max T* ≥ max T}) / (1 + resamples). None if no stratum has
        differing votes of two annotators.

    Raises:
        ConfigError: If an annotator answers an item twice, lengths differ, or a block lies in two
            strata.
    """
    values = _values(table, features or {}, mirrored, strata is not None)
    units = _Units.of(table, block, strata)
    found = {name: units.part(value) for name, value in values.items()}
    parts = {name: part for name, part in found.items() if part is not None}
    if not parts:
        return None
    telling = np.logical_or.reduce([part[1] for part in parts.values()])
    moving = _places(units.stratum, telling)
    generator = np.random.default_rng(seed)
    drawn = np.empty((len(parts), 1 + resamples))  # first the statistics of what was observed
    order = np.arange(len(units.who))  # the unit that takes each unit's place
    for draw in range(1 + resamples):
        for place, (value, _, scale) in enumerate(parts.values()):
            sums = np.bincount(units.who, value[order], units.people)
            drawn[place, draw] = (sums**2 / scale).sum()
        for places in moving:
            order[places] = generator.permuted(places, axis=1)
    null = drawn[:, 1:]
    spread = np.maximum(null.std(1, keepdims=True), _ROUNDING)
    scores = (drawn - null.mean(1, keepdims=True)) / spread
    best = scores[:, 1:].max(0)
    p_values = {
        name: permutation_p_value(best, float(score[0]))
        for name, score in zip(parts, scores, strict=True)
    }
    return AnnotatorTest(
        name="answers_within_items" if strata is None else "answers_across_items",
        question="Do annotators choose differently?",
        statistic=float(scores[:, 0].max()),
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

    With ``against_others``, the prediction of the item's other votes is subtracted.
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
    """The U units of a permutation: an annotator's votes on a block, which move together.

    Attributes:
        row: Votes that are in a unit.
        unit: ``(len(row),)``, the unit of each of these votes.
        who: ``(U,)``, the unit's annotator.
        stratum: ``(U,)``, the unit's stratum; units of one stratum can be exchanged.
        votes: ``(U,)``, number of votes in each unit.
        people: Number of annotators.
    """

    row: Codes
    unit: Codes
    who: Codes
    stratum: Codes
    votes: Codes
    people: int

    @classmethod
    def of(cls, table: VoteTable, block: Codes | None, strata: Codes | None) -> _Units:
        blocks = numbered(block, table.items, "block")
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
            strata = numbered(strata, table.items, "stratum")
            stratum = strata[item[first]]
            if not np.array_equal(stratum[unit], strata[item]):
                raise ConfigError("the items of one block must lie in one stratum.")
        return cls(row, unit, who[first], stratum, np.bincount(unit), table.annotators)

    def part(self, value: Floats) -> tuple[Floats, Booleans, Floats] | None:
        """Return one part of the test: the votes' values summed by unit, and centred by stratum.

        Returns:
            Values ``(U,)``, 0 where a unit has none; which units are informative ``(U,)``; and the
            denominators of T by annotator. None if no units can be exchanged.
        """
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
        return np.where(telling, centred, 0.0), telling, scale


def _places(stratum: Codes, telling: Booleans) -> list[Codes]:
    """Return the units of every stratum with an informative unit, grouped by stratum size."""
    rows = np.flatnonzero(np.bincount(stratum, telling)[stratum] > 0)
    rows = rows[np.argsort(stratum[rows], kind="stable")]
    size = np.bincount(stratum[rows])[stratum[rows]]
    return [rows[size == n].reshape(-1, n) for n in np.unique(size) if n > 1]
