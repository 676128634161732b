"""Calibration, tests, frontier, contexts and comparisons, as the terminal shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from hidden_context.analysis.table_cells import NOTHING, ends, make_table, number, p_value, percent

_SHOWN: Final = (None, 0.01, 0.1)
"""Levels of caution that the terminal shows; the file has all."""

if TYPE_CHECKING:
    from rich.console import Console

    from hidden_context.analysis.comparison import Comparison
    from hidden_context.analysis.results import FileSections, ScoresAnalysis
    from hidden_context.analysis.subsets import SubsetDifference
    from hidden_context.statistics.interval import Interval


def print_sections(analysis: ScoresAnalysis, console: Console) -> None:
    """Print what there is beside the numbers by group."""
    lines = [_prompts(analysis)]
    if analysis.calibration is not None:
        lines.append(_calibration(analysis.calibration))
    if analysis.agreement is not None:
        lines.append(_agreement(analysis.agreement))
    if analysis.borda is not None:
        lines.append(_borda(analysis.borda))
    lines += [_difference(each) for each in analysis.subset_differences]
    lines += [f"{t.question} p = {p_value(t.p_value)}. {t.limit}" for t in analysis.tests]
    lines += [confound["text"] for confound in analysis.confounds]
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if analysis.frontier:
        console.print(_frontier(analysis))
    if analysis.contexts is not None:
        console.print(_contexts(analysis.contexts))


def _prompts(analysis: ScoresAnalysis) -> str:
    return f"{analysis.clusters} {'prompt' if analysis.clusters == 1 else 'prompts'}"


def _value(found: dict[str, Any] | None, decimals: int = 3) -> str:
    if found is None or found["estimate"] is None:
        return NOTHING
    if found["low"] is None:
        return f"{found['estimate']:.{decimals}f}"
    low, high = (f"{found[name]:.{decimals}f}" for name in ("low", "high"))
    return f"{found['estimate']:.{decimals}f} [{low}, {high}]"


def _calibration(found: dict[str, Any]) -> str:
    return (
        f"Calibration: expected error {_value(found['ece'])}, Brier score "
        f"{_value(found['brier'])}, sharpness {found['sharpness']:.3f}"
    )


def _borda(found: dict[str, Any]) -> str:
    text = (
        f"Borda counts of {found['rows']} rows: the response of the highest also has the highest "
        f"mean in {_value(found['best_by_mean'])}"
    )
    places = ", ".join(_value(each) for each in found["by_place"])
    return text + (f"; mean counts by place {places}" if places else "")


def _difference(found: SubsetDifference) -> str:
    parts = [
        f"{name} {each.estimate:+.3f} {ends(each, decimals=3)}".rstrip()
        for name, each in found.differences.items()
        if "/" not in name
    ]
    return f"{found.column} {found.second} minus {found.first}: {', '.join(parts)}"


def _agreement(found: dict[str, Any]) -> str:
    return (
        f"{found['pairs']} pairs with several labels: AUROC of finding those whose annotators "
        f"diverge {_value(found['diverging_auroc'])}, rank correlation of P with vote shares "
        f"{_value(found['vote_spearman'])}"
    )


def _share(interval: Interval | None) -> str:
    if interval is None:
        return NOTHING
    return f"{percent(interval.estimate)} {ends(interval, 100, 1)}".rstrip()


def _frontier(analysis: ScoresAnalysis) -> Any:
    table = make_table(None, ["caution"], ["unsafe preferred", "accuracy"])
    for point in analysis.frontier:
        if point.alpha not in _SHOWN:
            continue
        table.add_row(point.name, _share(point.unsafe), _share(point.accuracy))
    return table


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
    from hidden_context.analysis.benchmark_accuracy import section_table

    notes = f"{sections.ties} ties, which count as wrong"
    if sections.rows_left_out:
        notes += f"; {sections.rows_left_out} rows without a score left out"
    title = f"{sections.file} ({sections.style}): {notes}"
    console.print(title, highlight=False, markup=False, soft_wrap=True)
    console.print(section_table(sections.records))


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print how much better the second model is, metric by metric."""
    title = f"{comparison.second} against {comparison.first}: {comparison.pairs} pairs"
    console.print(title, highlight=False, markup=False, soft_wrap=True)
    table = make_table(None, ["metric"], ["first", "second", "second − first", "p"])
    for each in comparison.differences:
        interval = each.difference
        table.add_row(
            each.metric.replace("accuracy_at/", "accuracy "),
            number(each.first, 4),
            number(each.second, 4),
            f"{interval.estimate:+.4f} {ends(interval, decimals=4)}".rstrip(),
            NOTHING if each.p_value is None else p_value(each.p_value),
        )
    console.print(table)
