"""Drawing and saving of the synthetic figures, with LaTeX if it is installed.

Matplotlib's PGF backend asks a running LaTeX for the size of every text. Without LaTeX, the sizes
come from Computer Modern, the standard font of LaTeX documents, which Matplotlib includes. The
distances around texts then fit a document in Computer Modern, and are approximate in any other
font. In either case, the document that includes the figure sets the texts.
"""

from __future__ import annotations

import io
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import matplotlib
import numpy as np
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.backends.backend_pgf import RendererPgf
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from hidden_context.data.storage.files import atomic_write
from hidden_context.errors import HiddenContextWarning, first_line
from hidden_context.synthetic.curves import Curves
from hidden_context.synthetic.panels import figure_1d, figure_2d

STYLE = str(Path(__file__).with_name("figure.mplstyle"))
LATEX_STYLE = {"text.usetex": True, "font.serif": ["Times"], "text.latex.preamble": ""}
PNG_DPI = 300


def draw(curves: Curves, folder: str | Path, formats: Sequence[str]) -> list[Path]:
    """Draw an environment's figure and save it as ``{folder}/{env}.{format}``.

    Texts are set by LaTeX where it is installed and works, by Matplotlib otherwise.

    Args:
        curves: Exact and learned curves.
        folder: The output folder; created if needed.
        formats: Of png (300 dpi), pgf, svg and pdf.

    Returns:
        The files written, in that order.

    Raises:
        StorageError: If a file cannot be written.
    """
    paths = [Path(folder) / f"{curves.env}.{name}" for name in formats]
    for path in paths:
        _save(curves, path)
    return paths


def redraw(folder: str | Path, formats: Sequence[str] = ("png", "pgf", "svg")) -> list[Path]:
    """Draw the figure of a finished run again from its ``curves.npz``.

    Args:
        folder: The run's folder.
        formats: As in ``draw``.

    Returns:
        The files written.
    """
    return draw(Curves.load(Path(folder) / "curves.npz"), folder, formats)


def _figure(curves: Curves) -> Figure:
    return figure_1d(curves) if curves.env == "1d" else figure_2d(curves)


def _save(curves: Curves, path: Path) -> None:
    is_pgf = path.suffix == ".pgf"
    engine = pgf_engine() if is_pgf else has_latex()
    if engine:
        style = {"pgf.texsystem": engine, "pgf.rcfonts": False} if is_pgf else LATEX_STYLE
        try:
            return _save_with(curves, path, style)
        except (RuntimeError, ValueError) as error:
            warnings.warn(
                f"LaTeX is installed but could not set the figure ({first_line(error)}); "
                "its texts are set by Matplotlib instead.",
                HiddenContextWarning,
                stacklevel=3,
            )
    if not is_pgf:
        return _save_with(curves, path, {})
    with matplotlib.rc_context(COMPUTER_MODERN, STYLE), atomic_write(path) as file:
        return write_pgf_without_latex(_figure(curves), file)


def _save_with(curves: Curves, path: Path, style: dict[str, Any]) -> None:
    # No dates: a seed then gives the same files.
    dates = {".svg": {"metadata": {"Date": None}}, ".pdf": {"metadata": {"CreationDate": None}}}
    options: dict[str, Any] = dates.get(path.suffix, {})
    with matplotlib.rc_context(style, STYLE), atomic_write(path, "wb") as file:
        _figure(curves).savefig(file, format=path.suffix[1:], dpi=PNG_DPI, **options)


POINTS_PER_INCH = 72.0

# What a document in Computer Modern would show, for measuring texts and laying out the figure.
COMPUTER_MODERN = {
    "font.family": "serif",
    "font.serif": ["cmr10"],
    "mathtext.fontset": "cm",
    "axes.formatter.use_mathtext": True,
    "text.usetex": False,
}

# Computer Modern is drawn wider at small sizes: widths of a digit in cmr5, …, cmr10, relative to
# cmr10, which alone comes with Matplotlib.
_SIZES, _RELATIVE_WIDTHS = (5, 6, 7, 8, 9, 10), (1.361, 1.222, 1.139, 1.063, 1.028, 1.0)

_HEADER = r"""%% A picture for LaTeX: \usepackage{pgf} in the preamble, then \input{<this file>}.
%% Written without LaTeX: distances around texts are those of Computer Modern.
\begingroup
\makeatletter
\providecommand{\mathdefault}[1]{#1}
"""


def has_latex() -> bool:
    """Return whether Matplotlib can set texts by LaTeX in bitmaps and vector figures."""
    return all(shutil.which(program) for program in ("latex", "dvipng", "kpsewhich"))


def pgf_engine() -> str | None:
    """Return the first LaTeX engine found for the text sizes of Matplotlib's PGF backend."""
    return next((name for name in ("pdflatex", "xelatex", "lualatex") if shutil.which(name)), None)


def text_size(text: str, font: FontProperties, is_math: bool) -> tuple[float, float, float]:
    """Return the approximate size of a text that LaTeX would set in Computer Modern.

    Args:
        text: The text; a minus sign must be in math mode, as the font file has no minus sign.
        font: Family (resolved by ``rcParams``) and size.
        is_math: Whether parts of the text stand between dollar signs.

    Returns:
        Width, height including descent, and descent, in points.
    """
    width, height, descent = text_to_path.get_text_width_height_descent(text, font, is_math)
    optical = float(np.interp(font.get_size_in_points(), _SIZES, _RELATIVE_WIDTHS))
    return optical * width, height, descent


class MeasuringRenderer(RendererPgf):
    """Matplotlib's PGF renderer with text sizes from font files instead of LaTeX.

    It draws vectors only. An image in the figure would still need LaTeX.
    """

    def get_text_width_height_descent(
        self, s: str, prop: FontProperties, ismath: Any
    ) -> tuple[float, float, float]:
        """Size of a text in pixels: width, height with descent, and descent."""
        width, height, descent = text_size(s, prop, bool(ismath))
        scale = self.dpi / POINTS_PER_INCH
        return width * scale, height * scale, descent * scale


class _MeasuringCanvas(FigureCanvasBase):
    """A canvas that lays out a figure with the same text sizes as its drawing."""

    def get_renderer(self) -> MeasuringRenderer:
        return MeasuringRenderer(self.figure, None)


def write_pgf_without_latex(figure: Figure, file: IO[str]) -> None:
    """Write a figure as a PGF picture on a machine that has no LaTeX.

    Args:
        figure: Without images (meshes, contours and lines are fine).
        file: Open for text.
    """
    body = io.StringIO()
    _MeasuringCanvas(figure)  # becomes the figure's canvas
    figure.draw(MeasuringRenderer(figure, body))
    width, height = figure.get_size_inches()
    file.write(_HEADER)
    file.write(
        "\\begin{pgfpicture}%\n"
        "\\pgfpathrectangle{\\pgfpointorigin}"
        f"{{\\pgfqpoint{{{width:f}in}}{{{height:f}in}}}}%\n"
        "\\pgfusepath{use as bounding box, clip}%\n"
    )
    file.write(body.getvalue())
    file.write("\\end{pgfpicture}%\n\\makeatother\n\\endgroup\n")
