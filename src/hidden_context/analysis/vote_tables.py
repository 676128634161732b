"""Predictions against votes, as the terminal shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hidden_context.analysis.table_cells import estimate, make_table, number, percent, say, share
from hidden_context.analysis.votes import MEASURES

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from hidden_context.analysis.votes import VoteAnalysis
    from hidden_context.statistics.contested_measures import MeasureFound
    from hidden_context.statistics.new_annotators import NewAnnotators
    from hidden_context.statistics.vote_results import KnownAnnotators, VoteMetrics

_WAYS: Final = {
    "model": "model",
    "population": "model without annotators",
    "constant": "shares of all votes",
    "floor": "floor: shares of each pair",
}
_TOPICS: Final = 10
"""Topics that the terminal shows; the file has all."""


def print_votes(votes: VoteMetrics, console: Console) -> None:
    """Print how predictions stand against votes: losses, annotators, contested pairs."""
    say(console, _counts(votes))
    console.print(loss_table(votes))
    say(console, _shares(votes))
    if votes.annotators_known is not None:
        say(console, _known(votes.annotators_known))
    if votes.new_annotators is not None:
        console.print(few_shot_table(votes.new_annotators))
    say(console, *_disagreement(votes))
    if votes.contested is not None:
        found = votes.contested
        say(
            console,
            f"Contested: {share(found.share)} of {found.items} pairs with several votes "
            f"({found.unanimous_equal} more are all “equal”); expected {share(found.expected)}",
        )
        if found.measures:
            console.print(measure_table(found.measures, "AUROC of finding contested pairs"))
        if found.halves is not None:
            title = (
                f"Ceiling: AUROC of finding contested halves of the votes ({found.halves.items} "
                "pairs)"
            )
            console.print(measure_table(found.halves.measures, title))
    if votes.conflict is not None:
        said = votes.conflict
        title = (
            f"AUROC of telling conflict ({said.conflict}) from indifference ({said.indifference})"
        )
        console.print(measure_table(said.measures, title))


def print_topics(found: VoteAnalysis, console: Console) -> None:
    """Print the topics that are contested most, and how r² within prompts follows them."""
    from rich.markup import escape

    if found.topics:
        columns = ["pairs", "contested", "expected", "r² within"]
        table = make_table("Where votes are contested", ["topic"], columns)
        for topic in found.topics[:_TOPICS]:
            table.add_row(
                escape(f"{topic.column}={topic.name}"),
                str(topic.items),
                share(topic.observed),
                share(topic.predicted),
                number(topic.r2_within, 2),
            )
        console.print(table)
    for trend in found.r2_within:
        say(
            console,
            f"r² within prompts against the share contested, {trend.groups} values of "
            f"{trend.column}: rank correlation {estimate(trend.spearman, 2)}",
        )


def loss_table(votes: VoteMetrics) -> Table:
    """Lay out the mean losses per vote, two-way and, where a model has ties, three-way."""
    three = any(row.three_way is not None for row in votes.loss)
    columns = ["two-way", "three-way"] if three else ["two-way"]
    table = make_table("loss per vote (nats)", ["predicted by"], columns)
    for row in votes.loss:
        cells = [estimate(each, 4) for each in (row.two_way, row.three_way)]
        table.add_row(_WAYS[row.name], *cells[: len(columns)])
    return table


def few_shot_table(found: NewAnnotators) -> Table:
    """Lay out the losses of new annotators' votes before and after some of them are shown."""
    title = f"new annotators, {found.way.replace('_', '-')} loss per vote (nats)"
    columns = ["annotators", "votes predicted", "before", "after", "after − before"]
    table = make_table(title, ["votes shown"], columns)
    for point in found.points:
        table.add_row(
            str(point.shown),
            str(point.annotators),
            str(point.votes),
            number(point.before, 4),
            number(point.after, 4),
            estimate(point.difference, 4, sign="+"),
        )
    return table


def measure_table(measures: list[MeasureFound], title: str) -> Table:
    """Lay out areas under the curve, and their differences to P near ½ and to length."""
    columns = ["AUROC", "− P near ½", "− length"]
    table = make_table(title, ["measure"], columns)
    for each in measures:
        differences = (each.minus_near_half, each.minus_length)
        table.add_row(
            MEASURES.get(each.name, each.name),
            estimate(each.auroc),
            *(estimate(difference, sign="+") for difference in differences),
        )
    return table


def _counts(votes: VoteMetrics) -> str:
    who = f", {votes.annotators} annotators ({votes.known} known)" if votes.annotators else ""
    equal = f", {percent(votes.equal / votes.votes)} “equal”" if votes.equal else ""
    return f"{votes.votes} votes on {votes.items} pairs, {votes.several} with several{equal}{who}"


def _shares(votes: VoteMetrics) -> str:
    text = (
        f"P against the shares of votes: Brier score {estimate(votes.brier['model'])}, that of a "
        f"constant ½ {estimate(votes.brier['constant'])}"
    )
    if votes.spearman is None:
        return text
    return f"{text}; rank correlation {estimate(votes.spearman, 2)}"


def _known(found: KnownAnnotators) -> str:
    parts = [f"{estimate(found.two_way.difference, 4, sign='+')} two-way"]
    if found.three_way is not None:
        parts.append(f"{estimate(found.three_way.difference, 4, sign='+')} three-way")
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
