"""A benchmark's metrics for the terminal: models and risk measures beside each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hidden_context.terminal import NOTHING, make_table, number, percent, say, share

if TYPE_CHECKING:
    from rich.table import Table

    from hidden_context.analysis.sections.benchmarks import SectionAccuracy
    from hidden_context.benchmark.metrics import BenchmarkResult, ModelResult

_WIDE: Final = 10_000
"""Columns of the output: a table is as wide as its content, so that no name is cut short."""

_NAMED: Final = 5
"""Texts without a score that the terminal names; the file has all."""


def print_benchmark(result: BenchmarkResult) -> None:
    """Print accuracies, what the distributions say, and what could not be scored."""
    from rich.console import Console

    console = Console(width=_WIDE)
    console.print(_accuracy_table(result))
    columns = ["rows", "mean σ", "mean P(chosen ≻ rejected)", "pairs where that is above ½"]
    rows = []
    for model in result.models:
        for spread in model.distribution[:1]:
            shares = map(percent, (spread.preferred, spread.right))
            rows.append((model.name, str(spread.n), number(spread.stddev), *shares))
    console.print(make_table("What the distributions say", ["model"], columns, rows))
    notes = dict.fromkeys(
        record.note
        for model in result.models
        for measure in model.measures.values()
        for record in measure.records
        if record.note
    )
    say(console, *notes)
    if result.texts_cut:
        say(console, f"texts whose beginning was cut: {result.texts_cut}")
    for model in result.models:
        say(console, *_left_out(model, result.rows))


def _left_out(model: ModelResult, rows: int) -> list[str]:
    if not model.unscored:
        return []
    lines = [
        f"{model.name}: {model.rows_left_out} of {rows} rows left out; "
        f"texts without a score: {len(model.unscored)}"
    ]
    for text in model.unscored[:_NAMED]:
        name = "" if text.id is None else f" ({text.id})"
        lines.append(f"  row {text.row}{name}, {text.response}: {text.reason}")
    if len(model.unscored) > _NAMED:
        lines.append("  …")
    return lines


def _accuracy_table(result: BenchmarkResult) -> Table:
    """Lay accuracies out: a row for each section and subset, a column for each score.

    With several metrics of one score, as in RM-Bench, each metric has a column.
    """
    from rich.markup import escape

    columns = [
        (model, measure, metric)
        for model in result.models
        for measure, found in model.measures.items()
        for metric in found.records[0].accuracy
    ]
    places: dict[tuple[str, str], dict[int, SectionAccuracy]] = {}
    for place, (model, measure, _) in enumerate(columns):
        for record in model.measures[measure].records:
            places.setdefault((record.section, record.subset), {})[place] = record
    heads = [
        escape("\n".join([model.name, measure] + ([] if metric == "accuracy" else [metric])))
        for model, measure, metric in columns
    ]
    table = make_table(result.title, ["section", "subset"], ["n", *heads])
    for (section, subset), own in places.items():
        counts = dict.fromkeys(str(record.n) for record in own.values())
        cells = [
            share(own[place].accuracy[metric]) if place in own else NOTHING
            for place, (*_, metric) in enumerate(columns)
        ]
        name, style = ("", None) if subset else (section, "bold")
        table.add_row(escape(name), escape(subset), " / ".join(counts), *cells, style=style)
    return table
