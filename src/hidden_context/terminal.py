"""Numbers and tables for the terminal."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from rich.console import Console
    from rich.table import Table

    from hidden_context.statistics.interval import Interval

NOTHING: Final = "–"


def number(value: float | None, decimals: int = 3, *, sign: str = "", unit: str = "") -> str:
    """Format a number, or return a dash if there is none.

    >>> number(0.52631, 2), number(None), number(float("nan"))
    ('0.53', '–', '–')
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"{value:{sign}.{decimals}f}{unit}"


def percent(share: float | None, decimals: int = 1) -> str:
    """Format a share in percent.

    >>> percent(0.30481), percent(None)
    ('30.5 %', '–')
    """
    return number(share and 100 * share, decimals, unit=" %")


def p_value(value: float | None) -> str:
    """Format a p-value, with two significant digits if it is small.

    >>> p_value(0.2345), p_value(0.0004)
    ('0.234', '0.0004')
    """
    return f"{value:.2g}" if value is not None and value < 0.01 else number(value)


def estimate(interval: Interval | None, decimals: int = 3, *, sign: str = "") -> str:
    """Format an estimate with its interval.

    >>> from hidden_context.statistics.interval import Interval
    >>> estimate(Interval(0.5, 0.25, 0.75, 0.95, "delta"), 2), estimate(None)
    ('0.50 [0.25, 0.75]', '–')
    """
    if interval is None:
        return NOTHING
    return (
        f"{number(interval.estimate, decimals, sign=sign)} {_ends(interval, 1, decimals)}".strip()
    )


def share(interval: Interval | None) -> str:
    """Format a share in percent with its interval.

    >>> from hidden_context.statistics.interval import Interval
    >>> share(Interval(0.5, 0.25, 0.75, 0.95, "delta"))
    '50.0 % [25.0, 75.0]'
    """
    if interval is None:
        return NOTHING
    return f"{percent(interval.estimate)} {_ends(interval, 100, 1)}".strip()


def percent_of(count: float, total: int, interval: Interval | None = None) -> str:
    """Format a count of rows as a percentage, as a fraction of all rows, and with its interval.

    >>> percent_of(57, 187)
    '30.5 % 57/187'
    """
    ends = "" if interval is None else _ends(interval, 100, 1)
    return f"{percent(count / total)} {count:g}/{total} {ends}".strip()


def left_out(rows: int, file: str) -> str:
    """Return a sentence on how many rows of a file were not used.

    >>> left_out(1, "scores.jsonl")
    '1 row without a reward or a vote left out: scores.jsonl'
    """
    return f"{rows} {'row' if rows == 1 else 'rows'} without a reward or a vote left out: {file}"


def _ends(interval: Interval, scale: float, decimals: int) -> str:
    if not math.isfinite(interval.estimate + interval.low + interval.high):
        return ""
    return f"[{scale * interval.low:.{decimals}f}, {scale * interval.high:.{decimals}f}]"


def make_table(
    title: str | None,
    text_columns: Sequence[str],
    number_columns: Sequence[str],
    rows: Iterable[Sequence[str]] = (),
) -> Table:
    """Make a table with right-aligned numbers and columns that are never cut short.

    Args:
        title: The title above the table; None for no title.
        text_columns: The first columns, whose cells are shown as they are.
        number_columns: The other columns.
        rows: The cells of each row; more may be added.
    """
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False)
    for name in text_columns:
        table.add_column(name, no_wrap=True)
    for name in number_columns:
        table.add_column(name, justify="right", no_wrap=True)
    texts = len(text_columns)
    for row in rows:
        table.add_row(*map(escape, row[:texts]), *row[texts:])
    return table


def table_of(
    title: str | None, items: Iterable[Any], columns: Mapping[str, Callable[[Any], str]]
) -> Table:
    """Make a table with one row per item, from a formatter per column; the first is text."""
    first, *others = columns
    rows = [[write(item) for write in columns.values()] for item in items]
    return make_table(title, [first], others, rows)


def say(console: Console, *lines: str) -> None:
    """Print lines unchanged: not wrapped, not coloured and not read as markup."""
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def make_console() -> Console:
    """Return a console as wide as the terminal, or wide enough for any table in a file or pipe."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 200)
