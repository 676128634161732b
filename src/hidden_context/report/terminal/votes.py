"""Predictions compared with votes, as tables for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hidden_context.analysis.measure.votes import MEASURES
from hidden_context.terminal import estimate, make_table, number, percent, say, share, table_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console
    from rich.table import Table

    from hidden_context.analysis.measure.votes import Topic, VoteAnalysis
    from hidden_context.statistics.evaluation.new_annotators import FewShotPoint, NewAnnotators
    from hidden_context.statistics.evaluation.vote_metrics import KnownAnnotators, VoteMetrics
    from hidden_context.statistics.votes.contested import MeasureFound

_WAYS: Final = {
    "model": "model",
    "population": "model without annotators",
    "constant": "shares of all votes",
    "floor": "floor: shares of each pair",
}
_TOPICS: Final = 10
"""Topics that the terminal shows; the file has all."""


def print_votes(votes: VoteMetrics, console: Console) -> None:
    """Print how predictions compare with votes: losses, annotators, contested pairs."""
    who = f", {votes.annotators} annotators ({votes.known} known)" if votes.annotators else ""
    equal = f", {percent(votes.equal / votes.votes)} “equal”" if votes.equal else ""
    counts = f"{votes.votes} votes on {votes.items} pairs, {votes.several} with several"
    say(console, f"{counts}{equal}{who}")
    console.print(_loss_table(votes))
    rank = "" if votes.spearman is None else f"; rank correlation {estimate(votes.spearman, 2)}"
    say(
        console,
        f"P against the shares of votes: Brier score {estimate(votes.brier['model'])}, that of a "
        f"constant ½ {estimate(votes.brier['constant'])}{rank}",
    )
    if votes.annotators_known is not None:
        say(console, _known(votes.annotators_known))
    if votes.new_annotators is not None:
        console.print(_few_shot_table(votes.new_annotators))
    say(console, *_disagreement(votes))
    tables = []
    if (found := votes.contested) is not None:
        say(
            console,
            f"Contested: {share(found.share)} of {found.items} pairs with several votes "
            f"({found.unanimous_equal} more are all “equal”); expected {share(found.expected)}",
        )
        tables.append(("AUROC of finding contested pairs", found.measures))
        if found.halves is not None:
            title = "Ceiling: AUROC of finding contested halves of the votes"
            tables.append((f"{title} ({found.halves.items} pairs)", found.halves.measures))
    if (said := votes.conflict) is not None:
        title = "AUROC of telling conflict"
        title += f" ({said.conflict}) from indifference ({said.indifference})"
        tables.append((title, said.measures))
    for title, measures in tables:
        if measures:
            console.print(_measure_table(measures, title))


def print_topics(found: VoteAnalysis, console: Console) -> None:
    """Print the most contested topics, and how r² within prompts follows the share contested."""
    if found.topics:
        columns: dict[str, Callable[[Topic], str]] = {
            "topic": lambda topic: f"{topic.column}={topic.name}",
            "pairs": lambda topic: str(topic.items),
            "contested": lambda topic: share(topic.observed),
            "expected": lambda topic: share(topic.predicted),
            "r² within": lambda topic: number(topic.r2_within, 2),
        }
        console.print(table_of("Where votes are contested", found.topics[:_TOPICS], columns))
    for trend in found.r2_within:
        say(
            console,
            f"r² within prompts against the share contested, {trend.groups} values of "
            f"{trend.column}: rank correlation {estimate(trend.spearman, 2)}",
        )


def _loss_table(votes: VoteMetrics) -> Table:
    """Lay out the mean losses per vote, two-way and, where a model has ties, three-way."""
    columns = ["two-way"]
    if any(row.three_way is not None for row in votes.loss):
        columns.append("three-way")
    rows = [
        (_WAYS[row.name], estimate(row.two_way, 4), estimate(row.three_way, 4))[: 1 + len(columns)]
        for row in votes.loss
    ]
    return make_table("loss per vote (nats)", ["predicted by"], columns, rows)


def _few_shot_table(found: NewAnnotators) -> Table:
    """Lay out the losses on new annotators' votes before and after some votes are shown."""
    title = f"new annotators, {found.way.replace('_', '-')} loss per vote (nats)"
    columns: dict[str, Callable[[FewShotPoint], str]] = {
        "votes shown": lambda point: str(point.shown),
        "annotators": lambda point: str(point.annotators),
        "votes predicted": lambda point: str(point.votes),
        "before": lambda point: number(point.before, 4),
        "after": lambda point: number(point.after, 4),
        "after − before": lambda point: estimate(point.difference, 4, sign="+"),
    }
    return table_of(title, found.points, columns)


def _measure_table(measures: list[MeasureFound], title: str) -> Table:
    """Lay out areas under the curve, and their differences from P near ½ and from length."""
    columns: dict[str, Callable[[MeasureFound], str]] = {
        "measure": lambda each: MEASURES.get(each.name, each.name),
        "AUROC": lambda each: estimate(each.auroc),
        "− P near ½": lambda each: estimate(each.minus_near_half, sign="+"),
        "− length": lambda each: estimate(each.minus_length, sign="+"),
    }
    return table_of(title, measures, columns)


def _known(found: KnownAnnotators) -> str:
    ways = {"two-way": found.two_way, "three-way": found.three_way}
    parts = [f"{estimate(v.difference, 4, sign='+')} {name}" for name, v in ways.items() if v]
    return (
        f"Knowing {found.annotators} annotators changes the loss of their {found.votes} votes by "
        f"{', '.join(parts)} (by prompt and annotator)"
    )


def _disagreement(votes: VoteMetrics) -> list[str]:
    found, spread = votes.disagreement, votes.spread
    if found is None:
        return []
    lines = [
        f"Two annotators answer differently: expected {share(found.expected)}, observed "
        f"{share(found.observed)}"
    ]
    if spread.has_context:
        lines.append(
            f"Of the variance of an answer, conflict {estimate(spread.conflict)}, one person's own "
            f"{estimate(spread.same_person)}"
        )
    else:
        lines.append("The head has no shared context, so it expects no conflict between people")
    return lines
