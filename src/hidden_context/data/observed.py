"""What people's votes say before any model: how often they split, how far annotators deviate."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hidden_context.data.example import Example
from hidden_context.data.observations import (
    KindShare,
    Observed,
    ObservedRatings,
    ObservedVotes,
    Repeated,
)
from hidden_context.data.observed_people import Observing, Seen, look_at_people, spread_of
from hidden_context.data.votes import ItemVotes, votes_of
from hidden_context.statistics.checks import Codes
from hidden_context.statistics.interval import Interval, cluster_interval, cluster_sums, ratio
from hidden_context.statistics.krippendorff import Metric, alpha, mean_difference, rating_alpha
from hidden_context.statistics.votes import KINDS, Counts

__all__ = ["Observing", "observe", "observed"]

Booleans = NDArray[np.bool_]
_ANSWERS: Final = ("first", "equal", "second")


def observed(
    examples: Sequence[Example],
    groups: Sequence[Hashable] | None = None,
    options: Observing | None = None,
) -> Observed:
    """Say what people's judgements show by themselves.

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
    """Say what votes on items show by themselves.

    Args:
        found: The votes.
        options: How intervals and tests are made.

    Returns:
        The numbers.
    """
    options = options or Observing()
    every = found.table
    table = every.select(every.is_first_answer)
    counts, shares = table.counts, _Shares(found.group, options)
    kind, judged = counts.kind, counts.judged
    paired = counts.whole.sum(1) > 1
    seen = look_at_people(found, table, options) if options.people else Seen()
    notes = list(seen.notes)
    if not judged.any():
        notes.insert(0, "No item was judged by several people, so nobody can be seen to differ.")
    return ObservedVotes(
        items=table.items,
        judged=int(judged.sum()),
        votes=len(table),
        annotators=table.annotators,
        unnamed=int((~table.named).sum()),
        votes_per_item=spread_of(np.bincount(table.item)),
        answers=_answers(counts),
        kinds={
            name: KindShare(int((kind == name).sum()), shares.of_items(kind == name, judged))
            for name in KINDS
        },
        split=shares.of_items(counts.split, judged),
        contested=shares.of_items(counts.contested, judged),
        differ=shares.of_items(counts.differ, paired),
        opposite=shares.of_items(counts.opposite, paired),
        alpha=_alpha(found, counts, "nominal", options),
        alpha_interval=_alpha(found, counts, "interval", options),
        repeated=_repeated(found, shares),
        people=seen.people,
        tests=seen.tests,
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
        alpha=rating_alpha(
            item,
            rating,
            found.group[item],
            level=options.level,
            resamples=options.resamples,
            seed=options.seed,
        ),
        difference=_Shares(found.group, options).of_items(
            differences, np.isfinite(differences), bounds=None
        ),
        votes=observe(found, options),
    )


@dataclass(frozen=True, eq=False)
class _Shares:
    """Means over items, with intervals by group."""

    group: Codes
    options: Observing

    def of_items(
        self,
        values: ArrayLike,
        among: Booleans,
        bounds: tuple[float, float] | None = (0.0, 1.0),
        group: Codes | None = None,
    ) -> Interval:
        """Return the mean over some items; NaN where there are none."""
        options = self.options
        if not among.any():
            return Interval(np.nan, np.nan, np.nan, options.level, "none")
        chosen = np.asarray(values, dtype=np.float64)[among]
        own = (self.group if group is None else group)[among]
        return cluster_interval(
            cluster_sums(np.stack([chosen, np.ones_like(chosen)], axis=1), own),
            ratio,
            bounds=bounds,
            level=options.level,
            resamples=options.resamples,
            seed=options.seed,
        )


def _alpha(found: ItemVotes, counts: Counts, metric: Metric, options: Observing) -> Interval:
    return alpha(
        counts.whole,
        found.group,
        metric=metric,
        mirrored=found.kind == "comparisons",
        level=options.level,
        resamples=options.resamples,
        seed=options.seed,
    )


def _answers(counts: Counts) -> dict[str, float]:
    totals = (counts.whole + counts.shared).sum(0)
    return dict(zip(_ANSWERS, (totals / totals.sum()).tolist(), strict=True))


def _repeated(found: ItemVotes, shares: _Shares) -> Repeated | None:
    """Hold later answers of annotators against their first ones to the same texts."""
    table = found.table
    named = np.flatnonzero(table.named)
    item = table.item[named]
    same_texts = dataclasses.replace(table.select(named), item=found.texts[item])
    first = same_texts.is_first_answer
    if first.all():
        return None
    said = found.rating
    if said is None:  # of the side whose text sorts first
        said = 0.5 + found.facing[table.item] * (table.share - 0.5)
    said = said[named]
    key = same_texts.item * table.annotators + same_texts.annotator
    rows, later = np.flatnonzero(first), np.flatnonzero(~first)
    rows = rows[np.argsort(key[rows])]
    before = rows[np.searchsorted(key[rows], key[later])]
    among = np.ones(len(later), dtype=bool)
    group = found.group[item[later]]
    return Repeated(len(later), shares.of_items(said[later] == said[before], among, group=group))
