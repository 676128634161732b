"""Numbers in words."""

from __future__ import annotations

import numpy as np

from hidden_context.statistics.interval import Interval
from hidden_context.terminal import percent


def with_ends(interval: Interval) -> str:
    """Write a share in percent, with its interval if there is one.

    >>> with_ends(Interval(0.41, 0.35, 0.47, 0.95, "bootstrap"))
    '41 % (35 to 47 %)'
    """
    if not (np.isfinite(interval.low) and np.isfinite(interval.high)):
        return percent(interval.estimate, 0)
    ends = f"{100 * interval.low:.0f} to {percent(interval.high, 0)}"
    return f"{percent(interval.estimate, 0)} ({ends})"


def p_value(p: float) -> str:
    """Write a p-value.

    >>> p_value(0.0004), p_value(0.0321), p_value(0.4)
    ('p < 0.001', 'p = 0.032', 'p = 0.40')
    """
    if p < 0.001:
        return "p < 0.001"
    return f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def counted(count: float, noun: str) -> str:
    """Write a number with its noun.

    >>> counted(1, "item"), counted(16927, "item")
    ('1 item', '16,927 items')
    """
    return f"{count:,.0f} {noun if count == 1 else noun + 's'}"
