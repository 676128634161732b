"""What votes say by themselves, without a model: the numbers, as JSON has them."""

from __future__ import annotations

from dataclasses import dataclass, field

from hidden_context.statistics.annotator_tests import AnnotatorTest
from hidden_context.statistics.interval import Interval


@dataclass(frozen=True)
class KindShare:
    """Items whose votes look alike.

    Attributes:
        items: How many.
        share: Their share of the judged items.
    """

    items: int
    share: Interval


@dataclass(frozen=True)
class Repeated:
    """Answers of annotators who answered the same item before.

    Attributes:
        answers: How many.
        same: Share that is the same as the first answer.
    """

    answers: int
    same: Interval


@dataclass(frozen=True)
class Measure:
    """One way in which annotators differ, over all of them.

    Attributes:
        what: What is measured, in words.
        typical: Its value for an annotator in the middle of the population.
        spread: Standard deviation of annotators around it, in logits.
        above: Annotators who lie clearly above ``typical``.
        below: Annotators who lie clearly below.
        wrong_sign: How many of these lie on the other side in truth, as their posteriors say.
    """

    what: str
    typical: float
    spread: Interval
    above: int
    below: int
    wrong_sign: float


@dataclass(frozen=True)
class ObservedPerson:
    """One annotator beside the others; intervals are of the posterior.

    Attributes:
        name: The annotator's name.
        votes: Number of votes.
        differs: Share of the other people's votes on the same items that differ; NaN without any.
        deviation: Probability of answering otherwise than another person of an average item.
        readiness: Probability of ``equal`` on an average item.
        position: Share for the response that stands first on an average item, ``equal`` counted
            one half; of ratings, for ``high``.
    """

    name: str
    votes: int
    differs: float
    deviation: Interval | None
    readiness: Interval | None
    position: Interval | None


@dataclass(frozen=True)
class ObservedPeople:
    """Annotators beside each other.

    Attributes:
        annotators: How many have a vote.
        votes: Votes of an annotator: ``fewest``, ``median`` and ``most``.
        deviation: How far they deviate from others; None where no item has votes of two.
        readiness: Readiness to say ``equal``; None where nobody did.
        position: Preference for the response that stands first, or for ``high``; None where it is
            not known which stood first.
        who: All annotators, those who deviate most clearly first.
    """

    annotators: int
    votes: dict[str, float]
    deviation: Measure | None
    readiness: Measure | None
    position: Measure | None
    who: list[ObservedPerson] = field(default_factory=list)


@dataclass(frozen=True)
class ObservedVotes:
    """Votes on items; an annotator's later answers to the same item stand in ``repeated`` alone.

    Attributes:
        items: Number of items.
        judged: Items that several people judged, on which all shares are taken.
        votes: Number of votes.
        annotators: Number of annotators who are named.
        unnamed: Votes by nobody named.
        votes_per_item: ``fewest``, ``median``, ``mean`` and ``most``.
        answers: Share of the votes for ``first``, ``equal`` and ``second``; of ratings, ``first``
            is high.
        kinds: Judged items by kind (see ``statistics.votes.KINDS``); the shares add up to 1.
        split: Share of the judged items that are not unanimous.
        contested: Share of the judged items that are contested.
        differ: Probability that two people answer an item differently, the mean over items.
        opposite: Probability that they take opposite sides.
        alpha: Krippendorff's α, nominal: ``equal`` is as far from a side as the other side.
        alpha_interval: Krippendorff's α with ``equal`` half-way between the sides.
        repeated: Answers of annotators to items they answered before; None without any.
        people: Annotators; None where fewer than five are named.
        tests: Tests whether annotators choose differently.
        notes: What could not be said and why, one sentence each.
    """

    items: int
    judged: int
    votes: int
    annotators: int
    unnamed: int
    votes_per_item: dict[str, float]
    answers: dict[str, float]
    kinds: dict[str, KindShare]
    split: Interval
    contested: Interval
    differ: Interval
    opposite: Interval
    alpha: Interval
    alpha_interval: Interval
    repeated: Repeated | None = None
    people: ObservedPeople | None = None
    tests: list[AnnotatorTest] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ObservedRatings:
    """Ratings of responses.

    Attributes:
        ratings: Number of ratings.
        lowest: The lowest.
        highest: The highest.
        middle: Ratings above it are votes for ``high``, below it for ``low``, at it for ``equal``.
        alpha: Krippendorff's α of the ratings themselves, by squared differences.
        difference: Mean absolute difference between two people's ratings of a response.
        votes: The ratings as votes.
    """

    ratings: int
    lowest: float
    highest: float
    middle: float
    alpha: Interval
    difference: Interval
    votes: ObservedVotes


@dataclass(frozen=True)
class Observed:
    """What people said, by themselves.

    Attributes:
        comparisons: Comparisons and rankings; None without any.
        ratings: Ratings; None without any.
        abstentions: Judgements that are no votes.
    """

    comparisons: ObservedVotes | None
    ratings: ObservedRatings | None
    abstentions: int
