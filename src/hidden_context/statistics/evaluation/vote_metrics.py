"""A model compared with votes: losses and their floor, disagreement, and known annotators."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hidden_context.statistics.agreement import rank_correlation
from hidden_context.statistics.checks import Codes, Floats, numbered
from hidden_context.statistics.evaluation.item_measures import conflict_of, contested_of, kinds_of
from hidden_context.statistics.evaluation.predictions import VotePredictions
from hidden_context.statistics.evaluation.results import (
    Disagreement,
    KnownAnnotators,
    LossRow,
    OwnAgainstPopulation,
    Spread,
    VoteMetrics,
)
from hidden_context.statistics.interval import Interval
from hidden_context.statistics.means import ItemMeans, two_way_interval
from hidden_context.statistics.votes.losses import (
    entropy_floor,
    three_way_losses,
    two_way_losses,
    vote_brier,
)
from hidden_context.statistics.votes.table import BETWEEN, EQUAL, VoteTable


def vote_metrics(
    table: VoteTable,
    predictions: VotePredictions,
    cluster: Codes | None = None,
    length: Floats | None = None,
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> VoteMetrics:
    """Compare predictions with votes.

    Args:
        table: V votes on I items, each of which has one.
        predictions: What a model says of them.
        cluster: Number of each item's group, such as its prompt, ``(I,)``; None where items are
            independent.
        length: Difference in length of each item's responses, ``(I,)``; None where not known.
        level: Confidence level of intervals.
        resamples: Of bootstraps.
        seed: Of bootstraps.

    Returns:
        The metrics. Intervals are by group; that of annotators by groups and annotators both.

    Raises:
        ConfigError: If shapes do not fit.
    """
    codes = numbered(cluster, table.items)
    means = ItemMeans(codes, level, resamples, seed)
    counts = table.counts
    named = np.unique(table.annotator[table.named])
    several = counts.judged
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
        kinds=kinds_of(table),
        contested=contested_of(table, predictions, means, length),
        conflict=conflict_of(table, predictions, means, length),
        spearman=None
        if several.sum() < 2
        else rank_correlation(
            predictions.probability[several],
            counts.share[several],
            codes[several],
            **means.resampling,
        ),
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
            for losses in (two_way_losses, three_way_losses)
        )
        rows.append(LossRow(name, two, three if predictions.has_equal else None))
    floors = [means.of(each[item], votes, item) for each in entropy_floor(table.counts)]
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
            own - population, group, votes.annotator, weight=weight, **means.resampling
        )
        before, after = (float(np.average(each, weights=weight)) for each in (population, own))
        return OwnAgainstPopulation(before, after, interval)

    return KnownAnnotators(
        len(votes),
        len(np.unique(votes.annotator)),
        gain(two_way_losses),
        gain(three_way_losses) if predictions.has_equal else None,
    )


def _brier(table: VoteTable, predictions: VotePredictions, means: ItemMeans) -> dict[str, Interval]:
    counts, half = table.counts, np.full(table.items, 0.5)
    ways = {"model": np.clip(predictions.probability, 0, 1), "constant": half}
    return {
        name: means.of(vote_brier(each, counts.share), counts.votes) for name, each in ways.items()
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
