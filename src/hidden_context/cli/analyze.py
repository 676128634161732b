"""``hidden-context analyze``: numbers from score files, or the paper's tables."""

from __future__ import annotations

from hidden_context.analysis.config import AnalyzeConfig
from hidden_context.cli.arguments import command


@command(
    AnalyzeConfig,
    "hidden-context analyze",
    "Loss, accuracy, rewards and r² of score files; without any file the paper's "
    "tables (jailbreak rate, helpfulness accuracy, r²) from the evaluations in --data_dir.",
    uses_hub=False,
)
def main(config: AnalyzeConfig) -> None:
    """Analyse score files; without any, summarise a data folder into the paper's tables."""
    if config.files:
        from hidden_context.analysis import workflow
        from hidden_context.report.terminal.analysis import print_analysis

        print_analysis(workflow.run(config))
    else:
        from hidden_context.paper import workflow as paper
        from hidden_context.paper.summary import print_summary

        print_summary(paper.run(config))
