"""``hidden-context report``: one HTML file to look at."""

from __future__ import annotations

from hidden_context.cli.arguments import command
from hidden_context.report.config import ReportConfig


@command(
    ReportConfig,
    "hidden-context report",
    "One self-contained HTML file: whether people disagree and on what, each "
    "model's numbers with intervals, calibration, risk frontier, contexts, and a searchable "
    "table of comparisons with both reward distributions. It needs no network and runs "
    "nothing that the texts contain.",
    uses_hub=False,
)
def main(config: ReportConfig) -> None:
    """Make a report and say where it is."""
    from hidden_context.report import workflow

    result = workflow.run(config)
    shown = ""
    if result.pairs is not None:
        shown = f", {result.pairs.shown} of {result.pairs.total} comparisons"
        if result.pairs.cut:
            shown += f" ({result.pairs.cut} with texts cut to {config.max_text} characters)"
    print(f"{result.path}: {result.size / 1e6:.1f} MB{shown}")
