"""``hidden-context synthetic``: the synthetic experiments (Figure 1 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence

from hidden_context.cli.arguments import parse
from hidden_context.synthetic.config import SyntheticConfig

DESCRIPTION = (
    "Train ordinary and distributional preference learning on comparisons whose hidden context is "
    "known exactly, and compare what they learn with Borda count and expected utility."
)


def main(argv: Sequence[str] | None) -> int:
    """Run the verb with the exact likelihood unless ``--likelihood`` says otherwise."""
    return run_command(SyntheticConfig, argv, prog="hidden-context synthetic")


def run_command(
    config_class: type[SyntheticConfig], argv: Sequence[str] | None, *, prog: str
) -> int:
    """Parse the options of either command, run the experiment and print its table."""
    config = parse(config_class, argv, prog=prog, description=DESCRIPTION)

    from hidden_context.synthetic.tables import print_summary
    from hidden_context.synthetic.workflow import run

    print_summary(run(config))
    return 0
