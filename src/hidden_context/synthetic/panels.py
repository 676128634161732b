"""The panels of the synthetic figures; ``figures`` saves them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator

from hidden_context.synthetic.curves import Array, Curves

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, told apart with every kind of colour vision
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#595959"
DENSITY = LinearSegmentedColormap.from_list(
    "density", ["#FFFFFF", "#9CC7E3", BLUE, "#062F4F"], N=64
)
FIELD = "cividis"
LEVELS = 11
WIDE_RANGE = 50
"""Standard deviations that differ by more than this factor are drawn at geometric levels."""
HEAT_MAP_COLUMNS = 125
ENDS_AND_MIDDLE = ([0, 0.5, 1], ["0", "0.5", "1"])
MEAN_MARGIN = 0.35
"""The panel of means and σ extends beyond the means by this share of their range."""
FAINTEST = 0.004
"""Probabilities below this are left white, which keeps vector figures small."""


def figure_1d(curves: Curves) -> Figure:
    """Draw Figure 1 of the paper, three kinds of preference learning, at 5.5 × 1.2 inches."""
    layout = ConstrainedLayoutEngine(w_pad=0.015, h_pad=0.015, wspace=0.03)
    figure = Figure(figsize=(5.5, 1.2), dpi=300, layout=layout)
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 0.86, 1))
    a = curves.alternatives[:, 0]
    _draw_base(left, a, curves)
    _draw_normal(middle, a, curves)
    _draw_categorical(figure, right, curves)
    for axes in (left, middle, right):
        axes.set(xlim=(0, 1), xlabel="alternative $a$")
        axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1], ["0", "0.2", "0.4", "0.6", "0.8", "1"])
    return figure


def _draw_base(axes: Axes, a: Array, curves: Curves) -> None:
    axes.set_title("Normal preference learning")
    exact = axes.twinx()
    (utility,) = exact.plot(a, curves.expected_utility, color=GREEN, ls=(0, (1, 1.2)), lw=1.1)
    # Two pieces, so that no line is drawn down the jump
    jump = int(np.argmin(np.diff(curves.borda_count))) + 1
    for piece in (slice(None, jump), slice(jump, None)):
        (borda,) = exact.plot(a[piece], curves.borda_count[piece], color=ORANGE, lw=2.2, alpha=0.6)
    (learned,) = axes.plot(a, curves.base, color=BLUE, lw=0.9)
    exact.set_ylim(-0.03, 1.03)
    exact.set_yticks(*ENDS_AND_MIDDLE)
    axes.set_ylim(*_limits_aligned(curves.base, curves.borda_count, exact.get_ylim()))
    axes.set_ylabel(r"learned $\hat u(a)$", color=BLUE)
    _plain_ticks(axes)
    # The learned curve has to lie over the exact ones, but a twin is drawn later.
    axes.set_zorder(exact.get_zorder() + 1)
    axes.patch.set_visible(False)
    axes.legend(
        [learned, borda, utility],
        [r"learned $\hat u(a)$", "Borda count", "expected utility"],
        loc="lower right",
        borderaxespad=0.2,
    )


def _draw_normal(axes: Axes, a: Array, curves: Curves) -> None:
    # Where answers are a coin flip nothing keeps σ from growing: show the range of the means.
    margin = MEAN_MARGIN * (float(np.ptp(curves.mean)) or 1.0)
    bottom, top = float(curves.mean.min()) - margin, float(curves.mean.max()) + margin
    low = np.clip(curves.mean - curves.stddev, bottom - margin, None)
    high = np.clip(curves.mean + curves.stddev, None, top + margin)
    axes.fill_between(
        a, low, high, color=BLUE, alpha=0.25, lw=0, label=r"$\hat\mu(a) \pm \hat\sigma(a)$"
    )
    axes.plot(a, curves.mean, color=BLUE, lw=1.1, label=r"$\hat\mu(a)$")
    axes.set(title=r"DPL, mean and $\sigma$", ylim=(bottom, top), ylabel="learned utility")
    axes.legend(loc="upper left", borderaxespad=0.2)
    _plain_ticks(axes)


def _draw_categorical(figure: Figure, axes: Axes, curves: Curves) -> None:
    columns = min(HEAT_MAP_COLUMNS, len(curves.probabilities))
    parts = np.array_split(curves.probabilities, columns)
    density = np.stack([part.mean(axis=0) for part in parts])
    column, atom = np.nonzero(density >= FAINTEST)
    # A collection of the visible cells only: a mesh would write the white ones out too.
    height = float(curves.atoms[1] - curves.atoms[0])
    corners = np.array([[0, -0.5], [1, -0.5], [1, 0.5], [0, 0.5]]) * [1 / columns, height]
    origins = np.stack([column / columns, curves.atoms[atom]], axis=1)
    cells = PolyCollection(
        origins[:, None] + corners,
        array=density[column, atom],
        cmap=DENSITY,
        clim=(0, float(density.max())),
        edgecolors="face",
        linewidths=0.1,
    )
    axes.add_collection(cells)
    axes.set(title="DPL, categorical", ylim=(-height / 2, 1 + height / 2), ylabel="utility $u$")
    axes.set_yticks(*ENDS_AND_MIDDLE)
    bar = figure.colorbar(cells, ax=axes, pad=0.02, aspect=12)
    # Matplotlib makes an image of a bar of many colours, which a PGF file cannot hold by itself.
    if bar.solids is not None:
        bar.solids.set_rasterized(False)
    bar.set_label(r"$\hat p(u \mid a)$")
    bar.outline.set_linewidth(0.4)
    _plain_ticks(bar.ax)


def figure_2d(curves: Curves) -> Figure:
    """Draw exact and learned surfaces of the 2d environment, and 4 × 4 learned distributions."""
    layout = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.03, hspace=0.03)
    figure = Figure(figsize=(5.5, 3.1), dpi=300, layout=layout)
    grid = figure.add_gridspec(2, 3)
    panels = (
        ("True expected utility", curves.expected_utility),
        ("Borda count", curves.borda_count),
        (r"Normal preference learning, $\hat u$", curves.base),
        (r"DPL, mean $\hat\mu$", curves.mean),
        (r"DPL, standard deviation $\hat\sigma$", curves.stddev),
    )
    for index, (title, values) in enumerate(panels):
        axes = figure.add_subplot(grid[index])
        labels = {"xlabel": "$x$" if index >= 3 else "", "ylabel": "" if index % 3 else "$y$"}
        axes.set(title=title, **labels)
        _draw_surface(figure, axes, curves, values, may_be_wide=values is curves.stddev)
    _draw_bars(figure, grid[1, 2], curves)
    return figure


def _draw_surface(
    figure: Figure, axes: Axes, curves: Curves, values: Array, may_be_wide: bool
) -> None:
    side = round(len(values) ** 0.5)
    axis = curves.alternatives[:side, 1]
    surface = values.reshape(side, side).T  # rows are y, columns are x
    low, high = float(values.min()), float(values.max())
    if not high > low:
        high = low + 1.0
    wide = may_be_wide and high > WIDE_RANGE * low
    levels = (np.geomspace if wide else np.linspace)(low, high, LEVELS + 1)
    norm = LogNorm(low, high) if wide else Normalize(low, high)
    filled = axes.contourf(axis, axis, surface, levels=levels, cmap=FIELD, norm=norm)
    filled.set_edgecolor("face")
    lines = {"colors": "white", "linewidths": 0.25, "linestyles": "solid"}
    axes.contour(axis, axis, surface, levels=levels[1:-1], **lines)
    limits = (axis[0], axis[-1])
    axes.set(aspect="equal", xlim=limits, ylim=limits)
    # The grid has midpoints only, so the border stands half a cell inside [0, 1].
    for place in (axes.set_xticks, axes.set_yticks):
        place([float(axis[0]), 0.5, float(axis[-1])], ["0", "0.5", "1"])
    bar = figure.colorbar(filled, ax=axes, pad=0.03, aspect=14, shrink=0.95)
    bar.outline.set_linewidth(0.4)
    bar.ax.minorticks_off()
    bar.set_ticks(levels[1:-1:3].tolist() if wide else MaxNLocator(4))
    bar.ax.yaxis.set_major_formatter(_number_format())


def _draw_bars(figure: Figure, place: Any, curves: Curves, per_side: int = 4) -> None:
    side = round(len(curves.alternatives) ** 0.5)
    frame = figure.add_subplot(place)
    centres = (np.arange(per_side) + 0.5) / per_side
    frame.set_xticks(*ENDS_AND_MIDDLE)
    frame.set_yticks(*ENDS_AND_MIDDLE)
    table = curves.probabilities.reshape(side, side, -1)
    tallest = float(curves.probabilities.max())
    num_atoms, room = table.shape[-1], 0.84 / per_side
    for x in centres:
        for y in centres:
            heights = table[int(x * side), int(y * side)]
            left, bottom = x - room / 2, y - room / 2
            edges = left + room * np.arange(num_atoms) / num_atoms
            look: dict[str, Any] = {"align": "edge", "color": BLUE, "lw": 0}
            frame.bar(edges, heights / tallest * room, 0.82 * room / num_atoms, bottom, **look)
            frame.plot([left, left + room], [bottom, bottom], color=GREY, lw=0.4)
    for line in centres[:-1] + 0.5 / per_side:
        frame.axhline(line, color="#D9D9D9", lw=0.4, zorder=0)
        frame.axvline(line, color="#D9D9D9", lw=0.4, zorder=0)
    title = r"DPL, categorical $\hat p(u \mid x, y)$"
    frame.set(title=title, aspect="equal", xlabel="$x$", xlim=(0, 1), ylim=(0, 1))


def _limits_aligned(
    learned: Array, exact: Array, exact_limits: tuple[float, float]
) -> tuple[float, float]:
    """Return axis limits that fit the learned curve to the exact curve by least squares.

    A learned utility has its own units, so only the shape can be compared. If the fit would turn
    the axis upside down (before any learning), the limits follow the data.
    """
    slope, intercept = np.polyfit(exact, learned, 1)
    low, high = (float(slope * limit + intercept) for limit in exact_limits)
    if slope > 0 and low < float(learned.max()) and high > float(learned.min()):
        return min(low, float(learned.min())), max(high, float(learned.max()))
    margin = 0.05 * float(np.ptp(learned)) or 1.0
    return float(learned.min()) - margin, float(learned.max()) + margin


def _number_format() -> FuncFormatter:
    return FuncFormatter(lambda value, _: format_number(value))


def format_number(value: float) -> str:
    r"""Format a number for both LaTeX and Matplotlib's own typesetting.

    >>> print(format_number(-0.25), format_number(2.3e-07))
    $-0.25$ $2{\times}10^{-7}$
    """
    text = f"{float(f'{value:.2g}'):g}" if abs(value) < 0.1 else f"{value:.3g}"
    if "e" not in text:
        return f"${text}$"
    mantissa, exponent = f"{value:.0e}".split("e")
    return rf"${mantissa}{{\times}}10^{{{int(exponent)}}}$"


def _plain_ticks(axes: Axes) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.set_major_formatter(_number_format())
