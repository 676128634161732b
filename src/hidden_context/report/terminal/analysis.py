"""An analysis of score files, as tables for the terminal."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from hidden_context import terminal
from hidden_context.analysis.measure.records import PairRecord
from hidden_context.report.terminal.votes import print_topics, print_votes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console
    from rich.table import Table

    from hidden_context.analysis.analysis_file import Analysis, FileSections, Group, ScoresAnalysis
    from hidden_context.analysis.compare import Comparison, Difference, SubsetDifference
    from hidden_context.analysis.measure.choices import FrontierPoint
    from hidden_context.analysis.sections.benchmarks import SectionAccuracy

_ALPHAS: Final = (None, 0.01, 0.1)
"""Levels of caution that the terminal shows; the file has all."""


def print_analysis(analysis: Analysis, console: Console | None = None) -> None:
    """Print the tables of every set of scores, then benchmarks and comparisons."""
    console = console or terminal.make_console()
    for scores in analysis.analyses:
        _print_scores(scores, console)
    for sections in analysis.sections:
        _print_benchmark(sections, console)
    for comparison in analysis.comparisons:
        _print_comparison(comparison, console)
    records = [scores.groups[0].record for scores in analysis.analyses]
    notes = {
        f"[low, high]: {100 * analysis.config.level:g} % intervals by prompt.": True,
        "Accuracy: share of pairs with P(preferred ≻ other) > ½; a tie counts one half.": any(
            isinstance(record, PairRecord) for record in records
        ),
        "2nd ≥ 1st: a tie counts fully, as in the paper (≥).": any(
            getattr(record, "second_at_least", None) for record in records
        ),
        "Variance: of the difference between the two sides of a pair, or of responses' "
        "rewards.": any(record.variance_shares for record in records),
    }
    terminal.say(console, *(note for note, is_needed in notes.items() if is_needed))


def _print_scores(scores: ScoresAnalysis, console: Console) -> None:
    terminal.say(console, analysis_title(scores))
    console.print(_groups_table(scores))
    if any(group.record.variance_shares for group in scores.groups):
        console.print(_causes_table(scores))
    if scores.rows_left_out:
        terminal.say(console, terminal.left_out(scores.rows_left_out, scores.file))
    terminal.say(console, f"{scores.clusters} {'prompt' if scores.clusters == 1 else 'prompts'}")
    if (found := scores.calibration) is not None:
        terminal.say(
            console,
            f"Calibration: expected error {terminal.estimate(found['ece'])}, Brier score "
            f"{terminal.estimate(found['brier'])}, sharpness {found['sharpness']:.3f}",
        )
    if scores.votes is not None:
        print_votes(scores.votes.metrics, console)
        print_topics(scores.votes, console)
    if (found := scores.borda) is not None:
        places = ", ".join(map(terminal.estimate, found["by_place"]))
        terminal.say(
            console,
            f"Borda counts of {found['rows']} rows: the response of the highest also has the "
            f"highest mean in {terminal.estimate(found['best_by_mean'])}"
            + (f"; mean counts by place {places}" if places else ""),
        )
    terminal.say(console, *map(_difference, scores.subset_differences))
    terminal.say(
        console,
        *(f"{t.question} p = {terminal.p_value(t.p_value)}. {t.limit}" for t in scores.tests),
    )
    terminal.say(console, *(confound.text for confound in scores.confounds))
    if scores.frontier:
        shown = (point for point in scores.frontier if point.alpha in _ALPHAS)
        columns: dict[str, Callable[[FrontierPoint], str]] = {
            "caution": lambda point: point.name,
            "unsafe preferred": lambda point: terminal.share(point.unsafe),
            "accuracy": lambda point: terminal.share(point.accuracy),
        }
        console.print(terminal.table_of(None, shown, columns))
    if scores.contexts is not None:
        console.print(_contexts_table(scores.contexts))
    console.print()


def analysis_title(analysis: ScoresAnalysis) -> str:
    """Return a title that names the file, the scores, and the head that read them."""
    head, kind = analysis.head, analysis.head["type"]
    if "member" in head:
        kind += f" of {head['num_members']}"
        head = head["member"]
        kind += f", {head['type']}"
    if "likelihood" in head:
        kind += f", {head['likelihood']}"
    if analysis.with_likelihood:
        kind += ", with its likelihood.json"
    return f"{analysis.file}: {' '.join(filter(None, (analysis.kind, analysis.name)))} ({kind})"


def _groups_table(analysis: ScoresAnalysis) -> Table:
    """Lay out the numbers of one set of scores, one line per group, with intervals."""
    first = analysis.groups[0].record
    columns: dict[str, Callable[[Group], str]] = {"rows": _label, "n": lambda g: str(g.record.n)}
    if isinstance(first, PairRecord):
        columns["loss/nats"] = lambda g: terminal.estimate(g.intervals.get("loss"), 4)
        columns["accuracy"] = lambda g: terminal.share(g.intervals.get("accuracy"))
    columns |= {
        "reward": lambda g: terminal.number(g.record.reward_mean),
        "σ": lambda g: terminal.number(g.record.reward_stddev),
        "r²": lambda g: terminal.estimate(g.intervals.get("r2")),
        "r² within": lambda g: terminal.estimate(g.intervals.get("r2_within")),
    }
    if isinstance(first, PairRecord):
        columns |= {f"accuracy {name}": partial(_accuracy_at, name) for name in first.accuracy_at}
    else:
        rates = first.second_at_least or {}
        columns |= {f"2nd ≥ 1st {name}": partial(_second_at_least, name) for name in rates}
    return terminal.table_of(None, analysis.groups, columns)


def _accuracy_at(name: str, group: Group) -> str:
    return terminal.share(group.intervals.get("accuracy_at", {}).get(name))


def _second_at_least(name: str, group: Group) -> str:
    counts = getattr(group.record, "second_at_least", None) or {}
    if name not in counts:
        return terminal.NOTHING
    interval = group.intervals.get("second_at_least", {}).get(name)
    return terminal.percent_of(counts[name].count, counts[name].total, interval)


def _causes_table(analysis: ScoresAnalysis) -> Table:
    """Lay out the causes of variance, one line per group."""
    shares = [group.record.variance_shares or {} for group in analysis.groups]
    causes = list(dict.fromkeys(cause for each in shares for cause in each))
    rows = [
        (_label(group), *(terminal.percent(each.get(cause)) for cause in causes))
        for group, each in zip(analysis.groups, shares, strict=True)
    ]
    return terminal.make_table(None, ["variance"], causes, rows)


def _label(group: Group) -> str:
    return ", ".join(f"{name}={value}" for name, value in group.labels.items()) or "all"


def _difference(found: SubsetDifference) -> str:
    parts = [
        f"{name} {terminal.estimate(each, sign='+')}"
        for name, each in found.differences.items()
        if "/" not in name
    ]
    return f"{found.column} {found.second} minus {found.first}: {', '.join(parts)}"


def _contexts_table(found: dict[str, Any]) -> Table:
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "prompts about": lambda cluster: str(cluster["name"]),
        "prompts": lambda cluster: str(cluster["prompts"]),
        "pairs": lambda cluster: str(cluster["pairs"]),
        "mean variance": lambda cluster: terminal.number(cluster["mean_variance"]),
        "share of variance": lambda cluster: terminal.percent(cluster["variance_share"]),
    }
    return terminal.table_of("Where the variance lies", found["clusters"], columns)


def _print_benchmark(sections: FileSections, console: Console) -> None:
    how = "by share, as wrong in Ties" if sections.style == "reward-bench-2" else "as wrong"
    notes = f"ties: {sections.ties}, counted {how}"
    if sections.rows_left_out:
        notes += f"; rows without a score, left out: {sections.rows_left_out}"
    name = ", ".join(filter(None, (sections.file, sections.name)))
    terminal.say(console, f"{name} ({sections.style}): {notes}")
    console.print(section_table(sections.records))


def section_table(records: Sequence[SectionAccuracy]) -> Table:
    """Lay out a benchmark's accuracies: a row for each record, a column for each measure."""
    from rich.markup import escape

    notes = list(dict.fromkeys(record.note for record in records if record.note))
    marks = {note: f" [{place}]" for place, note in enumerate(notes, start=1)}
    table = terminal.make_table(None, ["section", "subset"], ["n", *records[0].accuracy])
    for record in records:
        is_subset = record.level == "subset"
        name = "" if is_subset else record.section + marks.get(record.note, "")
        cells = [str(record.n), *map(terminal.share, record.accuracy.values())]
        style = None if is_subset else "bold"
        table.add_row(escape(name), escape(record.subset), *cells, style=style)
    table.caption = escape("\n".join(f"{mark.strip()} {note}" for note, mark in marks.items()))
    table.caption_justify = "left"
    return table


def _print_comparison(comparison: Comparison, console: Console) -> None:
    terminal.say(
        console, f"{comparison.second} against {comparison.first}: {comparison.pairs} pairs"
    )
    columns: dict[str, Callable[[Difference], str]] = {
        "metric": lambda each: each.metric.replace("accuracy_at/", "accuracy "),
        "first": lambda each: terminal.number(each.first, 4),
        "second": lambda each: terminal.number(each.second, 4),
        "second − first": lambda each: terminal.estimate(each.difference, 4, sign="+"),
        "p": lambda each: terminal.p_value(each.p_value),
    }
    console.print(terminal.table_of(None, comparison.differences, columns))
