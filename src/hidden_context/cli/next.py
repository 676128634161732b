"""``hidden-context next``: which votes to ask for next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hidden_context.acquisition.config import NextConfig
from hidden_context.cli.arguments import command
from hidden_context.progress import say

if TYPE_CHECKING:
    from hidden_context.acquisition.workflow import Chosen, GroupSummary

_MOST_GROUPS: Final = 12
_NAME: Final = 32


@command(
    NextConfig,
    "hidden-context next",
    "Which items, and which annotators, to ask next, so that each vote tells most "
    "of how people are divided.",
)
def main(config: NextConfig) -> None:
    """Choose votes, write them as questions, and print what they are expected to tell."""
    from hidden_context.acquisition.workflow import run

    chosen = run(config, None if config.quiet else say)
    print("\n".join(summary_lines(chosen)))
    print(f"wrote {config.output}")


def summary_lines(chosen: Chosen) -> list[str]:
    """Word a choice as lines for a terminal.

    Args:
        chosen: The choice.

    Returns:
        The lines.
    """
    total = chosen.total
    items = len({question.item for question in chosen.questions})
    lines = [
        chosen.report,
        f"{total.chosen} votes on {items} of {total.items} items "
        f"({chosen.unjudged} without a vote), {chosen.spent:g} of a budget of {chosen.budget:g}",
        f"expected error of an item ({chosen.aim}): {total.before:.4f} before, "
        f"{total.after:.4f} after",
        f"a forecast by text is worth up to {chosen.strength:.3g} votes",
    ]
    if len(chosen.groups) > 1:
        lines += ["", f"{'group':<{_NAME}} {'items':>6} {'votes':>7} {'new':>6}  before   after"]
        lines += [_group_line(each) for each in chosen.groups[:_MOST_GROUPS]]
    if len(chosen.groups) > _MOST_GROUPS:
        lines.append(f"and {len(chosen.groups) - _MOST_GROUPS} more groups")
    return lines


def _group_line(each: GroupSummary) -> str:
    name = " ".join(each.name.split())
    name = name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"
    return (
        f"{name:<{_NAME}} {each.items:>6} {each.votes:>7g} {each.chosen:>6}  "
        f"{each.before:.4f}  {each.after:.4f}"
    )
