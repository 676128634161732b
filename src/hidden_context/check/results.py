"""What a check found: the parts of ``check.json``, which the page and the terminal both show."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

from hidden_context.check.findings import Advice, Explained, Predicted
from hidden_context.check.judges import Judge
from hidden_context.data.storage.files import to_plain
from hidden_context.statistics.interval import Interval

VERSION: Final = 1

SPLIT_BY_SHARES: Final = "Split: each side has 35 to 65 % of the votes, “equal” counting half."
"""What makes an item split, where items have votes enough for shares."""

Verdict = Literal["disagree", "partly", "agree", "unknown"]


@dataclass(frozen=True)
class Answer:
    """The answer in words.

    Attributes:
        verdict: ``disagree`` (at least a fifth of the items are split), ``partly`` (a twentieth),
            ``agree``, or ``unknown`` where no item has two votes.
        headline: One sentence.
        sentences: Where, about what, and who: one sentence each.
    """

    verdict: Verdict
    headline: str
    sentences: list[str]


@dataclass(frozen=True)
class Settings:
    """How the check was made.

    Attributes:
        unit: What an item is: ``pair`` (two responses compared) or ``rating`` (one text rated).
        features: ``TF-IDF and length``, or the name of the embedding model.
        group_by: What the items of a group have in common, such as ``first user turn``.
        groups: Number of groups; folds and intervals are by group.
        folds: Number of folds; 0 where nothing was predicted.
        sides: What the three answers mean: names of ``first``, ``equal`` and ``second``.
        middle: Ratings above it are read as high, below it as low; None without ratings.
        anonymised: Whether annotators' names were replaced.
        seed: Random seed.
        split_means: What makes an item split, a sentence.
    """

    unit: Literal["pair", "rating"]
    features: str
    group_by: str
    groups: int
    folds: int
    sides: dict[str, str]
    middle: float | None
    anonymised: bool
    seed: int
    split_means: str = SPLIT_BY_SHARES


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
    """One annotator compared with the others.

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
    """What the votes show by themselves.

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
        people: Annotators, the greatest deviation first; empty where fewer than five are named.
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


@dataclass(frozen=True)
class Found:
    """All findings of a check.

    Attributes:
        version: Version of the file's format.
        source: What was checked.
        report: How the data were read, in words.
        settings: How the check was made.
        answer: The answer in words.
        observed: What the votes say by themselves.
        predicted: What models predict; None where nothing could be predicted.
        explained: What goes with disagreement.
        advice: What a reward model should do; None for ratings alone or too few groups.
        missing: What could not be found, one line each.
        judges: Language models that were asked several times; they are no people.
    """

    version: int
    source: str
    report: str
    settings: Settings
    answer: Answer
    observed: Observed
    predicted: Predicted | None
    explained: Explained
    advice: Advice | None
    missing: list[str]
    judges: list[Judge] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``check.json``, with None for numbers that are not finite."""
        return dict(to_plain(self))
