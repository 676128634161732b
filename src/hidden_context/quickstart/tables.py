"""The quickstart's tables: the paper's two, and what comparisons identify, beside the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hidden_context.quickstart.workflow import QuickstartResult


_SHORT = {"mean_and_variance": "mean, σ", "categorical": "categ."}


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def main_table(result: QuickstartResult) -> Any:
    """Table 1 of the paper: jailbreak rate and helpfulness accuracy, with the truth's rows."""
    from rich.table import Table

    level = f"{result.config.alpha:g} quantile"
    table = Table(
        title="Jailbreak rate and helpfulness accuracy",
        caption=f"cautious: by the {level} of the reward instead of its mean",
    )
    for name in ("reward model", "trained on"):
        table.add_column(name, no_wrap=True)
    for name in ("jailbreaks", "cautious", "accuracy", "cautious"):
        table.add_column(name, justify="right")
    for cell in result.summary.cells:
        counts = [
            count
            for part in (cell.jailbreak, cell.evaluation)
            for count in ((part.mean, part.risk_sensitive) if part else (None, None))
        ]
        numbers = [_percent(count.share if count else None) for count in counts]
        table.add_row(cell.reward_model_type, cell.train_set, *numbers)
    table.add_section()
    for train_set, truth in result.truth.items():
        table.add_row(
            "true utility",
            train_set,
            _percent(truth.jailbreak_rate),
            _percent(truth.jailbreak_rate_cautious),
            _percent(truth.helpfulness_accuracy),
            _percent(truth.helpfulness_accuracy_cautious),
        )
    return table


def variance_table(result: QuickstartResult) -> Any:
    """The paper's r² table; beside it the truth, which comparisons do not identify."""
    from rich.table import Table

    table = Table(title="r², share of reward variance explained by the text")
    table.add_column("reward model", no_wrap=True)
    for train_set in result.truth:
        table.add_column(train_set, justify="right")
    values = {
        (cell.reward_model_type, cell.train_set): cell.evaluation.r_squared
        for cell in result.summary.cells
        if cell.evaluation
    }
    for head_type in dict.fromkeys(head_type for head_type, _ in values):
        if any(values.get((head_type, name)) is not None for name in result.truth):
            cells = (values.get((head_type, name)) for name in result.truth)
            table.add_row(head_type, *("–" if v is None else f"{v:.2f}" for v in cells))
    table.add_section()
    truths = (f"{truth.r_squared:.2f}" for truth in result.truth.values())
    table.add_row("true utility (not identified)", *truths)
    return table


def probability_table(result: QuickstartResult) -> Any:
    """P(first ≻ second) by pair of kinds, learned from both objectives, beside the truth."""
    from rich.table import Table

    records = [record for record in result.records if record.train_set == "both"]
    table = Table(title="P(first preferred to second), trained on both: what comparisons identify")
    for name in ("first", "second"):
        table.add_column(name, no_wrap=True)
    table.add_column("truth", justify="right")
    for record in records:
        table.add_column(_SHORT.get(record.reward_model_type, record.reward_model_type))
    for pairs in zip(*(record.preferences for record in records), strict=True):
        mark = " *" if pairs[0].contested else ""
        learned = (f"{pair.learned:.2f}" for pair in pairs)
        table.add_row(pairs[0].first, pairs[0].second, f"{pairs[0].true:.2f}{mark}", *learned)
    table.add_section()
    errors = (f"{record.probability_error:.3f}" for record in records)
    table.add_row("mean absolute error", "", "", *errors)
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
        "the likelihood alone lets its σ grow without bound (docs/quickstart.md).",
        highlight=False,
    )
    console.print(
        f"Everything is in {result.config.output_dir}; report.html is the page to look at. "
        f"{result.seconds:.0f} s.",
        highlight=False,
    )
