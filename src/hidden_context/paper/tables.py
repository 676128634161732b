"""The paper's tables for the terminal, each number with the published one beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hidden_context.paper.summary import published
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
)

if TYPE_CHECKING:
    from rich.table import Table

    from hidden_context.paper.summary import JailbreakNumbers, Summary, SummaryCell


def print_summary(summary: Summary) -> None:
    """Print the paper's tables, then what was left out and what was not found."""
    console = make_console()
    for table in _tables(summary):
        console.print(table)
        console.print()
    say(
        console,
        "A tie counts whole, as in the paper (≥). paper: as published, Llama-2-7B.",
        "[low, high]: 95 % intervals by prompt. p: McNemar's exact test, by prompt, of the "
        "quantile against the mean.",
    )
    unused = [
        left_out(numbers.rows_left_out, numbers.file)
        for cell in summary.cells
        for numbers in (cell.jailbreak, cell.evaluation)
        if numbers is not None and numbers.rows_left_out
    ]
    say(console, *dict.fromkeys(unused))  # the columns of one file mostly agree
    left_empty = {"Not found, and so left out:": summary.missing, "Left empty:": summary.gaps}
    for title, names in left_empty.items():
        if names:
            say(console, title, *(f"  {name}" for name in names))


def _tables(summary: Summary) -> list[Table]:
    """Lay out Table 1's two halves (jailbreak rate, helpfulness accuracy), and r²."""
    model = ["reward model", "trained on"]
    columns = ["mean", "paper", f"{summary.config.alpha:g} quantile", "paper", "p"]
    jailbreak = make_table("Table 1, jailbreak rate (lower is better)", model, columns)
    helpfulness = make_table("Table 1, helpfulness accuracy (higher is better)", model, columns)
    title = "r², share of reward variance explained by the text"
    r_squared = make_table(title, model, ["r²", "paper", "texts"])
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


def _add_shares(
    table: Table,
    cell: SummaryCell,
    numbers: JailbreakNumbers | None,
    paper: tuple[float | None, float | None],
) -> None:
    """Add a row with our two shares and the paper's, unless there is nothing to say."""
    if numbers is None and paper == (None, None):
        return
    ours = [
        NOTHING if count is None else percent_of(count.count, count.total, interval)
        for count, interval in (numbers.shares if numbers else [(None, None)] * 2)
    ]
    shares = [text for pair in zip(ours, map(percent, paper), strict=True) for text in pair]
    p = numbers.p_value if numbers else None
    table.add_row(cell.reward_model_type, cell.train_set, *shares, p_value(p))
