"""A model compared with votes: losses and their floor, disagreement, and known annotators."""

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
    """Mean loss per vote of one way to predict, in nats.

    Attributes:
        name: ``model``; ``population``, the model without its annotators; ``constant``, the shares
            of all votes, whichever side is called first; or ``floor``, the entropy of each item's
            observed shares.
        two_way: With "equal" as half a vote each way.
        three_way: Among first, equal and second; None where the model has no answer "equal".
    """

    name: str
    two_way: Interval
    three_way: Interval | None


@dataclass(frozen=True)
class OwnAgainstPopulation:
    """Loss of known annotators' votes, as their own and as the population's.

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
    """What knowing the annotators is worth, over the votes of known annotators.

    Attributes:
        votes: How many votes.
        annotators: Of how many annotators.
        two_way: With "equal" as half a vote each way.
        three_way: Among three answers; None where the model has no answer "equal".
    """

    votes: int
    annotators: int
    two_way: OwnAgainstPopulation
    three_way: OwnAgainstPopulation | None


@dataclass(frozen=True)
class Disagreement:
    """Do two annotators of an item answer differently as often as expected?

    Attributes:
        expected: By the model.
        observed: Share of the pairs of an item's votes that differ.
        difference: Expected − observed.
    """

    expected: Interval
    observed: Interval
    difference: Interval


@dataclass(frozen=True)
class Spread:
    """Where the model's expected disagreement comes from, means over items.

    Attributes:
        conflict: Variance of annotators' two-way shares: people lean apart. 0 where the model has
            nothing in which annotators differ.
        same_person: What one person's answer varies by.
        has_context: Whether the head has a context that annotators share, or their habits were
            learned.
    """

    conflict: Interval
    same_person: Interval
    has_context: bool


@dataclass(frozen=True)
class VoteMetrics:
    """A model compared with votes.

    Attributes:
        items: Items with a vote: two responses of a prompt.
        votes: Votes on them.
        several: Items that several people judged.
        equal: Votes "equal".
        annotators: Annotators who are named.
        known: Of these, annotators whom the model has learned.
        loss: Mean loss per vote, of the model and of what it is compared with.
        annotators_known: What knowing annotators is worth; None where none is known.
        brier: Squared distance of P from the observed shares, by vote: ``model`` and ``constant``.
        disagreement: Expected and observed; None where no item has two votes.
        spread: Conflict, and what one person varies by.
        kinds: Items that several people judged, by what their votes look like.
        contested: None where no item was judged by several people.
        conflict: Conflict against indifference; None with fewer than ten items of either.
        new_annotators: Annotators whom the model has not learned, after a few of their votes; None
            where it cannot learn any, or there are none.
        spearman: Rank correlation of P with the observed shares, of items that several people
            judged; None where there are fewer than two.
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
        table: V votes on I items, each of which has one.
        predictions: What a model says of them.
        cluster: Number of each item's group, such as its prompt, ``(I,)``; None where items are
            independent.
        length: Difference in length of each item's responses, ``(I,)``; None where not known.
        resampling: How intervals are made.

    Returns:
        The metrics. Intervals are by group; that of annotators by groups and annotators both.

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
        # which side is called first is of no account, so a constant gives both the same
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
    """Of different people, so first answers; of sides alone where the model has no "equal"."""
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
    """Compare a model with the votes on judged items, and see how it learns new annotators.

    Args:
        items: The items, their votes and what the model predicts.
        resampling: How intervals are made.

    Returns:
        The metrics; see ``vote_metrics`` and ``new_annotators``.
    """
    found = vote_metrics(items.table, items.predictions, items.cluster, items.length, resampling)
    return dataclasses.replace(found, new_annotators=new_annotators(items, resampling))
