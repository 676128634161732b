"""The numbers as tables for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hidden_context.analysis.published import published
from hidden_context.analysis.records import PairRecord
from hidden_context.analysis.section_tables import (
    print_benchmark,
    print_comparison,
    print_sections,
)
from hidden_context.analysis.table_cells import (
    NOTHING,
    estimate,
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

    from hidden_context.analysis.results import Analysis, Group, ScoresAnalysis
    from hidden_context.analysis.summary import (
        EvaluationNumbers,
        JailbreakNumbers,
        Summary,
        SummaryCell,
    )

_R_SQUARED = ("r²", "paper", "texts")
_TIES_WIN = "A tie counts whole, as in the paper (≥)."
_PAIRED = (
    "[low, high]: 95 % intervals by prompt. p: McNemar's exact test, by prompt, of the quantile "
    "against the mean."
)
_TIES_HALF = "Accuracy: share of pairs with P(preferred ≻ other) > ½; a tie counts one half."
_CAUSES = "Variance: of the difference between the two sides of a pair, or of responses' rewards."


def _add_shares(
    table: Table,
    cell: SummaryCell,
    numbers: JailbreakNumbers | EvaluationNumbers | None,
    paper: tuple[float | None, float | None],
) -> None:
    """Add a row with our two shares and the paper's, unless there is nothing to say."""
    if numbers is None and paper == (None, None):
        return
    ours, p = [NOTHING, NOTHING], NOTHING
    if numbers is not None:
        rates = numbers.rates
        ours = [*map(percent_of, (rates.mean, rates.risk_sensitive), rates.intervals)]
        p = p_value(None if rates.test is None else rates.test.p_value)
    shares = [text for pair in zip(ours, map(percent, paper), strict=True) for text in pair]
    table.add_row(cell.reward_model_type, cell.train_set, *shares, p)


def summary_tables(summary: Summary) -> list[Table]:
    """Lay out the paper's tables, each number with the paper's own beside it.

    Args:
        summary: What ``summarize.run`` returned.

    Returns:
        Table 1's two halves (jailbreak rate, helpfulness accuracy), and r².
    """
    model = ["reward model", "trained on"]
    columns = ["mean", "paper", f"{summary.config.alpha:g} quantile", "paper", "p"]
    jailbreak = make_table("Table 1, jailbreak rate (lower is better)", model, columns)
    helpfulness = make_table("Table 1, helpfulness accuracy (higher is better)", model, columns)
    r_squared = make_table("r², share of reward variance explained by the text", model, _R_SQUARED)
    for cell in summary.cells:
        paper = published(cell.reward_model_type, cell.train_set, summary.config.alpha)
        _add_shares(jailbreak, cell, cell.jailbreak, paper.jailbreak_rate)
        _add_shares(helpfulness, cell, cell.evaluation, paper.helpfulness_accuracy)
        ours = cell.evaluation.r_squared_interval if cell.evaluation else None
        if ours is not None or paper.r_squared is not None:
            texts = str(cell.evaluation.num_texts) if cell.evaluation else NOTHING
            row = (estimate(ours), number(paper.r_squared, 2), texts)
            r_squared.add_row(cell.reward_model_type, cell.train_set, *row)
    return [jailbreak, helpfulness, r_squared]


def _left_out(rows: int, file: str) -> str:
    return f"{rows} {'row' if rows == 1 else 'rows'} without a reward or a vote left out: {file}"


def print_summary(summary: Summary, console: Console | None = None) -> None:
    """Print the paper's tables, then what was left out and what was not there."""
    console = console or make_console()
    for table in summary_tables(summary):
        console.print(table)
        console.print()
    say(console, f"{_TIES_WIN} paper: as published, Llama-2-7B.", _PAIRED)
    left_out = [
        _left_out(numbers.rows_left_out, numbers.file)
        for cell in summary.cells
        for numbers in (cell.jailbreak, cell.evaluation)
        if numbers is not None and numbers.rows_left_out
    ]
    say(console, *dict.fromkeys(left_out))  # the columns of one file mostly agree
    left_empty = {"Not found, and so left out:": summary.missing, "Left empty:": summary.gaps}
    for title, names in left_empty.items():
        if names:
            say(console, title, *(f"  {name}" for name in names))


def analysis_title(analysis: ScoresAnalysis) -> str:
    """Say which file and scores the numbers are of, and with which head they were read."""
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


def analysis_table(analysis: ScoresAnalysis) -> Table:
    """Lay out the numbers of one set of scores, one line per group, with intervals."""
    from rich.markup import escape

    first = analysis.groups[0].record
    if isinstance(first, PairRecord):
        risks = list(first.accuracy_at)
        columns = ["n", "loss/nats", "accuracy", "reward", "σ", "r²", "r² within"]
        columns += [f"accuracy {name}" for name in risks]
    else:
        risks = list(first.second_at_least or {})
        columns = ["n", "reward", "σ", "r²", "r² within", *(f"2nd ≥ 1st {name}" for name in risks)]
    table = make_table(None, ["rows"], columns)
    for group in analysis.groups:
        table.add_row(escape(_label(group)), *_cells(group, risks))
    return table


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
    cautious = [percent_of(compared.get(name), at.get(name)) for name in risks]
    return [str(record.n), *moments, *cautious]


def causes_table(analysis: ScoresAnalysis) -> Table | None:
    """Lay out the causes of variance, one line per group; None for a head that knows none."""
    from rich.markup import escape

    shares = [group.record.variance_shares or {} for group in analysis.groups]
    causes = list(dict.fromkeys(cause for each in shares for cause in each))
    if not causes:
        return None
    table = make_table(None, ["variance"], causes)
    for group, each in zip(analysis.groups, shares, strict=True):
        table.add_row(escape(_label(group)), *(percent(each.get(cause)) for cause in causes))
    return table


def _label(group: Group) -> str:
    return ", ".join(f"{name}={value}" for name, value in group.labels.items()) or "all"


def print_analysis(analysis: Analysis, console: Console | None = None) -> None:
    """Print the tables of every set of scores, then comparisons."""
    console = console or make_console()
    records, has_causes = [scores.groups[0].record for scores in analysis.analyses], False
    for scores in analysis.analyses:
        say(console, analysis_title(scores))
        console.print(analysis_table(scores))
        causes = causes_table(scores)
        if causes is not None:
            has_causes = True
            console.print(causes)
        if scores.rows_left_out:
            say(console, _left_out(scores.rows_left_out, scores.file))
        print_sections(scores, console)
        console.print()
    for sections in analysis.sections:
        print_benchmark(sections, console)
    for comparison in analysis.comparisons:
        print_comparison(comparison, console)
    say(console, f"[low, high]: {100 * analysis.config.level:g} % intervals by prompt.")
    if any(isinstance(record, PairRecord) for record in records):
        say(console, _TIES_HALF)
    if any(getattr(record, "second_at_least", None) for record in records):
        say(console, f"2nd ≥ 1st: {_TIES_WIN[0].lower()}{_TIES_WIN[1:]}")
    if has_causes:
        say(console, _CAUSES)


def make_console() -> Console:
    """Return a console as wide as the terminal; into a file or pipe, wide enough for any table."""
    import sys

    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 200)
