"""How figures look and how they are saved: colours, sizes, fonts, whole files, the same bytes."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hidden_context.data.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colours without yellow, told apart by readers with any colour vision."""

MARKERS: Final = ("o", "s", "D", "^", "v", "P", "X")
GREY: Final = "#666666"
LIGHT: Final = "#D9D9D9"
DPI: Final = 300

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
    """Set Matplotlib's parameters for a while; figures are made and saved within."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        yield


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure, apart from pyplot's state.

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
    """Save a figure whole or not at all, the same figure as the same bytes.

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
        figure.savefig(content, format=name, dpi=DPI, metadata=_METADATA[name])
        path = stem.with_name(f"{stem.name}.{name}")
        with atomic_write(path, "wb") as file:
            file.write(content.getvalue())
        paths.append(path)
    return paths
