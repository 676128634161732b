"""``hidden-context train``: train a reward model on preference data."""

from __future__ import annotations

import dataclasses

from hidden_context.cli.arguments import command
from hidden_context.config import changed
from hidden_context.report.terminal.metrics import print_baselines, print_metrics
from hidden_context.training.config import TrainConfig


@dataclasses.dataclass(frozen=True)
class TrainFlags(TrainConfig):
    """Options of training, with a least number of judgements."""

    min_judgements: int = changed(TrainConfig, "min_judgements", 20)


def run_training(config: TrainConfig) -> None:
    """Train and print what was read, the metrics, and where the model lies."""
    from hidden_context.training.fitted import is_first_process
    from hidden_context.training.workflow import run

    result = run(config)
    if not is_first_process():
        return
    for name, report in result.reports.items():
        print(f"{name}: {report}")
    if result.metrics:
        print_metrics(result.metrics, "evaluation examples")
    if result.baselines:
        print_baselines(result.baselines)
    print(f"reward model saved to {result.path}")


main = command(
    TrainFlags,
    "hidden-context train",
    "Train a reward model on preference data; see docs/guides/train.md.",
)(run_training)
