"""What a check found: the parts of ``check.json``, which the page and the terminal both show."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

from hidden_context.check.judges import Judge
from hidden_context.check.results_explained import Advice, Explained
from hidden_context.check.results_observed import Observed
from hidden_context.check.results_predicted import Predicted
from hidden_context.data.files import to_plain

VERSION: Final = 1
FEWEST_PEOPLE: Final = 5
"""No group of fewer people is shown."""

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
        seed: Of everything drawn at random.
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
class Found:
    """All that a check found.

    Attributes:
        version: Version of the file's format.
        source: What was checked.
        report: How the data were read, in words.
        settings: How the check was made.
        answer: The answer in words.
        observed: What the votes say by themselves.
        predicted: What models foretell; None where nothing could be foretold.
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
        """Return what ``check.json`` holds: None for what is not a number."""
        return dict(to_plain(self))
