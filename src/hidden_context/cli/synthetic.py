"""``hidden-context synthetic``: the synthetic experiments (Figure 1 of the paper)."""

from __future__ import annotations

from hidden_context.cli.arguments import command
from hidden_context.synthetic.config import SyntheticConfig

DESCRIPTION = (
    "Train ordinary and distributional preference learning on comparisons whose hidden context is "
    "known exactly, and compare what they learn with Borda count and expected utility."
)


def run_experiment(config: SyntheticConfig) -> None:
    """Run the experiment and print its table."""
    from hidden_context.synthetic.workflow import print_summary, run

    print_summary(run(config))


main = command(SyntheticConfig, "hidden-context synthetic", DESCRIPTION, uses_hub=False)(
    run_experiment
)
