"""The paper's command for jailbreak rates, helpfulness accuracies and r² from evaluations."""

from __future__ import annotations

import sys

from hidden_context.analysis.config import SummarizeConfig
from hidden_context.cli.arguments import command
from hidden_context.cli.main import safe


@safe
@command(
    SummarizeConfig,
    "python -m hidden_context.summarize_results",
    "Summarise evaluations into the paper's tables.",
    uses_hub=False,
)
def main(config: SummarizeConfig) -> None:
    """Print the paper's tables from the evaluations in ``--data_dir``."""
    from hidden_context.paper import workflow
    from hidden_context.paper.summary import print_summary

    print_summary(workflow.run(config))


if __name__ == "__main__":
    sys.exit(main())
