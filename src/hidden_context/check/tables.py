"""The answer on the terminal: short, the answer first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hidden_context.check.numbers import with_ends
from hidden_context.contexts.text import shortened
from hidden_context.terminal import make_table, number, percent, say

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from hidden_context.check.findings import Advice, Predicted
    from hidden_context.check.results import Found

_TOPICS: Final = 8
_TEXT: Final = 32


def print_found(found: Found, page: Path, console: Console | None = None) -> None:
    """Print what a check found.

    Args:
        found: What it found.
        page: Path of the page, which the last line names.
        console: Where to print; the terminal if None.
    """
    from rich.console import Console

    console = console or Console()
    tell = partial(console.print, markup=False, highlight=False)
    tell(found.answer.headline, style="bold")
    for sentence in found.answer.sentences:
        tell(sentence)
    console.print()
    tables, sentences = [_kinds(found)], list[str]()
    if found.predicted is not None:
        tables += [_topics(found.predicted), _items(found, found.predicted)]
        tables.append(_scores(found.predicted))
        voters = found.predicted.voters
        sentences += [found.predicted.verdict, "" if voters is None else voters.sentence]
    tables += [_people(found), _covariates(found)]
    sentences += [judge.sentence for judge in found.judges]
    if found.advice is not None:
        tables.append(_choices(found.advice))
        sentences.append(found.advice.sentence)
    for table in [*tables, _judges(found)]:
        if table.row_count:
            console.print(table)
            if table is tables[0]:
                say(console, f" {found.settings.split_means}")
            console.print()
    for sentence in filter(None, sentences):
        tell(sentence)
    if found.missing:
        console.print()
        say(console, "What could not be found:", *(f"- {line}" for line in found.missing))
    console.print()
    say(console, f"The whole answer: {page}")


def _table(
    title: str, texts: Sequence[str], numbers: Sequence[str], rows: Iterable[Sequence[str]]
) -> Table:
    table = make_table(title, texts, numbers)
    for row in rows:
        table.add_row(*row)
    return table


def _kinds(found: Found) -> Table:
    table = make_table("What the votes of an item look like", ["items are"], ["items", "share"])
    table.add_column("")
    for kind in found.observed.kinds:
        if kind.items:
            bar = "█" * max(1, round(24 * kind.share))
            label = f"split: {kind.label}" if kind.is_split else kind.label
            table.add_row(label, f"{kind.items:,}", percent(kind.share, 0), bar)
    return table


def _topics(predicted: Predicted) -> Table:
    rows = [
        (
            _plain(topic.name),
            f"{topic.items:,}",
            with_ends(topic.observed),
            percent(topic.predicted.estimate, 0),
        )
        for topic in predicted.topics
    ]
    if len(rows) > _TOPICS:
        rows[_TOPICS - 2 : -2] = [(f"… {len(rows) - _TOPICS} more", "", "", "")]
    title = "Split items by topic, observed beside predicted"
    return _table(title, ["topic"], ["items", "observed", "predicted"], rows)


def _items(found: Found, predicted: Predicted) -> Table:
    sides = found.settings.sides
    names = [sides[side].removesuffix(" response") for side in ("first", "equal", "second")]
    rows = [
        (
            _plain(item.prompt or item.responses[0], _TEXT),
            item.place,
            *(f"{count:g}" for count in (item.first, item.equal, item.second)),
        )
        for item in predicted.top[:5]
    ]
    return _table("The most split items", ["item", "place"], names, rows)


def _scores(predicted: Predicted) -> Table:
    rows = [
        (score.label, number(score.nll.estimate), number(score.auroc.estimate, 2))
        for score in predicted.scores
    ]
    if rows:
        rows.append(("(least that is possible)", number(predicted.floor), ""))
    numbers = ["nats per vote", "finds split items"]
    return _table("Votes on new items", ["predicted by"], numbers, rows)


def _people(found: Found) -> Table:
    rows = (
        (
            _plain(person.name),
            f"{person.votes:,}",
            with_ends(person.deviation),
            percent(person.agreement, 0),
        )
        for person in found.observed.people[:5]
    )
    numbers = ["votes", "deviates", "agrees with others"]
    return _table(found.observed.deviation_means, ["annotator"], numbers, rows)


def _covariates(found: Found) -> Table:
    rows = (
        (
            _plain(each.name),
            str(each.people),
            percent(each.alike),
            percent(each.unlike),
            number(each.p_adjusted),
        )
        for each in found.explained.covariates
    )
    title = "What is known of people: do those who share it answer alike?"
    return _table(title, ["known"], ["people", "alike", "others", "p (Holm)"], rows)


def _choices(advice: Advice) -> Table:
    rows = []
    for choice in advice.choices:
        there = [
            percent(choice.against_there.estimate, 0),
            percent(choice.mean_against_there.estimate, 0),
        ]
        differs, is_mean = percent(choice.differs.estimate), choice.measure == "mean"
        first, *rest = ["", "", ""] if is_mean else [differs, *there]
        rows.append((choice.measure, first, with_ends(choice.against), *rest))
    numbers = ["differs", "votes against", "there", "mean there"]
    return _table("If a reward model chose by …", ["measure"], numbers, rows)


def _judges(found: Found) -> Table:
    rows = []
    for judge in found.judges:
        against = [] if judge.people is None else [judge.people.differ, judge.people.noise]
        rows.append(
            (
                _plain(judge.name, _TEXT),
                f"{judge.answers:,}",
                percent(judge.alone.other_order.estimate, 0),
                *([percent(each.estimate, 0) for each in against] or ["–", "–"]),
            )
        )
    numbers = ["answers", "unsteady", "against people", "noise"]
    return _table("Language models as judges", ["judge"], numbers, rows)


def _plain(text: str, most: int = 36) -> str:
    from rich.markup import escape

    return escape(shortened(text, most))
