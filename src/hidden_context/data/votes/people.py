"""Comparison of annotators: how far each deviates, and whether they answer differently."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from hidden_context.data.votes.items import ItemVotes
from hidden_context.statistics.checks import Codes
from hidden_context.statistics.interval import RESAMPLES, Interval
from hidden_context.statistics.significance.answers import AnnotatorTest, answers_test
from hidden_context.statistics.votes.random_effects import Effects, random_effects
from hidden_context.statistics.votes.table import VoteTable
from hidden_context.statistics.votes.tilts import DEVIATION, POSITION, READINESS, tilts_of

FEWEST_PEOPLE: Final = 5
"""No group of fewer people is shown."""
_WORTH_A_TEST: Final = 0.2
"""Least share of votes on single-vote items for a test across items."""
_WORDS: Final = {
    DEVIATION: "gives a different answer than another person, on the average item",
    READINESS: "says equal, on the average item",
    POSITION: "prefers the response that stands first, on the average item",
}
_WORDS_OF_RATINGS: Final = {
    READINESS: "rates in the middle, on the average item",
    POSITION: "rates high, on the average item",
}


@dataclass(frozen=True)
class Measure:
    """One way in which annotators differ, over all annotators.

    Attributes:
        what: What is measured, in words.
        typical: Its value for an annotator in the middle of the population.
        spread: Standard deviation of annotators around it, in logits.
        above: Annotators who lie clearly above ``typical``.
        below: Annotators who lie clearly below.
        wrong_sign: Expected number of these annotators whose true value is on the other side.
    """

    what: str
    typical: float
    spread: Interval
    above: int
    below: int
    wrong_sign: float


@dataclass(frozen=True)
class ObservedPerson:
    """One annotator compared with the others; intervals are of the posterior.

    Attributes:
        name: The annotator's name.
        votes: Number of votes.
        differs: Share of the other people's votes on the same items that differ; NaN without any.
        deviation: Probability of a different answer than another person, on an average item.
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
    """Annotators compared with each other.

    Attributes:
        annotators: How many have a vote.
        votes: Votes of an annotator: ``fewest``, ``median`` and ``most``.
        deviation: How far they deviate from others; None where no item has votes of two.
        readiness: Readiness to say ``equal``; None where nobody did.
        position: Preference for the response that stands first, or for ``high``; None where it is
            not known which stood first.
        who: All annotators; the annotator who deviates most clearly comes first.
    """

    annotators: int
    votes: dict[str, float]
    deviation: Measure | None
    readiness: Measure | None
    position: Measure | None
    who: list[ObservedPerson] = field(default_factory=list)


@dataclass(frozen=True)
class Observing:
    """Options for intervals and tests.

    Attributes:
        level: Confidence level.
        resamples: Resamples of the bootstrap over groups.
        test_resamples: Permutations of a test; 0 leaves tests out.
        seed: Seed of all random draws.
        people: Whether annotators are compared.
    """

    level: float = 0.95
    resamples: int = RESAMPLES
    test_resamples: int = 999
    seed: int = 0
    people: bool = True

    @property
    def bootstrap(self) -> dict[str, Any]:
        """The options of an interval."""
        return {"level": self.level, "resamples": self.resamples, "seed": self.seed}


def look_at_people(
    found: ItemVotes, table: VoteTable, options: Observing
) -> tuple[ObservedPeople | None, list[AnnotatorTest], list[str]]:
    """Compare annotators with each other.

    Args:
        found: The votes.
        table: The same votes, with only each annotator's first answer to an item.
        options: How intervals and tests are made.

    Returns:
        The comparison, the tests, and notes on gaps. With fewer than five people there is no
        comparison and no test.
    """
    if not options.people:
        return None, [], []
    if table.annotators < FEWEST_PEOPLE:
        few = "Fewer than five annotators are named"
        who = few if table.annotators else "No annotator is named"
        return None, [], [f"{who}, so annotators are not compared."]
    tilts = tilts_of(table, mirrored=found.kind == "comparisons")
    effects = {
        name: random_effects(
            tilt,
            table.answer,
            table.annotator,
            table.annotators,
            weight=table.weight,
            level=options.level,
        )
        for name, tilt in tilts.items()
    }
    notes = []
    if DEVIATION not in effects:
        notes.append("No item has votes by two people, so deviation cannot be measured.")
    if found.order_by_votes:
        notes.append(
            "It is not known which response stood first, so a preference for the first response "
            "cannot be measured."
        )
    tests = _tests(found, table, options) if options.test_resamples else []
    return _people(found, table, effects), tests, notes


def spread_of(counts: Codes) -> dict[str, float]:
    """Return the fewest, the median, the mean and the most of some counts."""
    return {
        "fewest": float(counts.min()),
        "median": float(np.median(counts)),
        "mean": float(counts.mean()),
        "most": float(counts.max()),
    }


def _people(found: ItemVotes, table: VoteTable, effects: dict[str, Effects]) -> ObservedPeople:
    words = _WORDS if found.kind == "comparisons" else {**_WORDS, **_WORDS_OF_RATINGS}
    measures = {
        name: Measure(
            words[name],
            effect.typical,
            effect.spread,
            int(effect.above.sum()),
            int(effect.below.sum()),
            effect.wrong_sign,
        )
        for name, effect in effects.items()
    }
    votes = np.bincount(table.annotator[table.named], minlength=table.annotators)
    order = np.arange(table.annotators)
    if DEVIATION in effects:
        away = effects[DEVIATION]
        order = np.argsort(-np.maximum(away.low - away.typical, away.typical - away.high))
    return ObservedPeople(
        annotators=table.annotators,
        votes=spread_of(votes),
        deviation=measures.get(DEVIATION),
        readiness=measures.get(READINESS),
        position=measures.get(POSITION),
        who=[_person(found.names[n], int(votes[n]), n, effects) for n in order.tolist()],
    )


def _person(name: str, votes: int, number: int, effects: dict[str, Effects]) -> ObservedPerson:
    own = {
        what: Interval(
            float(e.mean[number]), float(e.low[number]), float(e.high[number]), e.level, "posterior"
        )
        for what, e in effects.items()
    }
    differs = float(effects[DEVIATION].raw[number]) if DEVIATION in effects else float("nan")
    return ObservedPerson(name, votes, differs, *map(own.get, (DEVIATION, READINESS, POSITION)))


def _tests(found: ItemVotes, table: VoteTable, options: Observing) -> list[AnnotatorTest]:
    """Test within items, and across items where many items have one vote."""
    alone = (np.bincount(table.item)[table.item] == 1).mean()
    strata = [None, found.part] if alone >= _WORTH_A_TEST else [None]
    tests = [
        answers_test(
            table,
            each,
            block=found.block,
            mirrored=found.kind == "comparisons",
            resamples=options.test_resamples,
            seed=options.seed,
        )
        for each in strata
    ]
    return [test for test in tests if test is not None]
