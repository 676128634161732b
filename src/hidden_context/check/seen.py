"""What the votes say by themselves, as the page shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from hidden_context.check.answer import across_sentence, who_sentence
from hidden_context.check.items import Items
from hidden_context.check.results import FEWEST_PEOPLE
from hidden_context.check.results_observed import Kind, Observed, Person, Test
from hidden_context.data.observations import ObservedPeople, ObservedVotes
from hidden_context.data.observed import Observing, observe
from hidden_context.report.people import KINDS
from hidden_context.statistics.annotator_tests import AnnotatorTest

SPLIT_KINDS: Final = ("conflict", "mixed", "indifference")
_RATED: Final = {
    "unanimous": "all on one half of the scale",
    "majority": "most on one half of the scale",
    "indifference": "most in the middle",
    "equal": "all in the middle",
}
FEW: Final = "Split: not all say the same; for shares there are too few votes an item."


def look(items: Items, seed: int = 0) -> tuple[Observed, list[str]]:
    """Say what the votes show without any model.

    Args:
        items: The items.
        seed: Of resamples and permutations.

    Returns:
        The numbers, and what could not be said.
    """
    seen = observe(items.votes, Observing(seed=seed))
    tests = {test.name: test for test in seen.tests}
    observed = Observed(
        items=seen.items,
        judged=seen.judged,
        votes=seen.votes,
        abstentions=items.abstentions,
        annotators=seen.annotators,
        votes_per_item=seen.votes_per_item,
        kinds=_kinds(seen, items),
        split=seen.split if items.has_few_votes else seen.contested,
        equal_votes=seen.answers["equal"],
        opposite=seen.opposite,
        alpha=seen.alpha,
        annotator_test=_test(tests.get("answers_within_items"), who_sentence),
        across_test=_test(tests.get("answers_across_items"), across_sentence),
        deviation_means=_means(seen.people),
        people=_people(seen.people),
    )
    return observed, list(seen.notes)


def _test(found: AnnotatorTest | None, sentence: Callable[[float], str]) -> Test | None:
    return None if found is None else Test(found.question, found.p_value, sentence(found.p_value))


def _kinds(seen: ObservedVotes, items: Items) -> list[Kind]:
    split = (*SPLIT_KINDS, "majority") if items.has_few_votes else SPLIT_KINDS
    labels = KINDS if items.are_pairs else KINDS | _RATED
    return [
        Kind(name, labels[name], name in split, each.items, each.share.estimate)
        for name, each in seen.kinds.items()
        if seen.judged
    ]


def _means(people: ObservedPeople | None) -> str:
    if people is None or people.deviation is None:
        return ""
    return f"How often somebody {people.deviation.what}"


def _people(people: ObservedPeople | None) -> list[Person]:
    if people is None or people.deviation is None or len(people.who) < FEWEST_PEOPLE:
        return []
    return [
        Person(who.name, who.votes, who.deviation, float(np.round(1 - who.differs, 9)))
        for who in people.who
        if who.deviation is not None
    ]
