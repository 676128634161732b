"""Cells of tables for the terminal: shares, numbers, intervals, p-values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from hidden_context.analysis.records import Count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table

    from hidden_context.statistics.interval import Interval

NOTHING: Final = "–"


def percent(share: float | None, decimals: int = 1) -> str:
    """Write a share in percent.

    >>> percent(0.30481), percent(None)
    ('30.5 %', '–')
    """
    return NOTHING if share is None else f"{100 * share:.{decimals}f} %"


def percent_of(count: Count | None, interval: Interval | None = None) -> str:
    """Write a count as percent and as rows of rows, and its interval.

    >>> percent_of(Count(57, 187))
    '30.5 % 57/187'
    """
    if count is None:
        return NOTHING
    return f"{percent(count.share)} {count.count:g}/{count.total} {ends(interval, 100, 1)}".rstrip()


def p_value(value: float | None) -> str:
    """Write a p-value; a small one with two digits that count.

    >>> p_value(0.2345), p_value(0.0004)
    ('0.234', '0.0004')
    """
    if value is None:
        return NOTHING
    return f"{value:.3f}" if value >= 0.01 else f"{value:.2g}"


def number(value: float | None, decimals: int = 3) -> str:
    """Write a number with so many decimals.

    >>> number(0.52631, 2), number(None)
    ('0.53', '–')
    """
    return NOTHING if value is None else f"{value:.{decimals}f}"


def ends(interval: Interval | None, scale: float = 1.0, decimals: int = 2) -> str:
    """Write an interval's two ends; nothing where there are none.

    >>> from hidden_context.statistics.interval import Interval
    >>> ends(Interval(0.5, 0.25, 0.75, 0.95, "delta"), 100, 1)
    '[25.0, 75.0]'
    """
    if interval is None or not math.isfinite(interval.low + interval.high):
        return ""
    return f"[{scale * interval.low:.{decimals}f}, {scale * interval.high:.{decimals}f}]"


def estimate(interval: Interval | None, decimals: int = 3, *, sign: str = "") -> str:
    """Write an estimate with its interval.

    >>> from hidden_context.statistics.interval import Interval
    >>> estimate(Interval(0.5, 0.25, 0.75, 0.95, "delta"), 2), estimate(None)
    ('0.50 [0.25, 0.75]', '–')
    """
    if interval is None or not math.isfinite(interval.estimate):
        return NOTHING
    text = f"{interval.estimate:{sign}.{decimals}f}"
    return f"{text} {ends(interval, decimals=decimals)}".rstrip()


def share(interval: Interval | None) -> str:
    """Write a share in percent with its interval."""
    if interval is None or not math.isfinite(interval.estimate):
        return NOTHING
    return f"{percent(interval.estimate)} {ends(interval, 100, 1)}".rstrip()


def make_table(
    title: str | None, text_columns: Sequence[str], number_columns: Sequence[str]
) -> Table:
    """Make an empty table whose columns are never cut short, numbers to the right."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False)
    for name in text_columns:
        table.add_column(name, no_wrap=True)
    for name in number_columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def say(console: Console, *lines: str) -> None:
    """Print lines as they are: neither wrapped, nor coloured, nor read as markup."""
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
