"""What a check found in the votes alone: kinds of items, agreement, and people."""

from __future__ import annotations

from dataclasses import dataclass, field

from hidden_context.statistics.interval import Interval


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
