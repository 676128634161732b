"""The answer on the terminal: short, the answer first."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hidden_context.check.numbers import with_ends
from hidden_context.contexts.text import shortened
from hidden_context.terminal import NOTHING, make_table, number, percent, say, table_of

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from hidden_context.check.findings import Advice, Predicted
    from hidden_context.check.results import Found

Write = Callable[[Any], str]
_TOPICS: Final = 8
_NAME, _TEXT = 36, 32


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
            shortened(topic.name, _NAME),
            f"{topic.items:,}",
            with_ends(topic.observed),
            percent(topic.predicted.estimate, 0),
        )
        for topic in predicted.topics
    ]
    if len(rows) > _TOPICS:
        rows[_TOPICS - 2 : -2] = [(f"… {len(rows) - _TOPICS} more", "", "", "")]
    title = "Split items by topic, observed beside predicted"
    return make_table(title, ["topic"], ["items", "observed", "predicted"], rows)


def _items(found: Found, predicted: Predicted) -> Table:
    sides = [found.settings.sides[side] for side in ("first", "equal", "second")]
    rows = [
        (
            shortened(item.prompt or item.responses[0], _TEXT),
            item.place,
            *(f"{count:g}" for count in (item.first, item.equal, item.second)),
        )
        for item in predicted.top[:5]
    ]
    names = [side.removesuffix(" response") for side in sides]
    return make_table("The most split items", ["item", "place"], names, rows)


def _scores(predicted: Predicted) -> Table:
    columns: dict[str, Write] = {
        "predicted by": attrgetter("label"),
        "nats per vote": lambda score: number(score.nll.estimate),
        "finds split items": lambda score: number(score.auroc.estimate, 2),
    }
    table = table_of("Votes on new items", predicted.scores, columns)
    if table.row_count:
        table.add_row("(least that is possible)", number(predicted.floor), "")
    return table


def _people(found: Found) -> Table:
    columns: dict[str, Write] = {
        "annotator": lambda person: shortened(person.name, _NAME),
        "votes": lambda person: f"{person.votes:,}",
        "deviates": lambda person: with_ends(person.deviation),
        "agrees with others": lambda person: percent(person.agreement, 0),
    }
    return table_of(found.observed.deviation_means, found.observed.people[:5], columns)


def _covariates(found: Found) -> Table:
    columns: dict[str, Write] = {
        "known": lambda each: shortened(each.name, _NAME),
        "people": lambda each: str(each.people),
        "alike": lambda each: percent(each.alike),
        "others": lambda each: percent(each.unlike),
        "p (Holm)": lambda each: number(each.p_adjusted),
    }
    title = "Known about people: do people who share it answer alike?"
    return table_of(title, found.explained.covariates, columns)


def _choices(advice: Advice) -> Table:
    rows = []
    for choice in advice.choices:
        there = (choice.against_there, choice.mean_against_there)
        own = [percent(choice.differs.estimate), *(percent(each.estimate, 0) for each in there)]
        differs, *rest = ["", "", ""] if choice.measure == "mean" else own
        rows.append((choice.measure, differs, with_ends(choice.against), *rest))
    numbers = ["differs", "votes against", "there", "mean there"]
    return make_table("If a reward model chose by …", ["measure"], numbers, rows)


def _judges(found: Found) -> Table:
    def of_people(name: str) -> Write:
        return lambda judge: (
            NOTHING if judge.people is None else percent(getattr(judge.people, name).estimate, 0)
        )

    columns: dict[str, Write] = {
        "judge": lambda judge: shortened(judge.name, _TEXT),
        "answers": lambda judge: f"{judge.answers:,}",
        "unsteady": lambda judge: percent(judge.alone.other_order.estimate, 0),
        "against people": of_people("differ"),
        "noise": of_people("noise"),
    }
    return table_of("Language models as judges", found.judges, columns)
