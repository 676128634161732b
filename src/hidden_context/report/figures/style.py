"""The look of figures (colours, fonts, marks, labels), and saving to the same bytes each time."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Final

from hidden_context.data.storage.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colours without yellow, told apart by readers with any colour vision."""

MARKERS: Final = ("o", "s", "D", "^", "v", "P", "X")
GREY: Final = "#666666"
LIGHT: Final = "#D9D9D9"
ROW_INCHES: Final = 0.2
REFERENCE_LINE: Final[dict[str, Any]] = {
    "color": GREY,
    "linewidth": 0.6,
    "linestyle": (0, (3, 2)),
    "zorder": 0,
}

STYLE: Final[dict[str, Any]] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with Matplotlib, so that it is the same everywhere
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "grid.linewidth": 0.4,
    "grid.color": "#E6E6E6",
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.6,
    "pdf.fonttype": 42,  # embedded as TrueType: text stays text
    "svg.fonttype": "path",  # drawn as outlines: no font is needed to look at it
    "svg.hashsalt": "hidden-context",
    "figure.constrained_layout.use": True,
}
_METADATA: Final[dict[str, dict[str, Any]]] = {
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
    "png": {"Software": None},
}


@contextmanager
def style() -> Iterator[None]:
    """Set Matplotlib's parameters inside a block, where figures are made and saved."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        yield


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure without touching pyplot's state.

    Args:
        width: In inches.
        height: In inches.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, stem: Path, formats: Sequence[str]) -> list[Path]:
    """Save a figure whole or not at all; the same figure gives the same bytes.

    Args:
        figure: The figure.
        stem: Path without the ending, which is added.
        formats: Of svg, pdf and png.

    Returns:
        The files.

    Raises:
        StorageError: If one cannot be written.
    """
    paths = []
    for name in formats:
        content = io.BytesIO()
        figure.savefig(content, format=name, dpi=300, metadata=_METADATA[name])
        path = stem.with_name(f"{stem.name}.{name}")
        with atomic_write(path, "wb") as file:
            file.write(content.getvalue())
        paths.append(path)
    return paths


def look(series: int, marker: int | None = None) -> dict[str, Any]:
    """Return the colour of a series, with its marker or the given one."""
    place = series if marker is None else marker
    return {"color": COLOURS[series % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)]}


def draw_interval(
    axes: Any, interval: dict[str, Any], y: float, *, color: str, marker: str
) -> None:
    """Draw an estimate as a marker and its interval as a line from its low to its high end."""
    low, high = interval["low"], interval["high"]
    if low is not None and high is not None:
        axes.plot([low, high], [y, y], color=color, solid_capstyle="butt")
    axes.plot([interval["estimate"]], [y], color=color, marker=marker, linestyle="")


def name_rows(axes: Any, labels: Sequence[str]) -> None:
    """Name the rows of a figure, the first on top."""
    axes.set_yticks(range(len(labels)), [plain(shortened(label)) for label in labels])
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def shortened(text: str, length: int = 38) -> str:
    """Cut a long label.

    >>> shortened("a label that is long", 10)
    'a label t…'
    """
    return text if len(text) <= length else text[: length - 1] + "…"


def plain(text: str) -> str:
    """Escape a text so that Matplotlib reads no formula in it.

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
        str(value) if name in ("data_subset", "length_bin") else f"{name} {value}"
        for name, value in labels.items()
    )


def analysis_labels(analyses: Sequence[dict[str, Any]]) -> list[str]:
    """Name analyses by model and file, with enough of the path to tell them apart."""
    paths = [PurePath(analysis["file"]) for analysis in analyses]
    found: list[str] = []
    for depth in (1, 2, 3, 100):
        found = [
            " ".join(filter(None, ["/".join(path.parts[-depth:]), analysis.get("name")]))
            for path, analysis in zip(paths, analyses, strict=True)
        ]
        if len(set(found)) == len(found):
            return found
    kinds = [f"{name} ({a['kind']})" for name, a in zip(found, analyses, strict=True)]
    return kinds if len(set(kinds)) == len(kinds) else [f"{n} {i}" for i, n in enumerate(kinds, 1)]


def add_legend(figure: Any, entries: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Add a legend below a figure, unless there is only one entry."""
    if len(entries) < 2:
        return
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], label=plain(shortened(name)), **{"linestyle": "", **entry})
        for name, entry in entries
    ]
    longest = max(len(name) for name, _ in entries)
    columns = max(1, min(len(entries), 60 // (longest + 6)))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)
