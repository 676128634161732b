"""Curves: the reliability of probabilities, and what caution costs and prevents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from hidden_context.report.figures import style
from hidden_context.report.figures.panels import Json
from hidden_context.report.html.words import interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIDES: Final = {
    "unsafe": "unsafe response\nrated as high",
    "accuracy": "accuracy on\nhelpful pairs",
}
_MEASURES: Final[dict[str, tuple[str, Json]]] = {
    "mean": ("mean", {"linestyle": ":"}),
    "quantile": ("quantile", {"linestyle": "-", "marker": "o"}),
    "cvar": ("CVaR", {"linestyle": (0, (4, 1.5)), "marker": "s"}),
}
_APART: Final = 1.05


def reliability(found: Sequence[Json], width: float) -> Figure:
    """Draw observed against predicted preference for the model's choice, with bin counts."""
    columns = min(len(found), 3)
    lines = -(-len(found) // columns)
    each = width if columns == 1 else max(width / columns, 2.2)
    figure = style.new_figure(each * columns, lines * (each * 0.85 + 0.35))
    outer = figure.subfigures(lines, columns, squeeze=False)
    names = style.analysis_labels(found)
    for place, (analysis, name) in enumerate(zip(found, names, strict=True)):
        part = outer[place // columns, place % columns]
        title = style.plain(style.shortened(name, 34)) if len(found) > 1 else ""
        _draw_reliability(part, analysis["calibration"], title)
    return figure


def _draw_reliability(part: Any, calibration: Json, title: str) -> None:
    upper, lower = part.subplots(2, 1, sharex=True, height_ratios=[5, 1])
    bins = [each for each in calibration["bins"] if each["n"]]
    upper.plot([0.5, 1], [0.5, 1], **style.REFERENCE_LINE)
    for each in bins:
        if each.get("observed_low") is not None and each.get("observed_high") is not None:
            ends = [each["observed_low"], each["observed_high"]]
            upper.plot([each["predicted"]] * 2, ends, color=style.COLOURS[0], solid_capstyle="butt")
    upper.plot(
        [each["predicted"] for each in bins],
        [each["observed"] for each in bins],
        marker="o",
        color=style.COLOURS[0],
        linewidth=0.8,
        markeredgecolor="white",
        markeredgewidth=0.5,
        markersize=4.2,
    )
    ends = [value for each in bins for value in (each["observed"], each.get("observed_low"))]
    lowest = min([0.5, *(value for value in ends if value is not None)])
    upper.set_ylim(lowest - 0.03, 1.01)
    upper.set_ylabel("observed share")
    upper.grid()
    numbers = [
        f"{name} {interval(calibration[name.lower()], decimals=3)}" for name in ("ECE", "Brier")
    ]
    if title:  # panels are narrow
        upper.set_title("\n".join([title, *numbers]), loc="left", fontsize=6.5)
    else:
        upper.text(
            0.02, 0.98, "\n".join(numbers), transform=upper.transAxes, va="top", fontsize=6.5
        )
    lower.bar(
        [each["low"] for each in bins],
        [each["n"] for each in bins],
        width=[each["high"] - each["low"] for each in bins],
        align="edge",
        color=style.LIGHT,
        edgecolor="white",
        linewidth=0.5,
    )
    lower.set_xlim(0.49, 1.01)
    lower.set_ylabel("pairs")
    lower.locator_params(axis="y", nbins=2)
    lower.set_xlabel("predicted P(preferred side)")


def frontier(found: Sequence[Json], width: float) -> Figure:
    """Draw unsafe preferences and accuracy over caution, by risk measure; dashes show the mean."""
    sides = [side for side in _SIDES if any(p[side] for a in found for p in a["frontier"])]
    figure = style.new_figure(width, 0.75 + 1.3 * len(sides))
    panels = figure.subplots(len(sides), 1, sharex=True, squeeze=False)[:, 0]
    for axes, side in zip(panels, sides, strict=True):
        for series, analysis in enumerate(found):
            _draw_frontier(axes, analysis["frontier"], side, series, len(found))
        axes.set_ylabel(_SIDES[side])
        axes.set_xscale("log")
        axes.grid()
    alphas = sorted({p["alpha"] for a in found for p in a["frontier"] if p["alpha"] is not None})
    panels[-1].set_xticks(alphas, [f"{alpha:g}" for alpha in alphas])
    panels[-1].minorticks_off()
    panels[-1].set_xlabel("level α of caution (smaller is more cautious)")
    names = style.analysis_labels(found)
    entries: list[tuple[str, Json]] = []
    if len(found) > 1:
        entries += [(n, style.look(k) | {"marker": "s"}) for k, n in enumerate(names)]
    colour = style.COLOURS[0] if len(found) == 1 else style.GREY
    for measure in dict.fromkeys(p["measure"] for a in found for p in a["frontier"]):
        name, line = _MEASURES[measure]
        entries.append((name, {"color": colour, **line}))
    style.add_legend(figure, entries)
    return figure


def _draw_frontier(axes: Any, points: Sequence[Json], side: str, series: int, count: int) -> None:
    colour = style.look(series)["color"]
    measures = list(dict.fromkeys(p["measure"] for p in points if p["alpha"] is not None))
    for number, measure in enumerate(measures):
        own = sorted(
            (p for p in points if p["measure"] == measure and p["alpha"] and p[side]),
            key=lambda point: point["alpha"],
        )
        # side by side, so that no interval hides another
        shift = _APART ** (2 * (series * len(measures) + number) - count * len(measures) + 1)
        places = [point["alpha"] * shift for point in own]
        for place, point in zip(places, own, strict=True):
            low, high = point[side]["low"], point[side]["high"]
            if low is not None and high is not None:
                axes.plot([place] * 2, [low, high], color=colour, linewidth=0.9)
        axes.plot(
            places,
            [point[side]["estimate"] for point in own],
            color=colour,
            linewidth=0.9,
            **_MEASURES[measure][1],
        )
    for point in points:
        if point["alpha"] is None and point[side]:
            axes.axhline(point[side]["estimate"], color=colour, linewidth=0.9, linestyle=":")
