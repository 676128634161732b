"""``hidden-context figure``: figures for papers, from an analysis."""

from __future__ import annotations

from collections.abc import Sequence

from hidden_context.cli.arguments import parse
from hidden_context.report.figures.workflow import FigureConfig


def main(argv: Sequence[str] | None) -> int:
    """Draw figures from analysis.json and say which files they are.

    Args:
        argv: The arguments after the verb, or None for those of the process.

    Returns:
        0.
    """
    config = parse(
        FigureConfig,
        argv,
        prog="hidden-context figure",
        description="Figures for papers, as svg, pdf and png, from what analyze --output wrote: "
        "reliability, risk frontier, explained variance, its causes, contexts, comparison of two "
        "models, accuracy; each with confidence intervals.",
    )
    from hidden_context.report.figures import workflow as figures

    for path in figures.run(config):
        print(path)
    return 0
