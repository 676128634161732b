"""PGF figures with and without a LaTeX installation.

Matplotlib's PGF backend asks a running LaTeX for the size of every text. Without one, the sizes
are taken here from Computer Modern, the standard font of LaTeX documents, which comes with
Matplotlib: then the distances around texts are those of a document in that font and approximate in
any other, while the texts themselves are set by the document that includes the figure either way.
"""

from __future__ import annotations

import io
import shutil
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.backends.backend_pgf import RendererPgf
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
    """Whether Matplotlib can set its texts by LaTeX in bitmaps and vector figures."""
    return all(shutil.which(program) for program in ("latex", "dvipng", "kpsewhich"))


def pgf_engine() -> str | None:
    """The first LaTeX engine found that Matplotlib's PGF backend can ask for text sizes."""
    return next((name for name in ("pdflatex", "xelatex", "lualatex") if shutil.which(name)), None)


def text_size(text: str, font: FontProperties, is_math: bool) -> tuple[float, float, float]:
    """Size of a text in Computer Modern as LaTeX would set it, nearly.

    Args:
        text: The text; a minus sign has to stand in math mode, for the font file has none.
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

    It draws vectors only: an image in the figure would need LaTeX again.
    """

    def get_text_width_height_descent(
        self, s: str, prop: FontProperties, ismath: Any
    ) -> tuple[float, float, float]:
        """Size of a text in pixels: width, height with descent, and descent."""
        width, height, descent = text_size(s, prop, bool(ismath))
        scale = self.dpi / POINTS_PER_INCH
        return width * scale, height * scale, descent * scale


class _MeasuringCanvas(FigureCanvasBase):
    """Lets the layout of a figure use the same text sizes as its drawing."""

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
