"""Comparison of a model with votes: losses and their floor, disagreement, known annotators."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from hidden_context.statistics.agreement import rank_correlation
from hidden_context.statistics.checks import Codes, Floats, numbered
from hidden_context.statistics.evaluation import item_measures as measured
from hidden_context.statistics.evaluation.new_annotators import NewAnnotators, new_annotators
from hidden_context.statistics.evaluation.predictions import JudgedItems, VotePredictions
from hidden_context.statistics.interval import VOTES, Interval, Resampling
from hidden_context.statistics.means import ItemMeans, two_way_interval
from hidden_context.statistics.votes import losses as vote_losses
from hidden_context.statistics.votes.table import BETWEEN, EQUAL, VoteTable


@dataclass(frozen=True)
class LossRow:
    """Mean loss per vote of one method of prediction, in nats.

    Attributes:
        name: ``model``; ``population``, the model without its annotators; ``constant``, the shares
            of all votes, whichever side is called first; or ``floor``, the entropy of each item's
            observed shares.
        two_way: Loss with "equal" as half a vote each way.
        three_way: Loss among first, equal and second; None if the model has no answer "equal".
    """

    name: str
    two_way: Interval
    three_way: Interval | None


@dataclass(frozen=True)
class OwnAgainstPopulation:
    """Loss on known annotators' votes, predicted with and without knowing the annotators.

    Attributes:
        population: Mean loss per vote without the annotators, in nats.
        own: Mean loss per vote with them.
        difference: Own − population, by groups of items and by annotators both.
    """

    population: float
    own: float
    difference: Interval


@dataclass(frozen=True)
class KnownAnnotators:
    """The gain from knowing the annotators, over the votes of known annotators.

    Attributes:
        votes: Number of votes.
        annotators: Number of annotators.
        two_way: Losses with "equal" as half a vote each way.
        three_way: Losses among three answers; None if the model has no answer "equal".
    """

    votes: int
    annotators: int
    two_way: OwnAgainstPopulation
    three_way: OwnAgainstPopulation | None


@dataclass(frozen=True)
class Disagreement:
    """Expected and observed disagreement: how often two annotators of an item differ.

    Attributes:
        expected: Share that the model expects.
        observed: Share of the pairs of an item's votes that differ.
        difference: Expected − observed.
    """

    expected: Interval
    observed: Interval
    difference: Interval


@dataclass(frozen=True)
class Spread:
    """The sources of the model's expected disagreement, as means over items.

    Attributes:
        conflict: Variance of annotators' two-way shares: people have different preferences. 0 if
            annotators do not differ in the model.
        same_person: Variance of one person's answer.
        has_context: Whether the head has a context that annotators share, or their habits were
            learned.
    """

    conflict: Interval
    same_person: Interval
    has_context: bool


@dataclass(frozen=True)
class VoteMetrics:
    """A comparison of a model with votes.

    Attributes:
        items: Number of items with a vote; an item is two responses to a prompt.
        votes: Number of votes on these items.
        several: Number of items that several people judged.
        equal: Number of votes "equal".
        annotators: Number of named annotators.
        known: Number of named annotators whom the model has learned.
        loss: Mean loss per vote, of the model and of its baselines.
        annotators_known: The gain from knowing annotators; None if no annotator is known.
        brier: Squared distance of P from the observed shares, by vote: ``model`` and ``constant``.
        disagreement: Expected and observed disagreement; None if no item has two votes.
        spread: Conflict, and the variance of one person's answer.
        kinds: Items that several people judged, by what their votes look like.
        contested: How well contested items are found; None if no item was judged by several people.
        conflict: Conflict against indifference; None with fewer than ten items of either.
        new_annotators: Annotators whom the model has not learned, after a few of their votes; None
            if the model cannot learn any, or there are none.
        spearman: Rank correlation of P with the observed shares, over items that several people
            judged; None if there are fewer than two.
    """

    items: int
    votes: int
    several: int
    equal: int
    annotators: int
    known: int
    loss: list[LossRow]
    annotators_known: KnownAnnotators | None
    brier: dict[str, Interval]
    disagreement: Disagreement | None
    spread: Spread
    kinds: list[measured.KindShare] = field(default_factory=list)
    contested: measured.Contested | None = None
    conflict: measured.ConflictFound | None = None
    spearman: Interval | None = None
    new_annotators: NewAnnotators | None = None


def vote_metrics(
    table: VoteTable,
    predictions: VotePredictions,
    cluster: Codes | None = None,
    length: Floats | None = None,
    resampling: Resampling = VOTES,
) -> VoteMetrics:
    """Compare predictions with votes.

    Args:
        table: V votes on I items; every item has a vote.
        predictions: A model's predictions of these votes.
        cluster: Number of each item's group, such as its prompt, ``(I,)``; None if items are
            independent.
        length: Difference in length of each item's responses, ``(I,)``; None if not known.
        resampling: How intervals are made.

    Returns:
        The metrics. Intervals are by group; for known annotators, by groups and by annotators.

    Raises:
        ConfigError: If shapes do not fit.
    """
    codes = numbered(cluster, table.items)
    means = ItemMeans(codes, resampling)
    counts = table.counts
    named = np.unique(table.annotator[table.named])
    several, spearman = counts.judged, None
    if several.sum() >= 2:
        columns = predictions.probability[several], counts.share[several], codes[several]
        spearman = rank_correlation(*columns, **vars(resampling))
    return VoteMetrics(
        items=table.items,
        votes=len(table),
        several=int(several.sum()),
        equal=int((table.answer == EQUAL).sum()),
        annotators=len(named),
        known=len(np.unique(table.annotator[table.named & predictions.known])),
        loss=_losses(table, predictions, means),
        annotators_known=_known(table, predictions, means),
        brier=_brier(table, predictions, means),
        disagreement=_disagreement(table, predictions, means),
        spread=Spread(
            means.of(predictions.conflict),
            means.of(predictions.same_person),
            predictions.has_context,
        ),
        kinds=measured.kinds_of(table),
        contested=measured.contested_of(table, predictions, means, length),
        conflict=measured.conflict_of(table, predictions, means, length),
        spearman=spearman,
    )


def _losses(table: VoteTable, predictions: VotePredictions, means: ItemMeans) -> list[LossRow]:
    votes, item = table.weight, table.item
    equal = float(np.average(table.answer == EQUAL, weights=votes))
    ways = {"model": predictions.own}
    if predictions.known.any():
        ways["population"] = predictions.population
    with np.errstate(divide="ignore"):
        # which side is called first has no meaning, so a constant gives both sides the same
        ways["constant"] = np.log(
            np.tile([(1 - equal) / 2, equal, (1 - equal) / 2], (len(table), 1))
        )
    rows = []
    for name, log_probs in ways.items():
        two, three = (
            means.of(losses(log_probs, table.share), votes, item)
            for losses in (vote_losses.two_way_losses, vote_losses.three_way_losses)
        )
        rows.append(LossRow(name, two, three if predictions.has_equal else None))
    floors = [means.of(each[item], votes, item) for each in vote_losses.entropy_floor(table.counts)]
    rows.append(LossRow("floor", floors[0], floors[1] if predictions.has_equal else None))
    return rows


def _known(
    table: VoteTable, predictions: VotePredictions, means: ItemMeans
) -> KnownAnnotators | None:
    known = predictions.known & table.named
    if not known.any():
        return None
    votes = table.select(known)
    group = means.cluster[votes.item]

    def gain(losses: Callable[[Floats, Floats], Floats]) -> OwnAgainstPopulation:
        population, own = (
            losses(each[known], votes.share) for each in (predictions.population, predictions.own)
        )
        weight = votes.weight
        interval = two_way_interval(
            own - population, group, votes.annotator, weight=weight, **vars(means.resampling)
        )
        before, after = (float(np.average(each, weights=weight)) for each in (population, own))
        return OwnAgainstPopulation(before, after, interval)

    return KnownAnnotators(
        len(votes),
        len(np.unique(votes.annotator)),
        gain(vote_losses.two_way_losses),
        gain(vote_losses.three_way_losses) if predictions.has_equal else None,
    )


def _brier(table: VoteTable, predictions: VotePredictions, means: ItemMeans) -> dict[str, Interval]:
    counts, half = table.counts, np.full(table.items, 0.5)
    ways = {"model": np.clip(predictions.probability, 0, 1), "constant": half}
    return {
        name: means.of(vote_losses.vote_brier(each, counts.share), counts.votes)
        for name, each in ways.items()
    }


def _disagreement(
    table: VoteTable, predictions: VotePredictions, means: ItemMeans
) -> Disagreement | None:
    """Compare disagreement over first answers; without "equal" votes if the model lacks them."""
    kept = table.is_first_answer & (table.answer != BETWEEN)
    expected = predictions.disagreement
    if not predictions.has_equal:
        kept &= table.answer != EQUAL
    observed = table.select(kept).counts.differ if kept.any() else np.full(table.items, np.nan)
    if not np.isfinite(observed).any():
        return None
    expected = np.where(np.isfinite(observed), expected, np.nan)
    return Disagreement(means.of(expected), means.of(observed), means.of(expected - observed))


def judged_metrics(items: JudgedItems, resampling: Resampling = VOTES) -> VoteMetrics:
    """Compare a model with the votes on judged items, and test how it learns new annotators.

    Args:
        items: The items, their votes and the model's predictions.
        resampling: How intervals are made.

    Returns:
        The metrics; see ``vote_metrics`` and ``new_annotators``.
    """
    found = vote_metrics(items.table, items.predictions, items.cluster, items.length, resampling)
    return dataclasses.replace(found, new_annotators=new_annotators(items, resampling))
