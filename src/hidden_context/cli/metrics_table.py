"""Printing metrics by group as a table."""

from __future__ import annotations

from collections.abc import Mapping

_METRICS = {
    "loss": "loss (nats)",
    "accuracy": "accuracy",
    "reward_mean": "mean reward",
    "reward_stddev": "mean σ",
    "r2": "r²",
}


def split_by_group(metrics: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Sort metrics named ``{group}_{metric}`` by group; those of all pairs are ``all``.

    >>> split_by_group({"loss": 0.6, "objective_helpful_loss": 0.5})
    {'all': {'loss': 0.6}, 'objective helpful': {'loss': 0.5}}
    """
    groups: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        metric = next((m for m in _METRICS if name == m or name.endswith(f"_{m}")), None)
        if metric is None:
            continue
        group = name[: -len(metric)].rstrip("_")
        for column in ("data_subset", "objective"):
            group = group.replace(f"{column}_", f"{column} ", 1)
        groups.setdefault(group or "all", {})[metric] = value
    return groups


def print_metrics(metrics: Mapping[str, float], title: str) -> None:
    """Print metrics as a table with a row per group."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    groups = split_by_group(metrics)
    shown = [name for name in _METRICS if any(name in values for values in groups.values())]
    table = Table(title=title)
    table.add_column("pairs", no_wrap=True)
    for name in shown:
        table.add_column(_METRICS[name], justify="right")
    for group, values in groups.items():
        cells = (f"{values[name]:.4f}" if name in values else "–" for name in shown)
        table.add_row(escape(group), *cells)
    Console().print(table)
