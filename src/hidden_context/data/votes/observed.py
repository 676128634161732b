"""What people's votes show without a model: how often they split, how far annotators deviate."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hidden_context.data.example import Example
from hidden_context.data.votes.items import ItemVotes, votes_of
from hidden_context.data.votes.people import ObservedPeople, Observing, look_at_people, spread_of
from hidden_context.statistics.checks import Codes
from hidden_context.statistics.interval import Interval, cluster_interval, cluster_sums, ratio
from hidden_context.statistics.significance.answers import AnnotatorTest
from hidden_context.statistics.votes.krippendorff import alpha, mean_difference, rating_alpha
from hidden_context.statistics.votes.table import KINDS

__all__ = ["Observing", "observe", "observed"]

_ANSWERS: Final = ("first", "equal", "second")


@dataclass(frozen=True)
class KindShare:
    """The number and share of items of one kind.

    Attributes:
        items: How many.
        share: Their share of the judged items.
    """

    items: int
    share: Interval


@dataclass(frozen=True)
class Repeated:
    """Repeated answers by annotators who had already answered the same item.

    Attributes:
        answers: How many.
        same: Share that is the same as the first answer.
    """

    answers: int
    same: Interval


@dataclass(frozen=True)
class ObservedVotes:
    """Statistics of votes on items; repeated answers to an item count only in ``repeated``.

    Attributes:
        items: Number of items.
        judged: Items that several people judged, on which all shares are taken.
        votes: Number of votes.
        annotators: Number of annotators who are named.
        unnamed: Number of votes without a named annotator.
        votes_per_item: ``fewest``, ``median``, ``mean`` and ``most``.
        answers: Share of the votes for ``first``, ``equal`` and ``second``; of ratings, ``first``
            is high.
        kinds: Judged items by kind (see ``statistics.votes.table.KINDS``); the shares add up to 1.
        split: Share of the judged items that are not unanimous.
        contested: Share of the judged items that are contested.
        differ: Probability that two people answer an item differently, the mean over items.
        opposite: Probability that they take opposite sides.
        alpha: Krippendorff's α, nominal: ``equal`` is as far from a side as the other side.
        alpha_interval: Krippendorff's α with ``equal`` half-way between the sides.
        repeated: Answers of annotators to items they answered before; None without any.
        people: Annotators; None where fewer than five are named.
        tests: Tests whether annotators choose differently.
        notes: What could not be said and why, one sentence each.
    """

    items: int
    judged: int
    votes: int
    annotators: int
    unnamed: int
    votes_per_item: dict[str, float]
    answers: dict[str, float]
    kinds: dict[str, KindShare]
    split: Interval
    contested: Interval
    differ: Interval
    opposite: Interval
    alpha: Interval
    alpha_interval: Interval
    repeated: Repeated | None = None
    people: ObservedPeople | None = None
    tests: list[AnnotatorTest] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ObservedRatings:
    """Ratings of responses.

    Attributes:
        ratings: Number of ratings.
        lowest: The lowest.
        highest: The highest.
        middle: Ratings above it are votes for ``high``, below it for ``low``, at it for ``equal``.
        alpha: Krippendorff's α of the ratings themselves, by squared differences.
        difference: Mean absolute difference between two people's ratings of a response.
        votes: The ratings as votes.
    """

    ratings: int
    lowest: float
    highest: float
    middle: float
    alpha: Interval
    difference: Interval
    votes: ObservedVotes


@dataclass(frozen=True)
class Observed:
    """What the judgements show without a model.

    Attributes:
        comparisons: Comparisons and rankings; None without any.
        ratings: Ratings; None without any.
        abstentions: Judgements that are not votes.
    """

    comparisons: ObservedVotes | None
    ratings: ObservedRatings | None
    abstentions: int


def observed(
    examples: Sequence[Example],
    groups: Sequence[Hashable] | None = None,
    options: Observing | None = None,
) -> Observed:
    """Measure what judgements show without a model.

    Args:
        examples: The examples.
        groups: Group of each example, over which intervals resample; its first user turn if not
            given.
        options: How intervals and tests are made.

    Returns:
        Numbers of comparisons (rankings as pairs) and of ratings.

    Raises:
        ConfigError: If there is not one group for each example.
    """
    options = options or Observing()
    compared = votes_of(examples, groups)
    rated = votes_of(examples, groups, kind="ratings")
    return Observed(
        comparisons=None if compared is None else observe(compared, options),
        ratings=None if rated is None else _observe_ratings(rated, options),
        abstentions=sum(example.abstentions for example in examples),
    )


def observe(found: ItemVotes, options: Observing | None = None) -> ObservedVotes:
    """Measure what votes on items show without a model.

    Args:
        found: The votes.
        options: How intervals and tests are made.

    Returns:
        The numbers.
    """
    options = options or Observing()
    every = found.table
    table = every.select(every.is_first_answer)
    counts, share = table.counts, partial(_mean, group=found.group, options=options)
    kind, judged = counts.kind, counts.judged
    paired, totals = counts.whole.sum(1) > 1, (counts.whole + counts.shared).sum(0)
    agreement = partial(
        alpha,
        counts.whole,
        found.group,
        mirrored=found.kind == "comparisons",
        **options.bootstrap,
    )
    people, tests, notes = look_at_people(found, table, options)
    if not judged.any():
        notes.insert(0, "No item was judged by several people, so disagreement cannot be measured.")
    return ObservedVotes(
        items=table.items,
        judged=int(judged.sum()),
        votes=len(table),
        annotators=table.annotators,
        unnamed=int((~table.named).sum()),
        votes_per_item=spread_of(np.bincount(table.item)),
        answers=dict(zip(_ANSWERS, (totals / totals.sum()).tolist(), strict=True)),
        kinds={
            name: KindShare(int((kind == name).sum()), share(kind == name, judged))
            for name in KINDS
        },
        split=share(counts.split, judged),
        contested=share(counts.contested, judged),
        differ=share(counts.differ, paired),
        opposite=share(counts.opposite, paired),
        alpha=agreement(metric="nominal"),
        alpha_interval=agreement(metric="interval"),
        repeated=_repeated(found, options),
        people=people,
        tests=tests,
        notes=notes,
    )


def _observe_ratings(found: ItemVotes, options: Observing) -> ObservedRatings:
    assert found.rating is not None
    assert found.middle is not None
    first = found.table.is_first_answer
    item, rating = found.table.item[first], found.rating[first]
    differences = mean_difference(item, rating, found.table.items)
    return ObservedRatings(
        ratings=len(rating),
        lowest=float(rating.min()),
        highest=float(rating.max()),
        middle=found.middle,
        alpha=rating_alpha(item, rating, found.group[item], **options.bootstrap),
        difference=_mean(differences, np.isfinite(differences), found.group, options, bounds=None),
        votes=observe(found, options),
    )


def _mean(
    values: ArrayLike,
    among: NDArray[np.bool_],
    group: Codes,
    options: Observing,
    bounds: tuple[float, float] | None = (0.0, 1.0),
) -> Interval:
    """Return the mean over some items, with an interval by group; NaN where there are none."""
    if not among.any():
        return Interval(np.nan, np.nan, np.nan, options.level, "none")
    chosen = np.asarray(values, dtype=np.float64)[among]
    sums = cluster_sums(np.stack([chosen, np.ones_like(chosen)], axis=1), group[among])
    return cluster_interval(sums, ratio, bounds=bounds, **options.bootstrap)


def _repeated(found: ItemVotes, options: Observing) -> Repeated | None:
    """Compare later answers of annotators with their first answers to the same texts."""
    named = np.flatnonzero(found.table.named)
    table = found.by_texts.select(named)
    first = table.is_first_answer
    if first.all():
        return None
    said = table.share if found.rating is None else found.rating[named]
    key = table.item * table.annotators + table.annotator
    rows, later = np.flatnonzero(first), np.flatnonzero(~first)
    rows = rows[np.argsort(key[rows])]
    before = rows[np.searchsorted(key[rows], key[later])]
    among = np.ones(len(later), dtype=bool)
    group = found.group[found.table.item[named[later]]]
    return Repeated(len(later), _mean(said[later] == said[before], among, group, options))
