"""The picture of how people voted, for the pages of a check and of an analysis."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hidden_context.report.html.words import count, number
from hidden_context.statistics.agreement import CONTESTED
from hidden_context.terminal import percent

Found = dict[str, Any]

SHOWN_TOPICS: Final = 12
SHOWN_PEOPLE: Final = 20
MOST_PEOPLE: Final = 200
KINDS: Final = {
    "unanimous": "all take one side",
    "majority": "most take one side",
    "conflict": "people lean apart",
    "mixed": "some apart, some undecided",
    "indifference": "most find both equal",
    "equal": "all find both equal",
}
"""What kinds of votes are called."""

SPLIT_MEANS: Final = (
    f"Split: each side has {100 * CONTESTED[0]:.0f} to {100 * CONTESTED[1]:.0f} % of the votes, "
    "“equal” counting half."
)

_MOST_STEPS: Final = 5
"""As many steps as fit a picture on a telephone."""

_SPLIT: Final = {"conflict": "split", "mixed": "split-soft", "indifference": "split-softer"}
_WHOLE: Final = {"majority": "most", "unanimous": "all", "equal": "equal", "indifference": "equal"}


@dataclass(frozen=True)
class Scale:
    """A scale that maps numbers to places between the two ends of a picture.

    Attributes:
        low: The number at the left end.
        high: The number at the right end.
        step: Distance of the ticks.
        is_share: Whether ticks are written in percent.
    """

    low: float
    high: float
    step: float
    is_share: bool

    def place(self, value: float) -> str:
        """Return a number's place in percent of the width, or the nearer end if it is beyond.

        >>> Scale(0.0, 0.5, 0.1, True).place(0.2)
        '40.00%'
        """
        inside = (value - self.low) / (self.high - self.low)
        return f"{100 * min(max(inside, 0.0), 1.0):.2f}%"

    @property
    def ticks(self) -> list[tuple[str, str]]:
        """Place and label of each tick, both ends included."""
        scale, unit = (100, " %") if self.is_share else (1, "")
        decimals = max(0, -math.floor(math.log10(scale * self.step) + 1e-9))
        steps = round((self.high - self.low) / self.step)
        values = [self.low + place * self.step for place in range(steps + 1)]
        return [(self.place(value), number(scale * value, decimals) + unit) for value in values]


def scale_of(found: Iterable[dict[str, Any] | None], *, is_share: bool) -> Scale:
    """Return a scale that holds 0 and every estimate with its interval.

    Args:
        found: Estimates with their intervals, as JSON has them; an estimate without a number is
            passed over.
        is_share: Whether they are shares, which end at 1.

    Returns:
        The scale; its ends are ticks.
    """
    numbers = (each[name] for each in found if each for name in ("estimate", "low", "high"))
    values = [0.0, *(value for value in numbers if value is not None)]
    low, high = min(values), max(values)
    if low == high:
        high = low + 1.0
    power = 10.0 ** math.floor(math.log10((high - low) / _MOST_STEPS))
    step, first, last = next(
        (step, first, last)
        for step in (power, 2 * power, 5 * power, 10 * power, 20 * power)
        for first, last in [(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9))]
        if last - first <= _MOST_STEPS
    )
    if is_share:
        last = min(last, round(1 / step))
    return Scale(first * step, last * step, step, is_share)


@dataclass(frozen=True)
class Part:
    """A part of a stacked bar.

    Attributes:
        label: What it is, in a few words.
        share: Its share of the bar.
        style: Name of its colour.
        left: Where it begins, in percent of the width.
        width: Its width, in percent.
    """

    label: str
    share: float
    style: str
    left: str
    width: str

    @property
    def text(self) -> str:
        """The part in words, for readers who do not see the bar."""
        return f"{percent(self.share, 0)} {self.label}"


def stack(parts: Sequence[tuple[str, float, str]]) -> list[Part]:
    """Put parts side by side.

    Args:
        parts: Label, share and name of the colour of each; shares add up to 1.

    Returns:
        The parts that are not empty, from the left.
    """
    found, start = [], 0.0
    for label, share, style in parts:
        if share > 0:
            found.append(Part(label, share, style, f"{100 * start:.3f}%", f"{100 * share:.3f}%"))
        start += share
    return found


@dataclass(frozen=True)
class Picture:
    """The picture of how people voted.

    Attributes:
        unit: What is counted, such as ``pairs``.
        title: The title of the bar.
        kinds: The parts of the bar, split kinds first.
        split: Share of all items that are split.
        topics: Topics, the most split first; each with ``name``, ``items``, ``observed`` and
            ``predicted``, which may be None.
        topics_note: How to read the topics.
        scale: The scale of the topics.
        split_means: What “split” means; empty without a bar.
        shown: Number of topics that are not folded away.
    """

    unit: str
    title: str
    kinds: list[Part]
    split: float | None
    topics: list[Found]
    topics_note: str
    scale: Scale
    split_means: str
    shown: int = SHOWN_TOPICS

    @property
    def key(self) -> list[tuple[str, list[Part]]]:
        """The parts of the bar, grouped by whether they are split."""
        groups: dict[str, list[Part]] = {"Split": [], "Not split": []}
        for part in self.kinds:
            groups["Split" if part.style.startswith("split") else "Not split"].append(part)
        shares = {name: percent(sum(part.share for part in own), 0) for name, own in groups.items()}
        return [(f"{name}: {shares[name]}", own) for name, own in groups.items() if own]

    @property
    def has_predicted(self) -> bool:
        """Whether a model's prediction stands beside the votes."""
        return any(topic["predicted"] is not None for topic in self.topics)


