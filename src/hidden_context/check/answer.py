"""The answer in words: what the votes show, where and about what people disagree, and advice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from hidden_context.check.findings import Advice, Choice, Explained, Predicted
from hidden_context.check.items import FEWEST_FOR_SHARES, Items
from hidden_context.check.numbers import counted, p_value, with_ends
from hidden_context.check.results import Answer, Kind, Observed, Person, Test, Verdict
from hidden_context.data.votes.observed import ObservedVotes, Observing, observe
from hidden_context.data.votes.people import ObservedPeople
from hidden_context.report.html.people import KINDS
from hidden_context.statistics.checks import Floats
from hidden_context.statistics.interval import SHARE, Interval, Resampling
from hidden_context.statistics.means import ratio_interval
from hidden_context.statistics.significance.answers import AnnotatorTest
from hidden_context.statistics.votes.table import CONTESTED_KINDS
from hidden_context.terminal import percent

MEASURES: Final = ("mean", "quantile:0.1", "cvar:0.1")
MANY: Final = 1 / 3
"""Share of an item's votes from which on many are against a choice."""
_NAMES: Final = {"mean": "mean", "quantile:0.1": "10 % quantile", "cvar:0.1": "10 % CVaR"}
_RATED: Final = {
    "unanimous": "all on one half of the scale",
    "majority": "most on one half of the scale",
    "indifference": "most in the middle",
    "equal": "all in the middle",
}
FEW: Final = "Split: not all say the same; for shares there are too few votes an item."
_SURE: Final = 0.05
_SHOWN: Final = 0.005
_NAMED_TOPICS: Final = 3


def answer_of(
    items: Items, observed: Observed, predicted: Predicted | None, explained: Explained
) -> Answer:
    """Put the findings into a headline and a few sentences."""
    unit = "pair" if items.are_pairs else "text"
    if not observed.judged:
        return Answer(
            "unknown",
            f"Nobody can say whether your people disagree: no {unit} has two votes.",
            [f"The data hold {counted(observed.items, unit)} with one vote each."],
        )
    split = observed.split.estimate
    verdict: Verdict = "disagree" if split >= 0.2 else "partly" if split >= 0.05 else "agree"
    words = {
        "disagree": "Your people disagree",
        "partly": "Your people disagree in part",
        "agree": "Your people mostly agree",
    }
    of = counted(observed.judged, unit)
    headline = f"{words[verdict]}: they are split on {percent(split, 0)} of {of}."
    opposite = ""
    if np.isfinite(observed.opposite.estimate):
        opposite = (
            f"Two people take opposite sides on {with_ends(observed.opposite)} of the {unit}s."
        )
    tests = (observed.annotator_test, observed.across_test)
    who = [test.sentence for test in tests if test is not None]
    sentences = [opposite, _where(predicted), explained.sentence, *who]
    sure = [each for each in explained.covariates if each.p_adjusted < _SURE]
    if sure:
        names = ", ".join(each.name for each in sure[:_NAMED_TOPICS])
        more = f" and {len(sure) - _NAMED_TOPICS} more" if len(sure) > _NAMED_TOPICS else ""
        sentences.append(f"Votes go with what is known of people: {names}{more}.")
    return Answer(verdict, headline, [sentence for sentence in sentences if sentence])


def _where(predicted: Predicted | None) -> str:
    topics = [] if predicted is None else predicted.topics
    if len(topics) < 2:
        return ""
    top, last = topics[0], topics[-1]
    if top.observed.low > last.observed.high:
        return (
            f"Most split: “{top.name}” ({percent(top.observed.estimate, 0)}). "
            f"Least: “{last.name}” ({percent(last.observed.estimate, 0)})."
        )
    return "No topic is clearly more split than another."


def kind_sentence(items: Items) -> tuple[float, float, str]:
    """Say whether split items are conflict or indifference.

    Returns:
        Share of the split items in conflict, share in indifference, and a sentence.
    """
    counts = items.votes.table.counts
    split = counts.contested
    if not items.split.any():
        return float("nan"), float("nan"), ""
    if items.has_few_votes or counts.votes[split].max() < FEWEST_FOR_SHARES:
        words = "There are too few votes an item to tell conflict from indifference."
        return float("nan"), float("nan"), words
    conflict, none = float(counts.conflict[split].mean()), float(counts.indifference[split].mean())
    rest = 1 - conflict - none
    unit = "pairs" if items.are_pairs else "texts"
    parts = [f"on {percent(conflict, 0)} of the split {unit} people stand against each other"]
    if none >= _SHOWN:
        parts.append(f"on {percent(none, 0)} most say equal")
    if rest >= _SHOWN:
        parts.append(f"on {percent(rest, 0)} it is too close to call")
    about = "conflict more than indifference"
    if none >= conflict:
        about = "indifference more than conflict"
    return conflict, none, f"It is {about}: {', '.join(parts)}."


