"""What goes with disagreement, and what a reward model should make of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hidden_context.statistics.interval import Interval


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
