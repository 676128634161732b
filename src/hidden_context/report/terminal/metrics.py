"""Metrics of an evaluation by group, as a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from hidden_context.terminal import make_console, make_table, number, percent

_four_decimals = partial(number, decimals=4)
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
    """Sort metrics named ``{group}_{metric}`` by group; the group of all pairs is ``all``.

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


def _print_table(
    groups: Mapping[str, Mapping[str, float]],
    columns: Mapping[str, str],
    title: str,
    first: str,
    cell: Callable[[float | None], str],
) -> None:
    """Print the columns that some group has, or nothing if there are none."""
    shown = [name for name in columns if any(name in values for values in groups.values())]
    if shown:
        rows = [
            (group, *(cell(values.get(name)) for name in shown)) for group, values in groups.items()
        ]
        table = make_table(title, [first], [columns[name] for name in shown], rows)
        make_console().print(table)


def print_metrics(metrics: Mapping[str, float], title: str) -> None:
    """Print metrics with a row per group, then the causes of variance if the head knows them."""
    groups = split_by_group(metrics)
    _print_table(groups, _METRICS, title, "examples", _four_decimals)
    causes_title = "variance of the difference between two sides"
    _print_table(groups, _CAUSES, causes_title, "examples", percent)


def print_baselines(metrics: Mapping[str, Mapping[str, float]]) -> None:
    """Print the metrics of the baselines and the probe, one row each."""
    title = "beside simple models on the same features"
    _print_table(metrics, _BASELINE_METRICS, title, "model", _four_decimals)
