"""``hidden-context check``: from a file to the answer whether its people disagree."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hidden_context.check.config import CheckConfig
from hidden_context.cli.arguments import parse
from hidden_context.cli.offline import use_cache_without_network


def main(argv: Sequence[str] | None) -> int:
    """Check a data set, print the answer, and write it as a page.

    Args:
        argv: The arguments after the verb, or None for those of the process.

    Returns:
        0.
    """
    config = parse(
        CheckConfig,
        argv,
        prog="hidden-context check",
        description="Do the people behind a data set disagree, where, about what, and who? "
        "Needs several people's judgements of the same items.",
    )
    use_cache_without_network()
    from hidden_context.check.tables import print_found
    from hidden_context.check.workflow import run

    def say(doing: str) -> None:
        print(f"{doing} …", file=sys.stderr, flush=True)

    print_found(run(config, None if config.quiet else say), config.folder / "check.html")
    return 0
