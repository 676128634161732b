"""Estimates with their intervals in rows: the part that most figures have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Final

from hidden_context.report.figure_style import COLOURS, MARKERS

ROW_INCHES: Final = 0.2
_SPREAD: Final = 0.6
_MAX_LABEL: Final = 38
_PLAIN_COLUMNS: Final = ("data_subset", "length_bin")


@dataclass(frozen=True)
class Mark:
    """One estimate.

    Attributes:
        interval: ``estimate``, ``low``, ``high``, as analysis.json has them.
        series: Which colour, and the marker too unless that is given.
        marker: Which marker.
    """

    interval: dict[str, Any]
    series: int = 0
    marker: int | None = None

    @property
    def look(self) -> dict[str, Any]:
        """Colour and marker."""
        return look(self.series, self.marker)


def look(series: int, marker: int | None = None) -> dict[str, Any]:
    """Return colour and marker of a series."""
    place = series if marker is None else marker
    return {
        "color": COLOURS[series % len(COLOURS)],
        "marker": MARKERS[place % len(MARKERS)],
    }


def draw_rows(axes: Any, labels: Sequence[str], rows: Sequence[Sequence[Mark]]) -> None:
    """Draw rows of estimates with their intervals, the first row on top.

    Args:
        axes: Where.
        labels: Of the rows.
        rows: The marks of each row, spread over its height.
    """
    for place, marks in enumerate(rows):
        for number, mark in enumerate(marks):
            y = place + _SPREAD * ((number + 0.5) / len(marks) - 0.5)
            draw_interval(axes, mark.interval, y, **mark.look)
    axes.set_yticks(range(len(labels)), [plain(shortened(label)) for label in labels])
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")


def draw_interval(
    axes: Any, interval: dict[str, Any], y: float, *, color: str, marker: str
) -> None:
    """Draw one estimate as a marker and its interval as a line from its low to its high end."""
    low, high = interval["low"], interval["high"]
    if low is not None and high is not None:
        axes.plot([low, high], [y, y], color=color, linewidth=1.1, solid_capstyle="butt")
    axes.plot([interval["estimate"]], [y], color=color, marker=marker, linestyle="")


def shortened(text: str, length: int = _MAX_LABEL) -> str:
    """Cut a long label.

    >>> shortened("a label that is long", 10)
    'a label t…'
    """
    return text if len(text) <= length else text[: length - 1] + "…"


def plain(text: str) -> str:
    """Return a text in which Matplotlib finds no formula.

    >>> plain("$5 or more") == chr(92) + "$5 or more"
    True
    """
    return text.replace("$", r"\$")


def group_label(labels: dict[str, str]) -> str:
    """Name a group of rows.

    >>> group_label({}), group_label({"data_subset": "helpful", "annotator": "ann"})
    ('all rows', 'helpful, annotator ann')
    """
    if not labels:
        return "all rows"
    return ", ".join(
        str(value) if name in _PLAIN_COLUMNS else f"{name} {value}"
        for name, value in labels.items()
    )


def analysis_labels(analyses: Sequence[dict[str, Any]]) -> list[str]:
    """Name analyses by model, else by file, with as much of the path as tells them apart."""
    paths = [PurePath(analysis["file"]) for analysis in analyses]
    found: list[str] = []
    for depth in (1, 2, 3, 100):
        found = [
            " ".join(
                part for part in ("/".join(path.parts[-depth:]), analysis.get("name") or "") if part
            )
            for path, analysis in zip(paths, analyses, strict=True)
        ]
        if len(set(found)) == len(found):
            return found
    kinds = [f"{name} ({a['kind']})" for name, a in zip(found, analyses, strict=True)]
    return kinds if len(set(kinds)) == len(kinds) else [f"{n} {i}" for i, n in enumerate(kinds, 1)]


def add_legend(figure: Any, entries: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Write what colours and markers mean below a figure; nothing for a single entry."""
    if len(entries) < 2:
        return
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], linestyle=entry.pop("linestyle", ""), label=plain(shortened(name)), **entry)
        for name, entry in ((name, dict(entry)) for name, entry in entries)
    ]
    longest = max(len(name) for name, _ in entries)
    columns = max(1, min(len(entries), 60 // (longest + 6)))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)
