"""What a check foretold: topics, items, models' losses, and whether names help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hidden_context.statistics.interval import Interval


@dataclass(frozen=True)
class Topic:
    """Items with a topic in common.

    Attributes:
        name: A value of the group's column, or the topic's distinctive words.
        items: Items with two votes or more.
        votes: Their votes.
        observed: Share of these items that are split.
        predicted: The mean over these items of the predicted probability of being split, by models
            that never saw the topic's group.
        conflict: Share of these items that are in conflict.
        indifference: Share of these items whose people find both sides equal.
        example: Beginning of a typical prompt.
    """

    name: str
    items: int
    votes: int
    observed: Interval
    predicted: Interval
    conflict: float
    indifference: float
    example: str


@dataclass(frozen=True)
class Item:
    """One split item with its votes.

    Attributes:
        place: Where it stands in the data, such as ``line 12``.
        topic: Its topic; empty without topics.
        prompt: The prompt, shortened; may be empty.
        responses: The two responses, or the one text that was rated; shortened.
        first: Votes for the first response, or for ``high``.
        equal: Votes for ``equal``.
        second: Votes for the second response, or for ``low``.
        predicted: Predicted shares of the three answers, in that order, by a model that did not
            see the item's group; empty where nothing was predicted.
        opposite: Probability that two people take opposite sides, from votes and prediction
            together; items are ranked by it.
    """

    place: str
    topic: str
    prompt: str
    responses: list[str]
    first: float
    equal: float
    second: float
    predicted: list[float]
    opposite: float


@dataclass(frozen=True)
class Score:
    """How well one model foretells votes it did not see.

    Attributes:
        name: ``model``, ``linear``, ``length`` or ``constant``.
        label: The same in words.
        nll: Three-way loss in nats per vote.
        auroc: Area under the curve for finding split items; NaN for a constant.
    """

    name: str
    label: str
    nll: Interval
    auroc: Interval


@dataclass(frozen=True)
class KnownVoters:
    """Whether knowing who votes helps to foretell votes, on the items of the first fold.

    Attributes:
        people: People with ten votes or more to learn from, and votes on these items.
        votes: Their votes on these items.
        loss: Three-way loss of these votes in nats per vote, where the model knows who votes.
        nameless_loss: The same of the best prediction without names.
        gain: The difference, in nats per vote, with an interval by person and ``interval_by``.
        by_habits: The gain from habits alone: how readily each says ``equal``; of ratings, how each
            uses the scale. None where there is no ``equal`` to say.
        interval_by: What else was resampled: ``group``, or ``prompt`` or ``item`` where fewer than
            five groups were held out.
        folds: Number of folds, of which this is one.
        sentence: The finding in words.
    """

    people: int
    votes: int
    loss: float
    nameless_loss: float
    gain: Interval
    by_habits: Interval | None
    interval_by: Literal["group", "prompt", "item"]
    folds: int
    sentence: str


@dataclass(frozen=True)
class Predicted:
    """What models foretell of items they did not see.

    Attributes:
        topics_by: What the topics are: ``column`` (values of ``--split_by``), ``context`` (clusters
            of prompts, found and named), or ``none``.
        topics: Topics, the most split first.
        topics_hidden: Topics left out because fewer than five people judged them.
        top: The ten most split items.
        scores: The model, then the baselines.
        floor: Entropy of the observed shares in nats per vote: no model without the annotators'
            names can be better.
        verdict: Whether the model beats its baselines, in words.
        voters: Whether it helps to know who votes; None where too few people are known.
    """

    topics_by: Literal["column", "context", "none"]
    topics: list[Topic]
    topics_hidden: int
    top: list[Item]
    scores: list[Score]
    floor: float
    verdict: str
    voters: KnownVoters | None = None
