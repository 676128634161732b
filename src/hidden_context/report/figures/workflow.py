"""``hidden-context figure``: figures for papers, from analysis.json alone."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from hidden_context.analysis.analysis_file import naming_the_file, read_analysis
from hidden_context.config import option
from hidden_context.data.storage.locks import exclusive
from hidden_context.errors import ConfigError
from hidden_context.report.figures import curves, panels
from hidden_context.report.figures.panels import Json
from hidden_context.report.figures.style import COLOURS, save, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FigureName = Literal[
    "reliability", "frontier", "variance", "causes", "contexts", "comparison", "accuracy", "all"
]
Drawing = Callable[[Sequence[Json], float], "Figure"]
FORMATS: Final = ("svg", "pdf", "png")
ALL: Final = "all"
NAMES: Final = tuple(name for name in get_args(FigureName) if name != ALL)

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FigureConfig:
    """Options of ``hidden-context figure``.

    Raises:
        ConfigError: If the width or a format cannot be.
    """

    name: FigureName = option(
        dataclasses.MISSING, "which figure; all: every one the file allows", positional=True
    )
    analysis: str = option(
        dataclasses.MISSING, "analysis.json that analyze --output wrote", positional=True
    )
    output: str = option(
        ".", "folder (existing, or ending in /) or path without extension to write to"
    )
    formats: list[str] = option(list(FORMATS), "of svg, pdf and png")
    width: float = option(3.4, "in inches; a column is about 3.3, a page 6.8")

    def __post_init__(self) -> None:
        if self.name not in (*NAMES, ALL):
            raise ConfigError(f"{self.name!r} is not one of {', '.join((*NAMES, ALL))}.")
        if not 2.0 <= self.width <= 20.0:
            raise ConfigError(f"width is {self.width} inches; choose from 2 to 20.")
        unknown = [name for name in self.formats if name not in FORMATS]
        if unknown or not self.formats:
            shown = ", ".join(unknown) or "nothing"
            raise ConfigError(f"formats: {shown} is not among {', '.join(FORMATS)}.")

    def stem(self, figure: str) -> Path:
        """Return the path of a figure without its ending."""
        path = Path(self.output)
        if path.is_dir() or self.output.endswith(("/", os.sep)):
            return path / figure
        if path.suffix.removeprefix(".") in FORMATS:
            path = path.with_suffix("")
        return path.with_name(f"{path.name}_{figure}") if self.name == ALL else path


def _metrics(scores: Json) -> set[str]:
    """Return the metrics that have an interval over all rows."""
    return {name for name, found in scores["groups"][0].get("intervals", {}).items() if found}


_FIGURES: Final[dict[str, tuple[Drawing, Callable[[Json], Any], str]]] = {
    "reliability": (
        curves.reliability,
        lambda scores: (scores.get("calibration") or {}).get("bins"),
        "It needs pairs with labels: analyze a file with reward_output_chosen and "
        "reward_output_rejected.",
    ),
    "frontier": (
        curves.frontier,
        lambda scores: scores.get("frontier"),
        "It needs rewards with a variance, of pairs or of rows with two responses.",
    ),
    "variance": (
        panels.variance,
        lambda scores: {"r2", "r2_within"} & _metrics(scores),
        "It needs rewards with a variance; the reward of a base head is a single number.",
    ),
    "causes": (
        panels.causes,
        lambda scores: scores["groups"][0].get("variance_shares"),
        "It needs a head that separates the causes of variance: factor, or an ensemble.",
    ),
    "contexts": (
        panels.contexts,
        lambda scores: (scores.get("contexts") or {}).get("clusters"),
        "Run analyze again with --contexts.",
    ),
    "comparison": (
        panels.comparison,
        lambda comparison: comparison,
        "Run analyze again with --compare FIRST SECOND.",
    ),
    "accuracy": (
        panels.accuracy,
        lambda scores: scores["kind"] == "pairs" and "accuracy" in _metrics(scores),
        "It needs pairs: analyze a file with reward_output_chosen and reward_output_rejected.",
    ),
}
"""How each figure is drawn, what it needs, and what to do where it is missing."""


def draw(name: str, analysis: dict[str, Any], width: float = 3.4) -> Figure:
    """Draw one figure.

    Args:
        name: One of ``NAMES``.
        analysis: Content of analysis.json.
        width: In inches.

    Returns:
        The figure; use ``style.style()`` around it and its saving.

    Raises:
        ConfigError: If the analysis has nothing to draw it from, with what to do about it.
    """
    if name not in NAMES:
        raise ConfigError(f"{name!r} is not one of {', '.join(NAMES)}.")
    drawn, has, remedy = _FIGURES[name]
    parts = analysis.get("comparisons", []) if name == "comparison" else analysis["analyses"]
    found = [part for part in parts if has(part)]
    if not found:
        raise ConfigError(f"there is nothing to draw the figure {name} from. {remedy}")
    if len(found) > len(COLOURS):
        raise ConfigError(
            f"the figure {name} shows at most {len(COLOURS)} analyses, and there are {len(found)}. "
            "Analyze fewer score files at once."
        )
    return drawn(found, width)


def run(config: FigureConfig) -> list[Path]:
    """Draw the figures and save them.

    Args:
        config: Which figure, of what, where to.

    Returns:
        The files. With ``all``, figures that the file has nothing for are left out and logged.

    Raises:
        ConfigError: If the file has nothing for the figure that was asked for, or for any.
        DataError: If the file is none of an analysis.
        StorageError: If a file cannot be written.
    """
    analysis = read_analysis(config.analysis)
    files: list[Path] = []
    with style():
        for name in NAMES if config.name == ALL else (config.name,):
            try:
                with naming_the_file(config.analysis):
                    figure = draw(name, analysis, config.width)
            except ConfigError as error:
                if config.name != ALL:
                    raise ConfigError(f"{config.analysis}: {error}") from error
                _logger.warning("figure %s left out: %s", name, error)
                continue
            stem = config.stem(name)
            with exclusive(stem):
                files += save(figure, stem, config.formats)
    if not files:
        raise ConfigError(f"{config.analysis} has nothing to draw a figure from.")
    return files
