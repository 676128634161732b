"""What votes say by themselves, in a few lines for the terminal."""

from __future__ import annotations

import math

from hidden_context.data.observations import (
    Measure,
    Observed,
    ObservedPeople,
    ObservedRatings,
    ObservedVotes,
)
from hidden_context.statistics.annotator_tests import AnnotatorTest
from hidden_context.statistics.interval import Interval

_PARTS = {
    "deviation": "how far they deviate",
    "readiness": "readiness to say equal",
    "position": "preference for the first response",
}
_PARTS_OF_RATINGS = {
    "readiness": "readiness to rate in the middle",
    "position": "how high they rate",
}


def observed_lines(found: Observed) -> list[str]:
    """Write what was observed.

    Args:
        found: The numbers.

    Returns:
        Lines without a line break; nothing of fewer than five people.
    """
    lines = []
    if found.comparisons is not None:
        lines += _votes(found.comparisons, "pairs", _PARTS)
    if found.ratings is not None:
        lines += _ratings(found.ratings)
    if found.abstentions:
        lines.append(f"abstentions: {found.abstentions}, which are no votes")
    return lines


def _ratings(found: ObservedRatings) -> list[str]:
    votes = _votes(found.votes, "rated responses", {**_PARTS, **_PARTS_OF_RATINGS})
    low, high, middle = (f"{n:g}" for n in (found.lowest, found.highest, found.middle))
    scale = f"ratings: {found.ratings} from {low} to {high}; above {middle} they count as high"
    if found.votes.judged:
        scale += (
            f"; two people's differ by {_number(found.difference)} on average, α of the ratings "
            f"{_number(found.alpha)}"
        )
    return [scale, *votes]


def _votes(found: ObservedVotes, items: str, parts: dict[str, str]) -> list[str]:
    per_item = found.votes_per_item
    lines = [
        f"votes: {found.votes} on {found.items} {items}, {_each(per_item)} each (mean "
        f"{per_item['mean']:.1f}); several people judged {found.judged} of them"
    ]
    if found.judged:
        lines += _agreement(found)
    if found.people is not None:
        lines += _people(found.people)
    lines += [_test(test, parts) for test in found.tests]
    if found.repeated is not None and found.people is not None:
        lines.append(
            f"repeated: {_many(found.repeated.answers, 'answer')} to texts that the annotator had "
            f"judged; {_percent(found.repeated.same)} the same"
        )
    return lines + found.notes


def _agreement(found: ObservedVotes) -> list[str]:
    kinds = {name: each.share.estimate for name, each in found.kinds.items()}
    return [
        f"split: {_percent(found.split)} of these; unanimous {_share(kinds['unanimous'])}, all "
        f"equal {_share(kinds['equal'])}",
        f"contested: {_percent(found.contested)}; conflict {_share(kinds['conflict'])}, "
        f"indifference {_share(kinds['indifference'])}, neither {_share(kinds['mixed'])}",
        f"two people answer differently: {_percent(found.differ)}; on opposite sides: "
        f"{_percent(found.opposite)}; Krippendorff's α {_number(found.alpha)}",
    ]


def _people(found: ObservedPeople) -> list[str]:
    votes = found.votes
    lines = [
        f"annotators: {found.annotators}, {_each(votes)} votes each (median {votes['median']:.0f})"
    ]
    lines += [
        _measure(measure)
        for measure in (found.deviation, found.readiness, found.position)
        if measure is not None
    ]
    return lines


def _measure(found: Measure) -> str:
    above = _many(found.above, "annotator")
    return (
        f"  {found.what}: typically {_share(found.typical)}; {above} clearly more often, "
        f"{found.below} clearly less"
    )


def _test(found: AnnotatorTest, parts: dict[str, str]) -> str:
    where = "within items" if found.name == "answers_within_items" else "across items"
    named = ", ".join(
        f"{parts.get(name, name)} p = {p:.3f}" for name, p in (found.parts or {}).items()
    )
    return f"do annotators choose differently ({where})? p = {found.p_value:.3f} ({named})"


def _many(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _each(counts: dict[str, float]) -> str:
    """Write how many each has.

    >>> _each({"fewest": 4.0, "most": 5.0}), _each({"fewest": 2.0, "most": 2.0})
    ('4 to 5', '2')
    """
    low, high = counts["fewest"], counts["most"]
    return f"{low:.0f}" if low == high else f"{low:.0f} to {high:.0f}"


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _percent(found: Interval) -> str:
    """Write a share with its interval.

    >>> _percent(Interval(0.5, 0.25, 0.75, 0.95, "bootstrap"))
    '50.0 % [25.0, 75.0]'
    """
    if math.isnan(found.low):
        return _share(found.estimate)
    return f"{_share(found.estimate)} [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def _number(found: Interval) -> str:
    if math.isnan(found.low):
        return f"{found.estimate:.2f}"
    return f"{found.estimate:.2f} [{found.low:.2f}, {found.high:.2f}]"
