"""The paper's command: evaluations to jailbreak rates, helpfulness accuracies and r²."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hidden_context.analysis.config import SummarizeConfig
from hidden_context.cli.arguments import parse
from hidden_context.cli.main import run_safely


def _summarize(argv: Sequence[str] | None) -> int:
    config = parse(
        SummarizeConfig,
        argv,
        prog="python -m hidden_context.summarize_results",
        description="Summarise evaluations into the paper's tables.",
    )
    from hidden_context.paper import tables, workflow

    tables.print_summary(workflow.run(config))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Print the paper's tables from the evaluations in ``--data_dir``; return the exit code."""
    return run_safely(_summarize, argv)


if __name__ == "__main__":
    sys.exit(main())
