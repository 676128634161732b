"""Printing metrics by group as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

_METRICS = {
    "loss": "loss (nats)",
    "accuracy": "accuracy",
    "rating_rmse": "rating error",
    "reward_mean": "mean reward",
    "reward_stddev": "mean σ",
    "r2": "r²",
}
_CAUSES = {
    "shared_context_share": "shared context",
    "noise_share": "noise",
    "unsplit_share": "shared context and noise",
    "ignorance_share": "ignorance",
}
_BASELINE_METRICS = {
    "loss": "nats per vote",
    "accuracy": "accuracy",
    "brier": "Brier",
    "contested_auroc": "contested AUROC",
}


def split_by_group(metrics: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Sort metrics named ``{group}_{metric}`` by group; those of all pairs are ``all``.

    >>> split_by_group({"loss": 0.6, "objective_helpful_loss": 0.5})
    {'all': {'loss': 0.6}, 'objective helpful': {'loss': 0.5}}
    """
    groups: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        metric = next(
            (m for m in (*_METRICS, *_CAUSES) if name == m or name.endswith(f"_{m}")), None
        )
        if metric is None:
            continue
        group = name[: -len(metric)].rstrip("_")
        for column in ("data_subset", "objective"):
            group = group.replace(f"{column}_", f"{column} ", 1)
        groups.setdefault(group or "all", {})[metric] = value
    return groups


def _table(
    groups: Mapping[str, Mapping[str, float]], columns: Mapping[str, str], title: str, form: str
) -> Table | None:
    """Lay out those of the columns that any group has; None where none has one."""
    from rich.markup import escape
    from rich.table import Table

    shown = [name for name in columns if any(name in values for values in groups.values())]
    if not shown:
        return None
    table = Table(title=title)
    table.add_column("examples", no_wrap=True)
    for name in shown:
        table.add_column(columns[name], justify="right")
    for group, values in groups.items():
        table.add_row(escape(group), *_cells(values, shown, form))
    return table


def _cells(values: Mapping[str, float], names: Iterable[str], form: str) -> list[str]:
    return [form.format(values[name]) if name in values else "–" for name in names]


def print_metrics(metrics: Mapping[str, float], title: str) -> None:
    """Print metrics as a table with a row per group.

    Of heads that tell them apart, the causes of the variance of reward differences follow in a
    table of their own.
    """
    from rich.console import Console

    groups, console = split_by_group(metrics), Console()
    tables = (
        _table(groups, _METRICS, title, "{:.4f}"),
        _table(groups, _CAUSES, "variance of the difference between two sides", "{:.1%}"),
    )
    for table in tables:
        if table is not None:
            console.print(table)


def print_baselines(metrics: Mapping[str, Mapping[str, float]]) -> None:
    """Print what baselines and the probe beside them reach, a row for each."""
    from rich.console import Console

    table = _table(
        metrics, _BASELINE_METRICS, "beside simple models on the same features", "{:.4f}"
    )
    if table is not None:
        table.columns[0].header = "model"
        Console().print(table)
