"""``hidden-context quickstart``: the whole story on a generated world, offline."""

from __future__ import annotations

from collections.abc import Sequence

from hidden_context.cli.arguments import parse
from hidden_context.quickstart.config import QuickstartConfig


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, run, print the tables, draw the figure."""
    config = parse(
        QuickstartConfig,
        argv,
        prog="hidden-context quickstart",
        description="Train three kinds of reward model on a generated world whose truth is known; "
        "see docs/start/quickstart.md.",
    )
    from hidden_context.quickstart import figures, tables, workflow

    result = workflow.run(config)
    files = figures.draw(result)
    tables.print_result(result)
    print(f"figure: {', '.join(map(str, files))}")
    return 0
