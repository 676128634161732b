"""Predictions compared with votes: over all pairs, and by topic."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from hidden_context.analysis.measure.intervals import group_labels
from hidden_context.analysis.read.files import PairScores
from hidden_context.data.example import Comparison
from hidden_context.statistics.checks import Booleans, Codes, Floats
from hidden_context.statistics.interval import FEWEST, Interval, Resampling
from hidden_context.statistics.means import ItemMeans

if TYPE_CHECKING:
    from hidden_context.likelihood import Labels, Likelihood
    from hidden_context.statistics.evaluation.predictions import JudgedItems
    from hidden_context.statistics.evaluation.vote_metrics import VoteMetrics

FEWEST_PEOPLE: Final = 5
"""Topics judged by fewer people are left out."""

MEASURES: Final = {
    "near_half": "P near ½",
    "contested_probability": "probability of a contested vote",
    "contested_probability_own": "probability of a contested vote, for the people who voted",
    "expected_disagreement": "expected disagreement",
    "conflict": "conflict: people lean apart",
    "sigma": "σ of the difference",
    "shared_context": "variance by shared context",
    "equal": "probability of “equal”",
    "length": "difference in length",
    "other_half": "the other half of the votes",
}
"""What measures are called in tables."""


@dataclass(frozen=True)
class Topic:
    """A topic: the items that share the value of a column.

    Attributes:
        column: The column.
        name: The value of the column.
        items: Number of items that several people judged.
        votes: Number of votes on these items.
        observed: Share of these items that are contested.
        predicted: Mean of the model's ``contested_probability`` over these items.
        r2_within: Share of the variance of reward differences that the texts explain; None for
            rewards without variance.
    """

    column: str
    name: str
    items: int
    votes: int
    observed: Interval
    predicted: Interval
    r2_within: float | None


@dataclass(frozen=True)
class ContestednessOfTopics:
    """The relation across topics between r² within prompts and the share of contested items.

    Attributes:
        column: The column whose values are compared.
        groups: Number of values.
        spearman: Rank correlation of r² within prompts with the share contested, over the values.
    """

    column: str
    groups: int
    spearman: Interval


@dataclass(frozen=True)
class VoteAnalysis:
    """A comparison of predictions with votes.

    Attributes:
        metrics: Metrics over all items.
        topics: Topics by the columns that split the file, the most contested first.
        r2_within: r² within prompts against the share contested, by column.
    """

    metrics: VoteMetrics
    topics: list[Topic] = field(default_factory=list)
    r2_within: list[ContestednessOfTopics] = field(default_factory=list)


def votes_of_pairs(
    scores: PairScores, likelihood: Likelihood, by: list[str], resampling: Resampling
) -> VoteAnalysis | None:
    """Compare the predictions for pairs with their votes.

    Args:
        scores: The pairs with their judgements.
        likelihood: The likelihood, which reads raw outputs and knows the model's annotators.
        by: Columns that split the pairs into topics.
        resampling: How intervals are made.

    Returns:
        The analysis; None if no pair was judged by several people and no annotator is known.
    """
    from hidden_context.statistics.evaluation.vote_metrics import judged_metrics

    items = _items(scores, likelihood) if _may_say(scores, likelihood) else None
    if items is None:
        return None
    found = [
        (column, _by_topic(items, column, values, resampling))
        for column, values in _topics(scores, items, by).items()
    ]
    trends = [_trend(column, topics, resampling) for column, topics in found]
    return VoteAnalysis(
        judged_metrics(items, resampling),
        sorted((t for _, topics in found for t in topics), key=lambda t: -t.observed.estimate),
        [trend for trend in trends if trend is not None],
    )


def _may_say(scores: PairScores, likelihood: Likelihood) -> bool:
    """Check cheaply whether there may be votes of several people or of known annotators."""
    share, item = scores.preference, scores.facts.item
    return (
        likelihood.knows_annotators
        or len(np.unique(item)) < len(item)
        or bool(((share > 0) & (share < 1)).any())
        or any(len(said.judgements) > 1 for said in scores.said)
    )


def labels_of_pairs(scores: PairScores, likelihood: Likelihood) -> Labels:
    """Return the labels of the pairs, with annotators numbered as in the likelihood."""
    from hidden_context.data.labels import labels_of

    names, levels = likelihood.names, likelihood.options.levels
    return labels_of(scores.said, names.index, names.column, levels, scores.file)


def _items(scores: PairScores, likelihood: Likelihood) -> JudgedItems | None:
    import torch

    from hidden_context.statistics.evaluation.predictions import judged_items

    raw = torch.from_numpy(
        np.stack([scores.chosen, scores.rejected], axis=1).reshape(-1, scores.width)
    )
    facts = scores.facts
    _, who, _ = votes_on(scores, range(len(scores.said)), likelihood.names.column)
    return judged_items(
        likelihood,
        raw,
        labels_of_pairs(scores, likelihood),
        torch.from_numpy(numbers_of(who)),
        item=facts.item,
        turned=facts.swapped,
        cluster=facts.cluster,
        length=facts.length,
    )


def votes_on(
    scores: PairScores, rows: Iterable[int], column: str = "annotator"
) -> tuple[Codes, NDArray[np.str_], Floats]:
    """Collect the votes on some of the pairs; abstentions are left out.

    Args:
        scores: The pairs.
        rows: Which pairs.
        column: The column that names annotators.

    Returns:
        For each vote, the place of its pair; the annotator, empty if nobody is named; and the share
        for the chosen side.
    """
    from hidden_context.data.labels import annotator_of

    own = scores.labels.get("annotator") if column == "annotator" else None
    found = []
    for row in rows:
        for said in scores.said[row].judgements:
            if isinstance(said.answer, Comparison):
                name = annotator_of(said, column)
                if name is None:
                    name = "" if own is None else own[row]
                found.append((row, str(name), said.answer.preference))
    row_of, who, preference = zip(*found, strict=True)
    return np.array(row_of), np.array(who), np.array(preference, dtype=np.float64)


def numbers_of(who: NDArray[np.str_]) -> Codes:
    """Number the annotators of votes from 0; −1 if nobody is named."""
    names, codes = np.unique(who, return_inverse=True)
    return np.asarray(codes - (names[0] == ""), dtype=np.int64)


def _topics(scores: PairScores, items: JudgedItems, by: list[str]) -> dict[str, NDArray[np.str_]]:
    """Return values of columns by item; leave out columns with several values for one item."""
    facts, found = scores.facts, {}
    for column, values in group_labels(scores, by).items():
        own = values[items.example]
        by_code = dict(zip(facts.item[items.example].tolist(), own.tolist(), strict=True))
        rows = zip(facts.item.tolist(), values.tolist(), strict=True)
        same = all(by_code.get(item, value) == value for item, value in rows)
        if same and len(set(own.tolist())) > 1:
            found[column] = own
    return found


def _by_topic(
    items: JudgedItems, column: str, values: NDArray[np.str_], resampling: Resampling
) -> list[Topic]:
    means = ItemMeans(items.cluster, resampling)
    judged = items.table.counts.judged
    return [
        _topic(items, column, value, judged & (values == value), means)
        for value in np.unique(values[judged]).tolist()
        if value and _people(items, judged & (values == value)) >= FEWEST_PEOPLE
    ]


def _people(items: JudgedItems, here: Booleans) -> int:
    """Count the people who judged some items; without names, the most votes on one item."""
    votes = items.table.select(here[items.table.item])
    named = len(np.unique(votes.annotator[votes.named]))
    return max(named, int(votes.select(~votes.named).counts.votes.max()))


def _topic(items: JudgedItems, column: str, value: str, here: Booleans, means: ItemMeans) -> Topic:
    from hidden_context.statistics.interval import within_moments, within_variance_of_sums
    from hidden_context.statistics.votes.contested import contested_probability

    counts, predictions = items.table.counts, items.predictions
    expected = np.full(len(here), np.nan)
    votes = np.maximum(np.rint(counts.votes[here]), 1).astype(np.int64)
    expected[here] = contested_probability(predictions.answers[here], votes)
    within = None
    if (predictions.variance > 0).any():
        moments = within_moments(predictions.difference[here], predictions.variance[here])
        within = float(within_variance_of_sums(moments.sum(0)))
    sizes = int(here.sum()), int(counts.votes[here].sum())
    observed = means.of(np.where(here, counts.contested, np.nan))
    return Topic(column, str(value), *sizes, observed, means.of(expected), within)


def _trend(
    column: str, topics: list[Topic], resampling: Resampling
) -> ContestednessOfTopics | None:
    from hidden_context.statistics.agreement import rank_correlation

    within = [topic.r2_within for topic in topics if topic.r2_within is not None]
    if len(within) < max(FEWEST, len(topics)):
        return None
    contested = np.array([topic.observed.estimate for topic in topics])
    found = rank_correlation(np.array(within), contested, **vars(resampling))
    return ContestednessOfTopics(column, len(topics), found)
