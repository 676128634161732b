"""``hidden-context figure``: figures for papers, from an analysis."""

from __future__ import annotations

from hidden_context.cli.arguments import command
from hidden_context.report.figures.workflow import FigureConfig


@command(
    FigureConfig,
    "hidden-context figure",
    "Figures for papers, as svg, pdf and png, from what analyze --output wrote: "
    "reliability, risk frontier, explained variance, its causes, contexts, comparison of two "
    "models, accuracy; each with confidence intervals.",
    uses_hub=False,
)
def main(config: FigureConfig) -> None:
    """Draw figures from analysis.json and say which files they are."""
    from hidden_context.report.figures import workflow as figures

    for path in figures.run(config):
        print(path)
