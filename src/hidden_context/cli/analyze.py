"""``hidden-context analyze``: numbers from score files, or the paper's tables."""

from __future__ import annotations

from collections.abc import Sequence

from hidden_context.analysis.config import AnalyzeConfig
from hidden_context.cli.arguments import parse


def main(argv: Sequence[str] | None) -> int:
    """Analyse score files; without any, summarise a data folder into the paper's tables.

    Args:
        argv: The arguments after the verb, or None for those of the process.

    Returns:
        0.
    """
    config = parse(
        AnalyzeConfig,
        argv,
        prog="hidden-context analyze",
        description="Loss, accuracy, rewards and r² of score files; without any file the paper's "
        "tables (jailbreak rate, helpfulness accuracy, r²) from the evaluations in --data_dir.",
    )

    if config.files:
        from hidden_context.analysis import workflow
        from hidden_context.report.terminal.analysis import print_analysis

        print_analysis(workflow.run(config))
    else:
        from hidden_context.paper import tables
        from hidden_context.paper import workflow as paper

        tables.print_summary(paper.run(config))
    return 0
