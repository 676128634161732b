"""Results of comparing a model with votes: losses, disagreement, annotators, contested items."""

from __future__ import annotations

from dataclasses import dataclass, field

from hidden_context.statistics.evaluation.new_annotators import NewAnnotators
from hidden_context.statistics.interval import Interval
from hidden_context.statistics.votes.contested import MeasureFound


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
class KindShare:
    """Items whose votes look alike.

    Attributes:
        name: One of ``votes.table.KINDS``.
        is_split: Whether they are contested.
        items: How many.
        share: Of the items that several people judged.
    """

    name: str
    is_split: bool
    items: int
    share: float


@dataclass(frozen=True)
class Halves:
    """How well half of an item's votes tell whether the other half is contested: a ceiling.

    Measures of a model, on the same halves, may come near what as many votes tell. Halves are of
    one size, an odd vote is left out, and each predicts the other.

    Attributes:
        items: Items with four votes or more.
        contested: Share of their halves that are contested.
        measures: ``other_half``, how near the other half's share is to ½, and those of the model.
    """

    items: int
    contested: float
    measures: list[MeasureFound]


@dataclass(frozen=True)
class Contested:
    """How well measures find the contested items among those that several people judged.

    Attributes:
        items: How many several people judged.
        contested: How many of them are contested.
        unanimous_equal: How many are all "equal", which is not contested.
        share: Share contested.
        expected: Mean ``contested_probability`` of the same items.
        measures: The measures; empty with fewer than ten items of either sort.
        halves: What votes themselves tell of each other; None with fewer than ten items of four
            votes or more, contested or not.
    """

    items: int
    contested: int
    unanimous_equal: int
    share: Interval
    expected: Interval
    measures: list[MeasureFound]
    halves: Halves | None = None


@dataclass(frozen=True)
class ConflictFound:
    """How well measures tell conflict from indifference among the contested items.

    Attributes:
        conflict: Items with two votes or more on each side.
        indifference: Items with three votes or more for "equal".
        measures: The measures, higher where conflict is expected.
    """

    conflict: int
    indifference: int
    measures: list[MeasureFound]


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
        loss: Mean loss per vote, the model's and those it is held against.
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
    kinds: list[KindShare] = field(default_factory=list)
    contested: Contested | None = None
    conflict: ConflictFound | None = None
    spearman: Interval | None = None
    new_annotators: NewAnnotators | None = None
