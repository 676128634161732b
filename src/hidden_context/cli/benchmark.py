"""``hidden-context benchmark``: RewardBench 2, RM-Bench and JudgeBench, scored by risk measures."""

from __future__ import annotations

from hidden_context.benchmark.config import BenchmarkConfig
from hidden_context.cli.arguments import command


@command(
    BenchmarkConfig,
    "hidden-context benchmark",
    "Accuracies of reward models on RewardBench 2, RM-Bench or JudgeBench, with "
    "the scores that risk measures make of reward distributions; see docs/guides/benchmark.md.",
)
def main(config: BenchmarkConfig) -> None:
    """Parse, score a benchmark's rows, print its metrics."""
    from hidden_context.benchmark.tables import print_benchmark
    from hidden_context.benchmark.workflow import run

    print_benchmark(run(config))
    print(f"{config.output}; scores: {config.scores_path}")
