"""Observed votes in a few lines for the terminal."""

from __future__ import annotations

from hidden_context.data.votes.observed import Observed, ObservedRatings, ObservedVotes
from hidden_context.data.votes.people import ObservedPeople
from hidden_context.statistics.significance.answers import AnnotatorTest
from hidden_context.terminal import estimate, p_value, percent, share

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
    """Write what was observed, one fact per line, and nothing about fewer than five people."""
    lines = []
    if found.comparisons is not None:
        lines += _votes(found.comparisons, "pairs", _PARTS)
    if found.ratings is not None:
        lines += _ratings(found.ratings)
    if found.abstentions:
        lines.append(f"abstentions: {found.abstentions} (not counted as votes)")
    return lines


def _ratings(found: ObservedRatings) -> list[str]:
    votes = _votes(found.votes, "rated responses", {**_PARTS, **_PARTS_OF_RATINGS})
    low, high, middle = (f"{n:g}" for n in (found.lowest, found.highest, found.middle))
    scale = f"ratings: {found.ratings} from {low} to {high}; above {middle} they count as high"
    if found.votes.judged:
        scale += (
            f"; two people's ratings differ by {estimate(found.difference, 2)} on average, α of "
            f"the ratings {estimate(found.alpha, 2)}"
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
            f"judged; {share(found.repeated.same)} the same"
        )
    return lines + found.notes


def _agreement(found: ObservedVotes) -> list[str]:
    kinds = {name: each.share.estimate for name, each in found.kinds.items()}
    return [
        f"split: {share(found.split)} of the items with several people; unanimous "
        f"{percent(kinds['unanimous'])}, all equal {percent(kinds['equal'])}",
        f"contested: {share(found.contested)}; conflict {percent(kinds['conflict'])}, "
        f"indifference {percent(kinds['indifference'])}, neither {percent(kinds['mixed'])}",
        f"two people answer differently: {share(found.differ)}; on opposite sides: "
        f"{share(found.opposite)}; Krippendorff's α {estimate(found.alpha, 2)}",
    ]


def _people(found: ObservedPeople) -> list[str]:
    votes = found.votes
    return [
        f"annotators: {found.annotators}, {_each(votes)} votes each (median {votes['median']:.0f})",
        *(
            f"  {each.what}: typically {percent(each.typical)}; {_many(each.above, 'annotator')} "
            f"clearly more often, {each.below} clearly less"
            for each in (found.deviation, found.readiness, found.position)
            if each is not None
        ),
    ]


def _test(found: AnnotatorTest, parts: dict[str, str]) -> str:
    where = "within items" if found.name == "answers_within_items" else "across items"
    named = [f"{parts.get(name, name)} p = {p_value(p)}" for name, p in (found.parts or {}).items()]
    return (
        f"do annotators choose differently ({where})? p = {p_value(found.p_value)} "
        f"({', '.join(named)})"
    )


def _many(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _each(counts: dict[str, float]) -> str:
    """Write the range from the fewest to the most.

    >>> _each({"fewest": 4.0, "most": 5.0}), _each({"fewest": 2.0, "most": 2.0})
    ('4 to 5', '2')
    """
    low, high = counts["fewest"], counts["most"]
    return f"{low:.0f}" if low == high else f"{low:.0f} to {high:.0f}"
