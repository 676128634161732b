"""Drawing and saving of the synthetic figures, with LaTeX where there is one."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hidden_context.data.storage.files import atomic_write
from hidden_context.errors import HiddenContextWarning
from hidden_context.synthetic.curves import Curves
from hidden_context.synthetic.latex import (
    COMPUTER_MODERN,
    has_latex,
    pgf_engine,
    write_pgf_without_latex,
)

STYLE = str(Path(__file__).with_name("figure.mplstyle"))
LATEX_STYLE = {"text.usetex": True, "font.serif": ["Times"], "text.latex.preamble": ""}
PNG_DPI = 300


def draw(curves: Curves, folder: str | Path, formats: Sequence[str]) -> list[Path]:
    """Draw an environment's figure and save it as ``{folder}/{env}.{format}``.

    Texts are set by LaTeX where it is installed and works, by Matplotlib otherwise.

    Args:
        curves: Exact and learned curves.
        folder: Created if need be.
        formats: Of png (300 dpi), pgf, svg and pdf.

    Returns:
        The files written, in that order.

    Raises:
        StorageError: If one cannot be written.
    """
    paths = [Path(folder) / f"{curves.env}.{name}" for name in formats]
    for path in paths:
        if path.suffix == ".pgf":
            _save_pgf(curves, path)
        else:
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


def _figure(curves: Curves) -> Any:
    from hidden_context.synthetic.panels import figure_1d, figure_2d

    return figure_1d(curves) if curves.env == "1d" else figure_2d(curves)


def _save(curves: Curves, path: Path) -> None:
    if has_latex():
        try:
            return _save_with(curves, path, LATEX_STYLE)
        except RuntimeError as error:
            _warn_broken_latex(error)
    return _save_with(curves, path, {})


def _save_with(curves: Curves, path: Path, style: dict[str, Any]) -> None:
    import matplotlib

    name = path.suffix[1:]
    # No dates: a seed then gives the same files.
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(name)
    with matplotlib.rc_context(style, STYLE), atomic_write(path, "wb") as file:
        _figure(curves).savefig(file, format=name, dpi=PNG_DPI, metadata=metadata)


def _save_pgf(curves: Curves, path: Path) -> None:
    import matplotlib

    engine = pgf_engine()
    if engine:
        style = {"pgf.texsystem": engine, "pgf.rcfonts": False}
        try:
            with matplotlib.rc_context(style, STYLE), atomic_write(path) as file:
                _figure(curves).savefig(file, format="pgf", backend="pgf")
            return
        except (RuntimeError, ValueError) as error:
            _warn_broken_latex(error)
    with matplotlib.rc_context(COMPUTER_MODERN, STYLE), atomic_write(path) as file:
        write_pgf_without_latex(_figure(curves), file)


def _warn_broken_latex(error: Exception) -> None:
    first_line = str(error).strip().splitlines()[0] if str(error).strip() else "no message"
    warnings.warn(
        f"LaTeX is installed but could not set the figure ({first_line}); "
        "its texts are set by Matplotlib instead.",
        HiddenContextWarning,
        stacklevel=3,
    )
