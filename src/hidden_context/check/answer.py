"""The answer in words: do people disagree, where, about what, and who?"""

from __future__ import annotations

from typing import Final

import numpy as np

from hidden_context.check.items import FEWEST_FOR_SHARES, Items
from hidden_context.check.results import Answer, Verdict
from hidden_context.check.results_explained import Explained
from hidden_context.check.results_observed import Observed
from hidden_context.check.results_predicted import Predicted
from hidden_context.check.words import counted, p_value, percent, with_ends

_MUCH: Final = 0.2
_SOME: Final = 0.05
_SURE: Final = 0.05
_SHOWN: Final = 0.005
_NAMED_TOPICS: Final = 3


def answer_of(
    items: Items, observed: Observed, predicted: Predicted | None, explained: Explained
) -> Answer:
    """Put what was found into a headline and a few sentences."""
    unit = "pair" if items.are_pairs else "text"
    if not observed.judged:
        return Answer(
            "unknown",
            f"Nobody can say whether your people disagree: no {unit} has two votes.",
            [f"There are {counted(observed.items, unit)} with one vote each."],
        )
    split = observed.split.estimate
    verdict: Verdict = "disagree" if split >= _MUCH else "partly" if split >= _SOME else "agree"
    words = {
        "disagree": "Your people disagree",
        "partly": "Your people disagree in part",
        "agree": "Your people mostly agree",
    }
    headline = (
        f"{words[verdict]}: they are split on {percent(split)} of {counted(observed.judged, unit)}."
    )
    opposite = ""
    if np.isfinite(observed.opposite.estimate):
        opposite = (
            f"Two people take opposite sides on {with_ends(observed.opposite)} of the {unit}s."
        )
    sentences = [opposite, _where(predicted), explained.sentence, *_who(observed)]
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
            f"Most split: “{top.name}” ({percent(top.observed.estimate)}). "
            f"Least: “{last.name}” ({percent(last.observed.estimate)})."
        )
    return "No topic is clearly more split than another."


def _who(observed: Observed) -> list[str]:
    tests = (observed.annotator_test, observed.across_test)
    return [test.sentence for test in tests if test is not None]


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
    parts = [f"on {percent(conflict)} of the split {unit} people stand against each other"]
    if none >= _SHOWN:
        parts.append(f"on {percent(none)} most say equal")
    if rest >= _SHOWN:
        parts.append(f"on {percent(rest)} it is too close to call")
    about = "conflict more than indifference"
    if none >= conflict:
        about = "indifference more than conflict"
    return conflict, none, f"It is {about}: {', '.join(parts)}."


def who_sentence(p: float, level: float = _SURE) -> str:
    """Say what the test over annotators found.

    >>> who_sentence(0.001)
    'Who votes matters: some annotators stand out from the others (p = 0.001).'
    """
    if p < level:
        return f"Who votes matters: some annotators stand out from the others ({p_value(p)})."
    return f"No annotator stands out from the others by more than chance ({p_value(p)})."


def across_sentence(p: float, level: float = _SURE) -> str:
    """Say what the test over annotators found who judged different items.

    >>> across_sentence(0.001)
    'Across items people answer differently (p = 0.001), if they got their items at random.'
    """
    if p < level:
        return (
            f"Across items people answer differently ({p_value(p)}), if they got their items at "
            "random."
        )
    return f"Across items nobody is seen to answer differently ({p_value(p)})."
