"""``hidden-context quickstart``: the whole story on a generated world, offline."""

from __future__ import annotations

from hidden_context.cli.arguments import command
from hidden_context.quickstart.config import QuickstartConfig


@command(
    QuickstartConfig,
    "hidden-context quickstart",
    "Train three kinds of reward model on a generated world whose truth is known; "
    "see docs/start/quickstart.md.",
    uses_hub=False,
)
def main(config: QuickstartConfig) -> None:
    """Parse, run, print the tables, draw the figure."""
    from hidden_context.quickstart.presentation import draw, print_result
    from hidden_context.quickstart.workflow import run

    result = run(config)
    files = draw(result)
    print_result(result)
    print(f"figure: {', '.join(map(str, files))}")
