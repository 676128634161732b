"""The result of a synthetic experiment as a table for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hidden_context.terminal import make_table, number

if TYPE_CHECKING:
    from rich.console import Console

    from hidden_context.synthetic.workflow import SyntheticResult

LABELS = {
    "exact_borda_count": "exact Borda count",
    "base": "base",
    "mean_and_stddev": "DPL, mean & σ",
    "categorical": "DPL, categorical",
    "classifier": "pair classifier",
}


def print_summary(result: SyntheticResult, console: Console | None = None) -> None:
    """Print rank agreements, losses and where the files are.

    Args:
        result: What a run found.
        console: Where to print; standard output by default.
    """
    from rich.console import Console

    console = console or Console()
    off_jump = result.config.env == "1d"
    columns = ["Borda", "utility"] + (["Borda*", "utility*"] if off_jump else [])
    title = "Spearman rank agreement of what was learned with"
    table = make_table(title, ["network"], [*columns, "loss", "s"])
    for name, agreement in result.agreements.items():
        values: list[float | None] = [agreement.borda_count, agreement.expected_utility]
        if off_jump:
            values += [agreement.borda_count_off_jump, agreement.expected_utility_off_jump]
        loss, seconds = result.final_losses.get(name), result.seconds.get(name)
        cells = [*map(number, values), number(loss, 4), number(seconds, 1)]
        table.add_row(LABELS[name], *cells, end_section=name == "exact_borda_count")
    console.print(table)
    note = (
        "Borda: Borda count; utility: expected utility\n"
        "loss: mean over the last tenth of the steps, in nats; s: seconds of training"
    )
    if off_jump:
        note += "\n*: without the alternatives within 0.02 of the jump at 0.8"
    console.print(note, style="dim", highlight=False)
    console.print(f"figures and curves: {result.config.folder}", soft_wrap=True, highlight=False)
