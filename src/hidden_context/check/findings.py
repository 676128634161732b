"""What a check predicts and explains: topics, items, losses, covariates, contexts, and advice."""

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
    """How well one model predicts votes it did not see.

    Attributes:
        name: ``model``, ``linear``, ``length`` or ``constant``.
        label: The model's name in words.
        nll: Three-way loss in nats per vote.
        auroc: Area under the curve for finding split items; NaN for a constant.
    """

    name: str
    label: str
    nll: Interval
    auroc: Interval


@dataclass(frozen=True)
class KnownVoters:
    """Whether knowing who votes helps to predict votes, on the items of the first fold.

    Attributes:
        people: People with ten votes or more to learn from, and votes on these items.
        votes: Their votes on these items.
        loss: Three-way loss of these votes in nats per vote, where the model knows who votes.
        nameless_loss: Loss of the best prediction without names.
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
    """What models predict of items they did not see.

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


@dataclass(frozen=True)
class Level:
    """People who share a value of a covariate; at least five.

    Attributes:
        name: The value, or a range of a number.
        people: How many.
        leaning: By how much more these people choose the longer response (or rate high) than all
            people do on the same items, as a share of votes, with an interval by person.
        equal: By how much more they say ``equal``, as a share of votes.
    """

    name: str
    people: int
    leaning: Interval
    equal: Interval


@dataclass(frozen=True)
class Covariate:
    """Whether something known of people goes with their votes.

    Attributes:
        name: Name of the covariate.
        kind: ``group`` or ``number``.
        people: People for whom it is known.
        alike: Probability that two people of the same level vote alike on an item; for a number,
            two people of the same half.
        unlike: Probability that two people of different levels vote alike.
        p_value: By permutation of people.
        p_adjusted: By Holm's method over all covariates.
        levels: Levels of five people or more, in the data's order.
        levels_hidden: Number of smaller levels, which are not shown.
        sentence: The finding in words.
    """

    name: str
    kind: Literal["group", "number"]
    people: int
    alike: float
    unlike: float
    p_value: float
    p_adjusted: float
    levels: list[Level]
    levels_hidden: int
    sentence: str


@dataclass(frozen=True)
class Context:
    """Prompts that belong together, named by their distinctive words.

    Attributes:
        name: The words.
        prompts: How many prompts.
        items: How many items.
        split: Share of the items that are split.
        example: Beginning of a typical prompt.
    """

    name: str
    prompts: int
    items: int
    split: float
    example: str


@dataclass(frozen=True)
class Explained:
    """What goes with disagreement.

    Attributes:
        conflict_share: Share of the split items where people lean apart.
        indifference_share: Share of the split items where most people find both sides equal.
        sentence: Conflict or indifference, in words.
        covariates: What is known of people, smallest p first; empty without a table of annotators.
        contexts: Contexts found in the prompts, the most split first.
        contexts_by: ``split`` where the words of a prompt predict how split it is, ``text`` where
            contexts are clusters of text alone, ``none`` where there are none.
    """

    conflict_share: float
    indifference_share: float
    sentence: str
    covariates: list[Covariate]
    contexts: list[Context]
    contexts_by: Literal["split", "text", "none"]


@dataclass(frozen=True)
class Choice:
    """What choosing by one risk measure would mean.

    Attributes:
        measure: Such as ``mean`` or ``quantile:0.1``.
        differs: Share of the items where it chooses another response than the mean; 0 for the mean.
        against: Share of all votes against its choice.
        against_there: Share of the votes against its choice, on the items where it differs.
        mean_against_there: Share of the votes against the mean's choice, on the same items.
        many_against: Share of the items where at least a third of the votes are against its choice.
    """

    measure: str
    differs: Interval
    against: Interval
    against_there: Interval
    mean_against_there: Interval
    many_against: Interval


@dataclass(frozen=True)
class Advice:
    """What a reward model should do with the disagreement.

    Attributes:
        choices: The mean first, then cautious measures.
        majority_against: Share of the votes against each item's majority: no choice can do better.
        sentence: The advice in words.
    """

    choices: list[Choice]
    majority_against: float
    sentence: str
