"""The first screen of a report: do people disagree, on what, and who?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from hidden_context.report.html.people import KINDS, Picture, picture_of
from hidden_context.report.html.words import CLEAR, count, interval, of_ranking, of_test
from hidden_context.terminal import percent

Found = dict[str, Any]

MUCH: Final = 0.2
"""Share of split items from which people are said to disagree."""

SOME: Final = 0.05
"""Share of split items from which people are said to disagree in part."""

_MISSING: Final = (
    "Whether people disagree cannot be seen here: {why}. It needs votes of several people on the "
    "same pair, as judgements or annotations that name the annotator."
)


@dataclass(frozen=True)
class Answer:
    """The first screen of a report.

    Attributes:
        headline: The answer in one sentence.
        sentences: What else to know, one sentence each.
        picture: How people voted; None where nobody knows.
        scores: The analysis with the votes; None without.
        annotator_tests: Whether annotators choose differently, in words.
    """

    headline: str
    sentences: list[str]
    picture: Picture | None = None
    scores: Found | None = None
    annotator_tests: list[str] = field(default_factory=list)


def answer_of(analysis: Found) -> Answer | None:
    """Say what an analysis finds about people.

    Args:
        analysis: ``analysis.json``.

    Returns:
        The answer of the first set of scores whose pairs have votes of several people; else what
        can be said without; None where there are no scores.
    """
    every = analysis["analyses"]
    for scores in every:
        votes = scores["votes"]
        if votes is not None and votes["contested"] is not None and votes["contested"]["items"] > 0:
            return _of_votes(scores)
    return _without_votes(every[0]) if every else None


def _of_votes(scores: Found) -> Answer:
    votes = scores["votes"]
    contested, two, known = votes["contested"], votes["disagreement"], votes["annotators_known"]
    topics = votes["topics"]
    if len({topic["column"] for topic in topics}) > 1:
        topics = [{**topic, "name": f"{topic['column']}: {topic['name']}"} for topic in topics]
    tests = _annotator_tests(scores)
    sentences = _where(topics) if len(topics) > 1 else []
    if contested["expected"]["estimate"] is not None:
        sentences.append(f"The model expects a split on {_point(contested['expected'])}.")
    sentences += _leaning(votes["kinds"])
    if two is not None:
        sentences.append(
            f"Two people answer the same pair differently {_point(two['observed'])} of the time; "
            f"the model expects {_point(two['expected'])}."
        )
    sentences += map(_finding, tests)
    if known is not None:
        sentences.append(_known((known["three_way"] or known["two_way"])["difference"]))
    kinds = [{**kind, "label": KINDS[kind["name"]]} for kind in votes["kinds"]]
    facts = contested["items"], contested["share"], topics
    predicted_by = "Diamonds: the share that the model expects."
    picture = picture_of("pairs", kinds, *facts, predicted_by=predicted_by)
    return Answer(_headline(contested), sentences, picture, scores, list(map(of_test, tests)))


def _headline(contested: Found) -> str:
    share, items = contested["share"]["estimate"], count(contested["items"])
    levels = {MUCH: "People disagree", SOME: "People disagree in part", 0: "People mostly agree"}
    verdict = next(words for level, words in levels.items() if share >= level)
    return f"{verdict}: they are split on {percent(share, 0)} of {items} pairs."


def _where(topics: list[Found]) -> list[str]:
    ends = topics[0], topics[-1]
    low, high = ends[0]["observed"]["low"], ends[1]["observed"]["high"]
    if low is not None and high is not None and low <= high:
        return ["No topic is clearly more split than another."]
    most, least = (f"“{topic['name']}” ({_point(topic['observed'])})" for topic in ends)
    return [f"They split most on {most}, least on {least}."]


def _point(found: Found) -> str:
    return interval(found, share=True, decimals=0, ends=False)


def _leaning(kinds: list[Found]) -> list[str]:
    split = sum(kind["share"] for kind in kinds if kind["is_split"])
    # kinds that no item has are not listed
    shares = {kind["name"]: kind["share"] for kind in kinds}
    apart, equal = (shares.get(name, 0.0) for name in ("conflict", "indifference"))
    if not apart and not equal:  # too few votes per item to tell them apart
        return []
    return [
        f"On {percent(apart / split, 0)} of the split pairs, people lean apart; on "
        f"{percent(equal / split, 0)}, most find both sides equal."
    ]


def _annotator_tests(scores: Found) -> list[Found]:
    return [test for test in scores["tests"] if "annotator" in test["question"].lower()]


def _finding(test: Found) -> str:
    """Say what a test found, without its number."""
    if test["question"] != "Do annotators choose differently?":
        return of_test(test)
    if test["p_value"] < CLEAR:
        return "Some people choose differently from others, more than chance explains."
    return "There is no sign that some people choose differently from others."


def _known(difference: Found) -> str:
    if (difference["high"] or 0) < 0:
        return "Knowing who votes makes the model’s predictions better."
    if (difference["low"] or 0) > 0:
        return "Knowing who votes makes the model’s predictions worse."
    return "Knowing who votes does not clearly help the model."


def _without_votes(scores: Found) -> Answer:
    pairs = scores["kind"] == "pairs"
    why = "no pair has votes of several people" if pairs else "the file holds no votes"
    tests = _annotator_tests(scores)
    return Answer(of_ranking(scores), [_MISSING.format(why=why), *map(_finding, tests)])
