"""Numbers and names as people read them."""

from __future__ import annotations

from typing import Final

import numpy as np

from hidden_context.statistics.interval import Interval

MOST_CHARACTERS: Final = 400


def percent(share: float, digits: int = 0) -> str:
    """Write a share in percent.

    >>> percent(0.412), percent(0.0412, 1), percent(float("nan"))
    ('41 %', '4.1 %', '–')
    """
    return f"{100 * share:.{digits}f} %" if np.isfinite(share) else "–"


def with_ends(interval: Interval, digits: int = 0) -> str:
    """Write a share in percent with the ends of its interval, where it has some.

    >>> with_ends(Interval(0.41, 0.35, 0.47, 0.95, "bootstrap"))
    '41 % (35 to 47 %)'
    """
    if not (np.isfinite(interval.low) and np.isfinite(interval.high)):
        return percent(interval.estimate, digits)
    low = f"{100 * interval.low:.{digits}f}"
    return f"{percent(interval.estimate, digits)} ({low} to {percent(interval.high, digits)})"


def p_value(p: float) -> str:
    """Write a p-value.

    >>> p_value(0.0004), p_value(0.0321), p_value(0.4)
    ('p < 0.001', 'p = 0.032', 'p = 0.40')
    """
    if p < 0.001:
        return "p < 0.001"
    return f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def counted(count: float, noun: str, many: str | None = None) -> str:
    """Write a number with its noun.

    >>> counted(1, "item"), counted(16927, "item")
    ('1 item', '16,927 items')
    """
    return f"{count:,.0f} {noun if count == 1 else many or noun + 's'}"


def shortened(text: str, most: int = MOST_CHARACTERS) -> str:
    """Put a text on one line and cut it where it is long.

    >>> shortened("a   long word", 8)
    'a long…'
    """
    text = " ".join(text.split()).encode("utf-8", "replace").decode()
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
