"""An analysis of score files, as tables for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from hidden_context.analysis.measure.records import PairRecord
from hidden_context.report.terminal.votes import print_topics, print_votes
from hidden_context.terminal import (
    NOTHING,
    estimate,
    left_out,
    make_console,
    make_table,
    number,
    p_value,
    percent,
    percent_of,
    say,
    share,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table

    from hidden_context.analysis.compare import Comparison, SubsetDifference
    from hidden_context.analysis.results import Analysis, FileSections, Group, ScoresAnalysis
    from hidden_context.analysis.sections.accuracy import SectionAccuracy

_ALPHAS: Final = (None, 0.01, 0.1)
"""Levels of caution that the terminal shows; the file has all."""


def print_analysis(analysis: Analysis, console: Console | None = None) -> None:
    """Print the tables of every set of scores, then benchmarks and comparisons."""
    console = console or make_console()
    for scores in analysis.analyses:
        _print_scores(scores, console)
    for sections in analysis.sections:
        _print_benchmark(sections, console)
    for comparison in analysis.comparisons:
        _print_comparison(comparison, console)
    records = [scores.groups[0].record for scores in analysis.analyses]
    say(console, f"[low, high]: {100 * analysis.config.level:g} % intervals by prompt.")
    if any(isinstance(record, PairRecord) for record in records):
        say(
            console,
            "Accuracy: share of pairs with P(preferred ≻ other) > ½; a tie counts one half.",
        )
    if any(getattr(record, "second_at_least", None) for record in records):
        say(console, "2nd ≥ 1st: a tie counts whole, as in the paper (≥).")
    if any(record.variance_shares for record in records):
        say(
            console,
            "Variance: of the difference between the two sides of a pair, or of responses' "
            "rewards.",
        )


def _print_scores(scores: ScoresAnalysis, console: Console) -> None:
    say(console, analysis_title(scores))
    console.print(_groups_table(scores))
    if any(group.record.variance_shares for group in scores.groups):
        console.print(_causes_table(scores))
    if scores.rows_left_out:
        say(console, left_out(scores.rows_left_out, scores.file))
    say(console, f"{scores.clusters} {'prompt' if scores.clusters == 1 else 'prompts'}")
    if (found := scores.calibration) is not None:
        say(
            console,
            f"Calibration: expected error {estimate(found['ece'])}, Brier score "
            f"{estimate(found['brier'])}, sharpness {found['sharpness']:.3f}",
        )
    if scores.votes is not None:
        print_votes(scores.votes.metrics, console)
        print_topics(scores.votes, console)
    if (found := scores.borda) is not None:
        places = ", ".join(map(estimate, found["by_place"]))
        say(
            console,
            f"Borda counts of {found['rows']} rows: the response of the highest also has the "
            f"highest mean in {estimate(found['best_by_mean'])}"
            + (f"; mean counts by place {places}" if places else ""),
        )
    say(console, *map(_difference, scores.subset_differences))
    say(console, *(f"{t.question} p = {p_value(t.p_value)}. {t.limit}" for t in scores.tests))
    say(console, *(confound.text for confound in scores.confounds))
    if scores.frontier:
        rows = [
            (point.name, share(point.unsafe), share(point.accuracy))
            for point in scores.frontier
            if point.alpha in _ALPHAS
        ]
        console.print(make_table(None, ["caution"], ["unsafe preferred", "accuracy"], rows))
    if scores.contexts is not None:
        console.print(_contexts_table(scores.contexts))
    console.print()


def analysis_title(analysis: ScoresAnalysis) -> str:
    """Say which file and scores the numbers are of, and which head read them."""
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
    columns = ["reward", "σ", "r²", "r² within"]
    if isinstance(first, PairRecord):
        risks = list(first.accuracy_at)
        columns = ["loss/nats", "accuracy", *columns, *(f"accuracy {name}" for name in risks)]
    else:
        risks = list(first.second_at_least or {})
        columns += [f"2nd ≥ 1st {name}" for name in risks]
    rows = [(_label(group), *_cells(group, risks)) for group in analysis.groups]
    return make_table(None, ["rows"], ["n", *columns], rows)


def _cells(group: Group, risks: Sequence[str]) -> list[str]:
    record, found = group.record, group.intervals
    moments = [
        number(record.reward_mean),
        number(record.reward_stddev),
        estimate(found.get("r2")),
        estimate(found.get("r2_within")),
    ]
    if isinstance(record, PairRecord):
        at = found.get("accuracy_at", {})
        numbers = [estimate(found.get("loss"), 4), share(found.get("accuracy"))]
        return [str(record.n), *numbers, *moments, *(share(at.get(name)) for name in risks)]
    compared, at = record.second_at_least or {}, found.get("second_at_least", {})
    return [
        str(record.n),
        *moments,
        *(
            percent_of(compared[name].count, compared[name].total, at.get(name))
            if name in compared
            else NOTHING
            for name in risks
        ),
    ]


def _causes_table(analysis: ScoresAnalysis) -> Table:
    """Lay out the causes of variance, one line per group."""
    shares = [group.record.variance_shares or {} for group in analysis.groups]
    causes = list(dict.fromkeys(cause for each in shares for cause in each))
    rows = [
        (_label(group), *(percent(each.get(cause)) for cause in causes))
        for group, each in zip(analysis.groups, shares, strict=True)
    ]
    return make_table(None, ["variance"], causes, rows)


def _label(group: Group) -> str:
    return ", ".join(f"{name}={value}" for name, value in group.labels.items()) or "all"


def _difference(found: SubsetDifference) -> str:
    parts = [
        f"{name} {estimate(each, sign='+')}"
        for name, each in found.differences.items()
        if "/" not in name
    ]
    return f"{found.column} {found.second} minus {found.first}: {', '.join(parts)}"


def _contexts_table(found: dict[str, Any]) -> Table:
    columns = ["prompts", "pairs", "mean variance", "share of variance"]
    rows = [
        (
            cluster["name"],
            str(cluster["prompts"]),
            str(cluster["pairs"]),
            number(cluster["mean_variance"]),
            percent(cluster["variance_share"]),
        )
        for cluster in found["clusters"]
    ]
    return make_table("Where the variance lies", ["prompts about"], columns, rows)


def _print_benchmark(sections: FileSections, console: Console) -> None:
    how = "by share, as wrong in Ties" if sections.style == "reward-bench-2" else "as wrong"
    notes = f"{sections.ties} ties, which count {how}"
    if sections.rows_left_out:
        notes += f"; {sections.rows_left_out} rows without a score left out"
    name = ", ".join(filter(None, (sections.file, sections.name)))
    say(console, f"{name} ({sections.style}): {notes}")
    console.print(section_table(sections.records))


def section_table(records: Sequence[SectionAccuracy]) -> Table:
    """Lay out a benchmark's accuracies: a row for each record, a column for each measure."""
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


def _print_comparison(comparison: Comparison, console: Console) -> None:
    say(console, f"{comparison.second} against {comparison.first}: {comparison.pairs} pairs")
    rows = [
        (
            each.metric.replace("accuracy_at/", "accuracy "),
            number(each.first, 4),
            number(each.second, 4),
            estimate(each.difference, 4, sign="+"),
            p_value(each.p_value),
        )
        for each in comparison.differences
    ]
    columns = ["first", "second", "second − first", "p"]
    console.print(make_table(None, ["metric"], columns, rows))
