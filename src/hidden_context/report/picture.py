"""Where marks stand in a picture: scales with round ticks, as shares of its width."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

_MOST: Final = 5
"""As many steps as fit a picture on a telephone."""


@dataclass(frozen=True)
class Tick:
    """A tick of a scale.

    Attributes:
        place: Where it stands, in percent of the width.
        label: What it says.
    """

    place: str
    label: str


@dataclass(frozen=True)
class Scale:
    """Takes numbers to places between the two ends of a picture.

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
        """Return where a number stands, in percent of the width; the nearer end if beyond.

        >>> Scale(0.0, 0.5, 0.1, True).place(0.2)
        '40.00%'
        """
        inside = (value - self.low) / (self.high - self.low)
        return f"{100 * min(max(inside, 0.0), 1.0):.2f}%"

    @property
    def ticks(self) -> list[Tick]:
        """The ticks, both ends included."""
        number = round((self.high - self.low) / self.step)
        values = [self.low + place * self.step for place in range(number + 1)]
        return [Tick(self.place(value), self._label(value)) for value in values]

    def _label(self, value: float) -> str:
        scale = 100 if self.is_share else 1
        decimals = max(0, -math.floor(math.log10(scale * self.step) + 1e-9))
        text = f"{scale * value:.{decimals}f}"
        text = (text.lstrip("-") if float(text) == 0 else text).replace("-", "−")
        return f"{text} %" if self.is_share else text


def scale_of(found: Iterable[dict[str, Any] | None], *, is_share: bool) -> Scale:
    """Return a scale that holds 0 and every estimate with its interval.

    Args:
        found: Estimates with their intervals, as JSON has them; those without a number are passed
            over.
        is_share: Whether they are shares, which end at 1.

    Returns:
        The scale; its ends are ticks.
    """
    values = [
        value
        for each in found
        if each is not None and each["estimate"] is not None
        for value in (each["estimate"], each["low"], each["high"])
        if value is not None
    ]
    low, high = min([0.0, *values]), max([0.0, *values])
    if low == high:
        high = low + 1.0
    step, first, last = next(
        (step, first, last)
        for step in _round_steps(high - low)
        for first, last in [(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9))]
        if last - first <= _MOST
    )
    if is_share:
        last = min(last, round(1 / step))
    return Scale(first * step, last * step, step, is_share)


def _round_steps(span: float) -> list[float]:
    power = 10.0 ** math.floor(math.log10(span / _MOST))
    return [m * power for m in (1, 2, 5, 10, 20)]
