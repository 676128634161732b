"""``hidden-context evaluate``: raw outputs and metrics of a checkpoint on preference pairs."""

from __future__ import annotations

from hidden_context.cli.arguments import command
from hidden_context.report.terminal.metrics import print_metrics
from hidden_context.scoring.config import EvaluateConfig


def run_evaluation(config: EvaluateConfig) -> None:
    """Evaluate and print what was read, the metrics, and where the scores lie."""
    from hidden_context.report.terminal.votes import print_votes
    from hidden_context.scoring.evaluation import evaluate
    from hidden_context.terminal import make_console

    result = evaluate(config)
    print(result.report)
    print_metrics(result.metrics, "evaluation examples")
    if result.votes is not None:
        print_votes(result.votes, make_console())
    print(f"{result.path}: {result.counts}")


main = command(
    EvaluateConfig,
    "hidden-context evaluate",
    "Score preference pairs with a checkpoint; see docs/guides/evaluate.md.",
)(run_evaluation)
