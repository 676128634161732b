"""``hidden-context score``: reward distributions of pairs, responses or texts, to a file."""

from __future__ import annotations

from hidden_context.cli.arguments import command
from hidden_context.scoring.config import ScoreConfig


def run_scoring(config: ScoreConfig) -> None:
    """Score, and print where the scores lie and the counts of rows."""
    from hidden_context.scoring.files import score_file

    result = score_file(config)
    print(f"{result.place}: {result.counts}")


main = command(
    ScoreConfig,
    "hidden-context score",
    "Score a file with one or several reward models; see docs/guides/score.md.",
)(run_scoring)