def picture_of(
    unit: str,
    kinds: Sequence[Found],
    items: int,
    split: Found | None,
    topics: Sequence[Found],
    hidden: int = 0,
    predicted_by: str = "",
    split_words: str = SPLIT_MEANS,
) -> Picture:
    """Lay out the picture.

    Args:
        unit: What is counted, such as ``pairs``.
        kinds: Items by what their votes look like: ``name``, ``label``, ``is_split``, ``share``.
        items: Items with two votes or more.
        split: Share of them that is split, with its interval.
        topics: Topics with ``name``, ``items``, ``observed`` and ``predicted``.
        hidden: Topics left out because fewer than five people judged them.
        predicted_by: What the predictions are, one sentence.
        split_words: What “split” means.

    Returns:
        The picture.
    """
    found = [{"predicted": None, **topic} for topic in topics]
    ends = [topic["observed"] for topic in found]
    points = [
        {**topic["predicted"], "low": None, "high": None} for topic in found if topic["predicted"]
    ]
    bar = stack(_styled(kinds))
    dots = f"Dots: the share of split {unit} in the votes"
    if any(each is not None and each["low"] is not None for each in ends):
        dots += ", with 95 % intervals"
    notes = [f"{dots}.", predicted_by if points else "", f"Dashed: all {unit}."]
    if hidden:
        notes.append(f"Topics that fewer than five people judged, left out: {hidden}.")
    return Picture(
        unit=unit,
        title=f"How people voted on {count(items)} {unit}",
        kinds=bar,
        split=None if split is None else split["estimate"],
        topics=found,
        topics_note=" ".join(filter(None, notes)),
        scale=scale_of([*ends, *points], is_share=True),
        split_means=split_words if bar else "",
    )


def _styled(kinds: Sequence[Found]) -> list[tuple[str, float, str]]:
    """Give each kind its colour, with split kinds first and unknown names last."""
    styled = []
    for kind in kinds:
        styles, other = (_SPLIT, "split") if kind["is_split"] else (_WHOLE, "most")
        place = [*styles, kind["name"]].index(kind["name"])
        bar = (kind["label"], kind["share"], styles.get(kind["name"], other))
        styled.append((not kind["is_split"], place, bar))
    return [bar for _, _, bar in sorted(styled, key=lambda each: each[:2])]
