"""``hidden-context relabel``: preference labels by a language model."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from hidden_context.cli.arguments import command
from hidden_context.relabel.config import RelabelConfig

if TYPE_CHECKING:
    from hidden_context.relabel.cost import Estimate
    from hidden_context.relabel.workflow import RelabelResult


@command(
    RelabelConfig,
    "hidden-context relabel",
    "Ask a language model which response is better; see docs/guides/relabel.md.",
)
def main(config: RelabelConfig) -> int:
    """Parse, ask, write the rows, print the counts; 1 where the limit of the cost was reached."""
    from hidden_context.relabel.workflow import run

    result = run(config, ask_user)
    print(result.report)
    print_result(result)
    return 1 if result.path is None else 0


def ask_user(estimate: Estimate) -> bool:
    """Ask on a terminal whether to go on; without one nobody can agree."""
    if not sys.stdin.isatty():
        return False
    print("Go on? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def print_result(result: RelabelResult) -> None:
    """Print what was judged, what was not and why, and what it cost."""
    from hidden_context.relabel.cost import money

    print(f"questions: {result.asked} asked, {result.known} answered before")
    if result.cost is not None:
        print(
            f"cost: {money(result.cost)} in all, for {result.input_tokens:,} tokens of questions "
            f"and {result.output_tokens:,} of replies"
        )
    if result.uncounted:
        print(f"replies without a count of tokens, which was estimated: {result.uncounted}")
    if result.path is None:
        print(
            f"stopped before --max_cost, with {result.left} questions left and nothing written; "
            "a higher limit goes on from here",
            file=sys.stderr,
        )
        return
    reasons = ", ".join(f"{count} {name}" for name, count in sorted(result.reasons.items()))
    print(f"judgements: {result.judged}, abstentions: {result.abstained}")
    if reasons:
        print(f"answers that abstain: {reasons}")
    print(f"{result.path}: {result.rows} rows")