def who_sentence(p: float) -> str:
    """Say whether annotators answer differently on the same items.

    >>> who_sentence(0.001)
    'Who votes matters: some annotators stand out from the others (p = 0.001).'
    """
    if p < _SURE:
        return f"Who votes matters: some annotators stand out from the others ({p_value(p)})."
    return f"No annotator stands out from the others by more than chance ({p_value(p)})."


def across_sentence(p: float) -> str:
    """Say whether annotators answer differently across items.

    >>> across_sentence(0.001)
    'Across items people answer differently (p = 0.001), if they got their items at random.'
    """
    if p < _SURE:
        return (
            f"Across items people answer differently ({p_value(p)}), if they got their items at "
            "random."
        )
    return f"Across items nobody clearly answers differently ({p_value(p)})."


def weigh_measures(items: Items, values: dict[str, Floats], seed: int = 0) -> Advice | None:
    """Count the votes against the choices of each risk measure.

    A vote for the response that is not chosen is against the choice; ``equal`` is against neither.

    Args:
        items: The items, pairs.
        values: By measure the values of both responses, each of shape ``(I, 2)``, the mean's first.
        seed: Seed of the bootstrap.

    Returns:
        The advice; None without values, or without an item that two people judged.
    """
    judged = items.votes.table.counts.judged
    if not values or not judged.any():
        return None
    counts, groups = items.counts[judged], items.group[judged]
    votes = counts.sum(1)
    picks = {name: each[judged, 0] >= each[judged, 1] for name, each in values.items()}
    against = {name: np.where(first, counts[:, 2], counts[:, 0]) for name, first in picks.items()}
    mean, ones, how = against["mean"], np.ones(len(votes)), vars(Resampling(seed=seed))

    def share(total: Floats, weight: Floats) -> Interval:
        return ratio_interval(total, weight, groups, bounds=SHARE, **how)

    choices, gains = list[Choice](), {}
    for name, lost in against.items():
        apart = (picks[name] != picks["mean"]).astype(np.float64)
        gains[name] = ratio_interval(lost - mean, votes, groups, **how)
        choices.append(
            Choice(
                measure=name,
                differs=share(apart, ones),
                against=share(lost, votes),
                against_there=share(lost * apart, votes * apart),
                mean_against_there=share(mean * apart, votes * apart),
                many_against=share((lost >= MANY * votes - 1e-9).astype(np.float64), ones),
            )
        )
    least = float(np.minimum(counts[:, 0], counts[:, 2]).sum() / votes.sum())
    return Advice(choices, least, _advice_sentence(choices, gains, least))


def _advice_sentence(choices: list[Choice], gains: dict[str, Interval], least: float) -> str:
    mean = choices[0]
    start = (
        f"A model that chooses by the mean has {percent(mean.against.estimate, 0)} of the votes "
        f"against it; each item's majority has {percent(least, 0)}."
    )
    cautious = [choice for choice in choices[1:] if choice.differs.estimate > 0]
    if not cautious:
        return f"{start} Cautious measures never choose differently: use the mean."
    better = [c for c in cautious if gains[c.measure].high < 0]
    worse = [c for c in cautious if gains[c.measure].low > 0]
    shown = better[0] if better else worse[0] if worse else cautious[0]
    there = (
        f"The {_NAMES.get(shown.measure, shown.measure)} chooses differently on "
        f"{percent(shown.differs.estimate)} of the items, where "
        f"{percent(shown.against_there.estimate, 0)} of the votes are against its choice and "
        f"{percent(shown.mean_against_there.estimate, 0)} against the mean's"
    )
    if better:
        return f"{start} {there}: caution serves more people here."
    end = "caution costs votes here" if worse else "no difference that these votes can show"
    return f"{start} {there}: {end}. Use the mean, and show people both answers where they split."


def look(items: Items, seed: int = 0) -> tuple[Observed, list[str]]:
    """Say what the votes show without any model.

    Args:
        items: The items.
        seed: Seed of resamples and permutations.

    Returns:
        The numbers, and what could not be said.
    """
    seen = observe(items.votes, Observing(seed=seed))
    tests = {test.name: test for test in seen.tests}
    measure = None if seen.people is None else seen.people.deviation
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
        deviation_means="" if measure is None else f"How often somebody {measure.what}",
        people=_people(seen.people),
    )
    return observed, list(seen.notes)


def _test(found: AnnotatorTest | None, sentence: Callable[[float], str]) -> Test | None:
    return None if found is None else Test(found.question, found.p_value, sentence(found.p_value))


def _kinds(seen: ObservedVotes, items: Items) -> list[Kind]:
    split = (*CONTESTED_KINDS, "majority") if items.has_few_votes else CONTESTED_KINDS
    labels = KINDS if items.are_pairs else KINDS | _RATED
    return [
        Kind(name, labels[name], name in split, each.items, each.share.estimate)
        for name, each in seen.kinds.items()
        if seen.judged
    ]


def _people(people: ObservedPeople | None) -> list[Person]:
    return [
        Person(who.name, who.votes, who.deviation, float(np.round(1 - who.differs, 9)))
        for who in (people.who if people else ())
        if who.deviation is not None
    ]
