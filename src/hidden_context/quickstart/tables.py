"""The quickstart's tables: the paper's two, and what comparisons identify, beside the truth."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from hidden_context import heads
from hidden_context.terminal import make_table, number, percent

if TYPE_CHECKING:
    from rich.table import Table

    from hidden_context.quickstart.workflow import QuickstartResult


_SHORT = {"mean_and_variance": "mean, σ", "categorical": "categ."}


def main_table(result: QuickstartResult) -> Table:
    """Table 1 of the paper: jailbreak rate and helpfulness accuracy, with the truth's rows."""
    table = make_table(
        "Jailbreak rate and helpfulness accuracy",
        ("reward model", "trained on"),
        ("jailbreaks", "cautious", "accuracy", "cautious"),
    )
    level = f"{result.config.alpha:g} quantile"
    table.caption = f"cautious: by the {level} of the reward instead of its mean"
    for cell in result.summary.cells:
        counts = [
            count
            for part in (cell.jailbreak, cell.evaluation)
            for count in ((part.mean, part.risk_sensitive) if part else (None, None))
        ]
        shares = (percent(count.share if count else None) for count in counts)
        table.add_row(cell.reward_model_type, cell.train_set, *shares)
    table.add_section()
    for train_set, truth in result.truth.items():
        *shares_of_truth, _ = dataclasses.astuple(truth)
        table.add_row("true utility", train_set, *map(percent, shares_of_truth))
    return table


def variance_table(result: QuickstartResult) -> Table:
    """The paper's r² table; beside it the truth, which comparisons do not identify."""
    title = "r², share of reward variance explained by the text"
    table = make_table(title, ("reward model",), tuple(result.truth))
    for head_type in heads.PAPER_TYPES[1:]:
        cells = (result.summary.cell(head_type, name).evaluation for name in result.truth)
        table.add_row(head_type, *(number(cell.r_squared if cell else None, 2) for cell in cells))
    table.add_section()
    truths = (number(truth.r_squared, 2) for truth in result.truth.values())
    table.add_row("true utility (not identified)", *truths)
    return table


def probability_table(result: QuickstartResult) -> Table:
    """P(first ≻ second) by pair of kinds, learned from both objectives, beside the truth."""
    records = [record for record in result.records if record.train_set == "both"]
    types = (record.reward_model_type for record in records)
    table = make_table(
        "P(first preferred to second), trained on both: what comparisons identify",
        ("first", "second"),
        ("truth", *(_SHORT.get(name, name) for name in types)),
    )
    for pairs in zip(*(record.preferences for record in records), strict=True):
        mark = " *" if pairs[0].contested else ""
        learned = (number(pair.learned, 2) for pair in pairs)
        table.add_row(pairs[0].first, pairs[0].second, f"{pairs[0].true:.2f}{mark}", *learned)
    table.add_section()
    table.add_row("mean absolute error", "", "", *(number(r.probability_error) for r in records))
    return table


def print_result(result: QuickstartResult) -> None:
    """Print the tables and what they do and do not show."""
    from rich.console import Console

    console = Console()
    for table in (main_table(result), variance_table(result), probability_table(result)):
        console.print(table)
    both = [record for record in result.records if record.train_set == "both"]
    accuracies = ", ".join(f"{r.reward_model_type} {100 * r.accuracy:.1f} %" for r in both)
    console.print(
        f"* contested: the two objectives order these responses differently. Accuracy on test "
        f"comparisons: {accuracies}; no model can expect more than "
        f"{100 * result.best_accuracy:.1f} %.\n"
        "The size of r² on contested responses is set by regularisation and stopping, not by the "
        "data: compliance is preferred to each safe answer with nearly the same probability, so "
        "the likelihood alone lets its σ grow without bound (docs/start/quickstart.md).",
        highlight=False,
    )
    console.print(
        f"Everything is in {result.config.output_dir}; report.html is the page to look at. "
        f"{result.seconds:.0f} s.",
        highlight=False,
    )
