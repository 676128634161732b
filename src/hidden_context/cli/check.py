"""``hidden-context check``: from a file to the answer whether its people disagree."""

from __future__ import annotations

from hidden_context.check.config import CheckConfig
from hidden_context.cli.arguments import command
from hidden_context.progress import say


@command(
    CheckConfig,
    "hidden-context check",
    "Do the people behind a data set disagree, where, about what, and who? "
    "Needs several people's judgements of the same items.",
)
def main(config: CheckConfig) -> None:
    """Check a data set, print the answer, and write it as a page."""
    from hidden_context.check.tables import print_found
    from hidden_context.check.workflow import run

    print_found(run(config, None if config.quiet else say), config.folder / "check.html")
