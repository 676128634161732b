"""The answer on the terminal: short, the answer first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from hidden_context.analysis.table_cells import make_table, say
from hidden_context.check.words import percent, shortened, with_ends

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from hidden_context.check.results import Found
    from hidden_context.check.results_observed import Observed
    from hidden_context.check.results_predicted import Item, Predicted

_BAR: Final = 24
_TOPICS: Final = 8
_ITEMS: Final = 5
_PEOPLE: Final = 5
_NAME: Final = 36
_TEXT: Final = 32


def print_found(found: Found, page: Path, console: Console | None = None) -> None:
    """Print what a check found.

    Args:
        found: What it found.
        page: Where the page is, which the last line names.
        console: Where to print; the terminal if None.
    """
    from rich.console import Console

    console = console or Console()
    console.print(found.answer.headline, style="bold", markup=False, highlight=False)
    for sentence in found.answer.sentences:
        console.print(sentence, markup=False, highlight=False)
    console.print()
    tables: list[Table | None] = [_kinds(found)]
    if found.predicted is not None:
        tables += [_topics(found.predicted), _items(found), _scores(found.predicted)]
    tables += [_people(found.observed), _covariates(found), _choices(found), _judges(found)]
    for table in tables:
        if table is not None and table.row_count:
            console.print(table)
            if table is tables[0]:
                say(console, f" {found.settings.split_means}")
            console.print()
    if found.predicted is not None and found.predicted.verdict:
        console.print(found.predicted.verdict, markup=False, highlight=False)
    if found.predicted is not None and found.predicted.voters is not None:
        console.print(found.predicted.voters.sentence, markup=False, highlight=False)
    for judge in found.judges:
        console.print(judge.sentence, markup=False, highlight=False)
    if found.advice is not None:
        console.print(found.advice.sentence, markup=False, highlight=False)
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
            bar = "█" * max(1, round(_BAR * kind.share))
            label = f"split: {kind.label}" if kind.is_split else kind.label
            table.add_row(label, f"{kind.items:,}", percent(kind.share), bar)
    return table


def _topics(predicted: Predicted) -> Table:
    title = "Split items by topic, observed beside foretold"
    table = make_table(title, ["topic"], ["items", "observed", "foretold"])
    shown = predicted.topics
    if len(shown) > _TOPICS:
        shown = [*shown[: _TOPICS - 2], *shown[-2:]]
    for number, topic in enumerate(shown):
        if len(predicted.topics) > _TOPICS and number == _TOPICS - 2:
            table.add_row(f"… {len(predicted.topics) - _TOPICS} more", "", "", "")
        table.add_row(
            _plain(topic.name),
            f"{topic.items:,}",
            with_ends(topic.observed),
            percent(topic.predicted.estimate),
        )
    return table


def _items(found: Found) -> Table:
    sides = found.settings.sides
    names = [sides[side].removesuffix(" response") for side in ("first", "equal", "second")]
    table = make_table("The most split items", ["item", "place"], names)
    for item in found.predicted.top[:_ITEMS] if found.predicted else []:
        votes = [f"{count:g}" for count in (item.first, item.equal, item.second)]
        table.add_row(_plain(_text(item), _TEXT), item.place, *votes)
    return table


def _text(item: Item) -> str:
    return item.prompt or item.responses[0]


def _scores(predicted: Predicted) -> Table:
    table = make_table(
        "Votes on new items", ["foretold by"], ["nats per vote", "finds split items"]
    )
    for score in predicted.scores:
        area = score.auroc.estimate
        table.add_row(
            score.label, f"{score.nll.estimate:.3f}", f"{area:.2f}" if area == area else "–"
        )
    if predicted.scores:
        table.add_row("(least that is possible)", f"{predicted.floor:.3f}", "")
    return table


def _people(observed: Observed) -> Table | None:
    if not observed.people:
        return None
    title = observed.deviation_means
    table = make_table(title, ["annotator"], ["votes", "deviates", "agrees with others"])
    for person in observed.people[:_PEOPLE]:
        table.add_row(
            _plain(person.name),
            f"{person.votes:,}",
            with_ends(person.deviation),
            percent(person.agreement),
        )
    return table


def _covariates(found: Found) -> Table:
    title = "What is known of people: do those who share it answer alike?"
    table = make_table(title, ["known"], ["people", "alike", "others", "p (Holm)"])
    for each in found.explained.covariates:
        table.add_row(
            _plain(each.name),
            str(each.people),
            percent(each.alike, 1),
            percent(each.unlike, 1),
            f"{each.p_adjusted:.3f}",
        )
    return table


def _choices(found: Found) -> Table | None:
    if found.advice is None:
        return None
    title = "If a reward model chose by …"
    table = make_table(title, ["measure"], ["differs", "votes against", "there", "mean there"])
    for choice in found.advice.choices:
        is_mean = choice.measure == "mean"
        table.add_row(
            choice.measure,
            "" if is_mean else percent(choice.differs.estimate, 1),
            with_ends(choice.against),
            "" if is_mean else percent(choice.against_there.estimate),
            "" if is_mean else percent(choice.mean_against_there.estimate),
        )
    return table


def _judges(found: Found) -> Table:
    title = "Language models as judges"
    numbers = ["answers", "unsteady", "against people", "noise"]
    table = make_table(title, ["judge"], numbers)
    for judge in found.judges:
        people = judge.people
        table.add_row(
            _plain(judge.name, _TEXT),
            f"{judge.answers:,}",
            percent(judge.alone.other_order.estimate),
            "–" if people is None else percent(people.differ.estimate),
            "–" if people is None else percent(people.noise.estimate),
        )
    return table


def _plain(text: str, most: int = _NAME) -> str:
    from rich.markup import escape

    return escape(shortened(text, most))
