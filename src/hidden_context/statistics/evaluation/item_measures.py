"""Measures that find contested items, and measures that tell conflict from indifference."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Final

import numpy as np

from hidden_context.statistics.checks import Booleans, Floats, places
from hidden_context.statistics.evaluation.predictions import VotePredictions
from hidden_context.statistics.interval import Interval
from hidden_context.statistics.means import ItemMeans
from hidden_context.statistics.votes.contested import (
    MeasureFound,
    compare_measures,
    contested_probability,
    contested_probability_of_voters,
)
from hidden_context.statistics.votes.table import KINDS, VoteTable

FEWEST_ITEMS: Final = 10
"""Items sought, and other items, below which measures are not compared."""
FEWEST_VOTES: Final = 4
"""Votes that an item needs for its halves to be compared."""


@dataclass(frozen=True)
class KindShare:
    """The items of one kind, by what their votes look like.

    Attributes:
        name: The kind, one of ``votes.table.KINDS``.
        is_split: Whether these items are contested.
        items: Number of these items.
        share: Their share of the items that several people judged.
    """

    name: str
    is_split: bool
    items: int
    share: float


@dataclass(frozen=True)
class Halves:
    """A ceiling: how well half of an item's votes predict whether the other half is contested.

    A model's measures are computed on the same halves, to compare them with what this many votes
    tell. The halves have equal size, an odd vote is left out, and each half predicts the other.

    Attributes:
        items: Number of items with four votes or more.
        contested: Share of their halves that are contested.
        measures: ``other_half``, how near the other half's share is to ½, and the model's measures.
    """

    items: int
    contested: float
    measures: list[MeasureFound]


@dataclass(frozen=True)
class Contested:
    """How well measures find the contested items among the items that several people judged.

    Attributes:
        items: Number of items that several people judged.
        contested: Number of these items that are contested.
        unanimous_equal: Number of these items with all votes "equal", which are not contested.
        share: Share of these items that are contested.
        expected: Mean ``contested_probability`` of the same items.
        measures: The measures; empty with fewer than ten contested or ten other items.
        halves: How well the votes predict each other; None with fewer than ten items of four votes
            or more, contested or not.
    """

    items: int
    contested: int
    unanimous_equal: int
    share: Interval
    expected: Interval
    measures: list[MeasureFound]
    halves: Halves | None = None


@dataclass(frozen=True)
class ConflictFound:
    """How well measures tell conflict from indifference among the contested items.

    Attributes:
        conflict: Number of items with two votes or more on each side.
        indifference: Number of items with three votes or more for "equal".
        measures: The measures, higher where conflict is expected.
    """

    conflict: int
    indifference: int
    measures: list[MeasureFound]


def kinds_of(table: VoteTable) -> list[KindShare]:
    """Count the items that several people judged, by what their votes look like."""
    kind, contested = table.counts.kind, table.counts.contested
    judged = int((kind != "").sum())
    return [
        KindShare(name, bool(contested[here].any()), int(here.sum()), float(here.sum() / judged))
        for name in KINDS
        if (here := kind == name).any()
    ]


def item_measures(
    table: VoteTable, predictions: VotePredictions, length: Floats | None = None
) -> dict[str, Floats]:
    """Compute scores that are higher where a model expects a contested item.

    Args:
        table: The votes. Only their number per item matters, and who cast them if annotators are
            known; what they say does not.
        predictions: A model's predictions of these votes.
        length: Difference in length of each item's responses, ``(I,)``; None if not known.

    Returns:
        By name, a score of each item, ``(I,)``: ``near_half`` (how near P is to ½),
        ``contested_probability``, ``contested_probability_own`` (of the annotators who voted, if
        the model knows some), ``expected_disagreement``, ``conflict``, ``sigma`` (of the difference
        of the two rewards), ``shared_context`` (the variance of the difference by shared context),
        and ``length``.
    """
    votes = np.maximum(np.rint(table.counts.votes), 1).astype(np.int64)
    found = {
        "near_half": -np.abs(predictions.probability - 0.5),
        "contested_probability": contested_probability(predictions.answers, votes),
    }
    if predictions.known.any():
        found["contested_probability_own"] = contested_probability_of_voters(
            np.exp(predictions.own), table.item, table.items
        )
    found |= {"expected_disagreement": predictions.disagreement, **_spread(predictions)}
    if length is not None:
        found["length"] = -np.abs(length)
    return found


def _spread(predictions: VotePredictions) -> dict[str, Floats]:
    found = {"conflict": predictions.conflict} if predictions.has_context else {}
    found["sigma"] = np.sqrt(np.maximum(predictions.variance, 0.0))
    if "shared_context" in predictions.parts:
        found["shared_context"] = predictions.parts["shared_context"]
    return found


def contested_of(
    table: VoteTable, predictions: VotePredictions, means: ItemMeans, length: Floats | None
) -> Contested | None:
    """Measure how well contested items are found; None if no item has several judges."""
    counts = table.counts
    judged, contested = counts.judged, counts.contested
    if not judged.any():
        return None
    scores = item_measures(table, predictions, length)
    sought = contested[judged]
    own = {name: values[judged] for name, values in scores.items()}
    how, cluster = vars(means.resampling), means.cluster[judged]
    measures = compare_measures(own, sought, cluster, **how) if _enough(sought) else []
    return Contested(
        int(judged.sum()),
        int(contested.sum()),
        int(counts.equal_only.sum()),
        means.of(np.where(judged, contested, np.nan)),
        means.of(np.where(judged, scores["contested_probability"], np.nan)),
        measures,
        _halves(table, predictions, means, length),
    )


def _enough(sought: Booleans) -> bool:
    return bool(min(sought.sum(), (~sought).sum()) >= FEWEST_ITEMS)


def _halves(
    table: VoteTable, predictions: VotePredictions, means: ItemMeans, length: Floats | None
) -> Halves | None:
    """Measure how well half of each item's votes, and the model, predict the other half."""
    votes = np.bincount(table.item, minlength=table.items)
    kept = votes >= FEWEST_VOTES
    if not kept.any():
        return None
    place = places(table.item, np.random.default_rng(means.resampling.seed).permutation(len(table)))
    # unequal halves could be told apart by a measure that knows the number of votes
    size = votes[table.item] // 2
    halves = place < size, (place >= size) & (place < 2 * size)
    scores: dict[str, list[Floats]] = {}
    sought = []
    for seen, other in (halves, halves[::-1]):
        counts, rest = table.select(seen).counts, table.select(other)
        own = dataclasses.replace(
            predictions, own=predictions.own[other], known=predictions.known[other]
        )
        near = np.where(counts.equal_only, -0.5, -np.abs(counts.share - 0.5))
        predicted = {"other_half": near, **item_measures(rest, own, length)}
        sought.append(rest.counts.contested[kept])
        for name, values in predicted.items():
            scores.setdefault(name, []).append(values[kept])
    both = np.concatenate(sought)
    if not _enough(both):
        return None
    joined = {name: np.concatenate(each) for name, each in scores.items() if len(each) == 2}
    measures = compare_measures(
        joined, both, np.tile(means.cluster[kept], 2), **vars(means.resampling)
    )
    return Halves(int(kept.sum()), float(both.mean()), measures)


def conflict_of(
    table: VoteTable, predictions: VotePredictions, means: ItemMeans, length: Floats | None
) -> ConflictFound | None:
    """Measure how well conflict is told from indifference; None with too few items of either."""
    conflict, indifference = table.counts.conflict, table.counts.indifference
    if min(conflict.sum(), indifference.sum()) < FEWEST_ITEMS:
        return None
    here = conflict | indifference
    scores = {"near_half": np.abs(predictions.probability - 0.5)}
    if predictions.has_equal:
        scores["equal"] = -predictions.answers[:, 1]
    scores |= _spread(predictions)
    if length is not None:
        scores["length"] = np.abs(length)
    own = {name: values[here] for name, values in scores.items()}
    measures = compare_measures(own, conflict[here], means.cluster[here], **vars(means.resampling))
    return ConflictFound(int(conflict.sum()), int(indifference.sum()), measures)
