"""``hidden-context score``: reward distributions of pairs, responses or texts, to a file."""

from __future__ import annotations

from collections.abc import Sequence

from hidden_context.cli.arguments import parse
from hidden_context.cli.offline import use_cache_without_network
from hidden_context.scoring.config import ScoreConfig


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, score, print the counts."""
    config = parse(
        ScoreConfig,
        argv,
        prog="hidden-context score",
        description="Score a file with one or several reward models; see docs/guides/score.md.",
    )
    return run_scoring(config)


def run_scoring(config: ScoreConfig) -> int:
    """Score, and print where the scores lie and the counts of rows."""
    use_cache_without_network()
    from hidden_context.scoring.files import score_file

    result = score_file(config)
    print(f"{result.place}: {result.counts}")
    return 0
