"""Calibration, tests, frontier, contexts and comparisons, as the terminal shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from hidden_context.analysis.table_cells import (
    estimate,
    make_table,
    number,
    p_value,
    percent,
    say,
    share,
)
from hidden_context.analysis.vote_tables import print_topics, print_votes

_SHOWN: Final = (None, 0.01, 0.1)
"""Levels of caution that the terminal shows; the file has all."""

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table

    from hidden_context.analysis.benchmark_accuracy import SectionAccuracy
    from hidden_context.analysis.comparison import Comparison
    from hidden_context.analysis.results import FileSections, ScoresAnalysis
    from hidden_context.analysis.subsets import SubsetDifference


def print_sections(analysis: ScoresAnalysis, console: Console) -> None:
    """Print what there is beside the numbers by group."""
    say(console, f"{analysis.clusters} {'prompt' if analysis.clusters == 1 else 'prompts'}")
    if (found := analysis.calibration) is not None:
        say(
            console,
            f"Calibration: expected error {estimate(found['ece'])}, Brier score "
            f"{estimate(found['brier'])}, sharpness {found['sharpness']:.3f}",
        )
    if analysis.votes is not None:
        print_votes(analysis.votes.metrics, console)
        print_topics(analysis.votes, console)
    if (found := analysis.borda) is not None:
        places = ", ".join(map(estimate, found["by_place"]))
        say(
            console,
            f"Borda counts of {found['rows']} rows: the response of the highest also has the "
            f"highest mean in {estimate(found['best_by_mean'])}"
            + (f"; mean counts by place {places}" if places else ""),
        )
    say(console, *map(_difference, analysis.subset_differences))
    say(console, *(f"{t.question} p = {p_value(t.p_value)}. {t.limit}" for t in analysis.tests))
    say(console, *(confound.text for confound in analysis.confounds))
    if analysis.frontier:
        table = make_table(None, ["caution"], ["unsafe preferred", "accuracy"])
        for point in analysis.frontier:
            if point.alpha in _SHOWN:
                table.add_row(point.name, share(point.unsafe), share(point.accuracy))
        console.print(table)
    if analysis.contexts is not None:
        console.print(_contexts(analysis.contexts))


def _difference(found: SubsetDifference) -> str:
    parts = [
        f"{name} {estimate(each, sign='+')}"
        for name, each in found.differences.items()
        if "/" not in name
    ]
    return f"{found.column} {found.second} minus {found.first}: {', '.join(parts)}"


def _contexts(found: dict[str, Any]) -> Any:
    from rich.markup import escape

    columns = ["prompts", "pairs", "mean variance", "share of variance"]
    table = make_table("Where the variance lies", ["prompts about"], columns)
    for cluster in found["clusters"]:
        table.add_row(
            escape(cluster["name"]),
            str(cluster["prompts"]),
            str(cluster["pairs"]),
            number(cluster["mean_variance"]),
            percent(cluster["variance_share"]),
        )
    return table


def print_benchmark(sections: FileSections, console: Console) -> None:
    """Print the accuracies of a benchmark's sections and subsets."""
    how = "by share, as wrong in Ties" if sections.style == "reward-bench-2" else "as wrong"
    notes = f"{sections.ties} ties, which count {how}"
    if sections.rows_left_out:
        notes += f"; {sections.rows_left_out} rows without a score left out"
    name = ", ".join(filter(None, (sections.file, sections.name)))
    say(console, f"{name} ({sections.style}): {notes}")
    console.print(section_table(sections.records))


def section_table(records: Sequence[SectionAccuracy]) -> Table:
    """Lay a benchmark's accuracies out: a row for each record, a column for each measure."""
    from rich.markup import escape

    notes = list(dict.fromkeys(record.note for record in records if record.note))
    marks = {note: f" [{place}]" for place, note in enumerate(notes, start=1)}
    table = make_table(None, ["section", "subset"], ["n", *records[0].accuracy])
    for record in records:
        is_subset = record.level == "subset"
        name = "" if is_subset else record.section + marks.get(record.note, "")
        cells = [str(record.n), *map(share, record.accuracy.values())]
        style = None if is_subset else "bold"
        table.add_row(escape(name), escape(record.subset), *cells, style=style)
    table.caption = escape("\n".join(f"{mark.strip()} {note}" for note, mark in marks.items()))
    table.caption_justify = "left"
    return table


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print how much better the second model is, metric by metric."""
    say(console, f"{comparison.second} against {comparison.first}: {comparison.pairs} pairs")
    table = make_table(None, ["metric"], ["first", "second", "second − first", "p"])
    for each in comparison.differences:
        table.add_row(
            each.metric.replace("accuracy_at/", "accuracy "),
            number(each.first, 4),
            number(each.second, 4),
            estimate(each.difference, 4, sign="+"),
            p_value(each.p_value),
        )
    console.print(table)
