"""What a check found: the parts of ``check.json``, which the page and the terminal both show."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

from hidden_context.check.judges import Judge
from hidden_context.data.files import to_plain
from hidden_context.statistics.interval import Interval

VERSION: Final = 1
FEWEST_PEOPLE: Final = 5
"""No group of fewer people is shown."""

SPLIT_BY_SHARES: Final = "Split: each side has 35 to 65 % of the votes, “equal” counting half."
"""What makes an item split, where items have votes enough for shares."""

Verdict = Literal["disagree", "partly", "agree", "unknown"]


@dataclass(frozen=True)
class Answer:
    """The answer in words.

    Attributes:
        verdict: ``disagree`` (at least a fifth of the items are split), ``partly`` (a twentieth),
            ``agree``, or ``unknown`` where no item has two votes.
        headline: One sentence.
        sentences: Where, about what, and who: one sentence each.
    """

    verdict: Verdict
    headline: str
    sentences: list[str]


@dataclass(frozen=True)
class Settings:
    """How the check was made.

    Attributes:
        unit: What an item is: ``pair`` (two responses compared) or ``rating`` (one text rated).
        features: ``TF-IDF and length``, or the name of the embedding model.
        group_by: What the items of a group have in common, such as ``first user turn``.
        groups: Number of groups; folds and intervals are by group.
        folds: Number of folds; 0 where nothing was predicted.
        sides: What the three answers mean: names of ``first``, ``equal`` and ``second``.
        middle: Ratings above it are read as high, below it as low; None without ratings.
        anonymised: Whether annotators' names were replaced.
        seed: Of everything drawn at random.
        split_means: What makes an item split, a sentence.
    """

    unit: Literal["pair", "rating"]
    features: str
    group_by: str
    groups: int
    folds: int
    sides: dict[str, str]
    middle: float | None
    anonymised: bool
    seed: int
    split_means: str = SPLIT_BY_SHARES


@dataclass(frozen=True)
class Kind:
    """Items whose votes look alike.

    Attributes:
        name: ``unanimous``, ``majority``, ``conflict``, ``mixed``, ``indifference`` or ``equal``.
        label: What that means, in a few words.
        is_split: Whether these items count as split.
        items: How many.
        share: Their share of the items with two votes or more.
    """

    name: str
    label: str
    is_split: bool
    items: int
    share: float


@dataclass(frozen=True)
class Test:
    """A test and what its p-value means.

    Attributes:
        question: What it asks.
        p_value: Probability of as much by chance alone.
        sentence: The finding in words.
    """

    __test__ = False

    question: str
    p_value: float
    sentence: str


@dataclass(frozen=True)
class Person:
    """One annotator beside the others.

    Attributes:
        name: The annotator's name, or a made-up one.
        votes: Number of votes.
        deviation: How far the annotator deviates, with an interval.
        agreement: Share of the other people's votes on the same items that are the same.
    """

    name: str
    votes: int
    deviation: Interval
    agreement: float


@dataclass(frozen=True)
class Observed:
    """What the votes say by themselves.

    Attributes:
        items: Number of items.
        judged: Items with two votes or more, on which all shares are taken.
        votes: Number of votes.
        abstentions: Judgements that are no votes.
        annotators: Number of annotators; 0 where none is named.
        votes_per_item: ``fewest``, ``median`` and ``most``.
        kinds: The judged items by what their votes look like; the shares add up to 1.
        split: Share of the judged items that are split; NaN ends where there are too few groups.
        equal_votes: Share of the votes that are ``equal``.
        opposite: Probability that two people take opposite sides on an item.
        alpha: Krippendorff's α.
        annotator_test: Whether annotators choose differently on the same items; None where that
            cannot be tested.
        across_test: The same across items that one annotator judged; None where there are few.
        deviation_means: What ``Person.deviation`` measures, in words.
        people: Annotators, those who deviate most first; empty where fewer than five are named.
    """

    items: int
    judged: int
    votes: int
    abstentions: int
    annotators: int
    votes_per_item: dict[str, float]
    kinds: list[Kind]
    split: Interval
    equal_votes: float
    opposite: Interval
    alpha: Interval
    annotator_test: Test | None = None
    deviation_means: str = ""
    people: list[Person] = field(default_factory=list)
    across_test: Test | None = None


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


@dataclass(frozen=True)
class Level:
    """People who have a value of a covariate in common; five at least.

    Attributes:
        name: The value, or a range of a number.
        people: How many.
        leaning: By how much more these people choose ``first`` (``high``) than all people do on
            the same items, as a share of votes, with an interval by person.
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
        people: People of whom it is known.
        alike: Probability that two people of the same level vote alike on an item; for a number,
            two people of the same half.
        unlike: The same for people of different levels.
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
        contexts_by: ``split`` where the words of a prompt foretell how split it is, ``text`` where
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


@dataclass(frozen=True)
class Found:
    """All that a check found.

    Attributes:
        version: Version of the file's format.
        source: What was checked.
        report: How the data were read, in words.
        settings: How the check was made.
        answer: The answer in words.
        observed: What the votes say by themselves.
        predicted: What models foretell; None where nothing could be foretold.
        explained: What goes with disagreement.
        advice: What a reward model should do; None for ratings alone or too few groups.
        missing: What could not be found, one line each.
        judges: Language models that were asked several times; they are no people.
    """

    version: int
    source: str
    report: str
    settings: Settings
    answer: Answer
    observed: Observed
    predicted: Predicted | None
    explained: Explained
    advice: Advice | None
    missing: list[str]
    judges: list[Judge] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return what ``check.json`` holds: None for what is not a number."""
        return dict(to_plain(self))
