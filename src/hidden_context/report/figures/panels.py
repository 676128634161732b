"""Figures of an analysis, drawn from the content of analysis.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from hidden_context.report.figures import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Json = dict[str, Any]

_MAX_ROWS: Final = 30
_SHARES: Final = {"r2": "r²", "r2_within": "r² within prompts"}
_CAUSES: Final = {
    "shared_context": ("shared context", 1),
    "noise": ("noise", 5),
    "ignorance": ("ignorance", 2),
    "unsplit": ("shared context and noise", 0),
}


def group_rows(analyses: Sequence[Json]) -> list[tuple[str, list[Json | None]]]:
    """Put the groups of several analyses side by side.

    Returns:
        The label of each group and the group of each analysis, None where it has none; all rows
        first. Of more than 30 groups the largest.
    """
    tables = [
        {tuple(group["labels"].items()): group for group in analysis["groups"]}
        for analysis in analyses
    ]
    keys = dict.fromkeys(key for table in tables for key in table)
    size = {key: max(t[key]["n"] for t in tables if key in t) for key in keys}
    kept = set(sorted(keys, key=lambda key: (bool(key), -size[key]))[:_MAX_ROWS])
    return [
        (style.group_label(dict(key)), [table.get(key) for table in tables])
        for key in keys
        if key in kept
    ]


def intervals_figure(
    analyses: Sequence[Json], metrics: dict[str, str], width: float, xlabel: str
) -> Figure:
    """Draw intervals by group, with a colour for each analysis and a marker for each metric.

    Args:
        analyses: Analyses with the metrics.
        metrics: The metrics' paths in ``intervals``, such as ``accuracy_at/mean``, and their names.
        width: In inches.
        xlabel: Under the horizontal axis.
    """
    rows: list[tuple[str, list[tuple[Json, Json]]]] = []
    for label, groups in group_rows(analyses):
        marks = [
            (interval, style.look(series, marker if len(metrics) > 1 else None))
            for series, group in enumerate(groups)
            for marker, metric in enumerate(metrics)
            if group is not None and (interval := interval_of(group, metric)) is not None
        ]
        if marks:
            rows.append((label, marks))
    entries: list[tuple[str, Json]] = []
    if len(analyses) > 1:
        only = None if len(metrics) == 1 else 0
        entries += [
            (name, style.look(k, only)) for k, name in enumerate(style.analysis_labels(analyses))
        ]
    if len(metrics) > 1:
        grey = {"color": style.GREY}
        entries += [(name, style.look(0, k) | grey) for k, name in enumerate(metrics.values())]
    tallest = max(len(marks) for _, marks in rows)
    legend = -(-len(entries) // 2) * 0.14 if len(entries) > 1 else 0
    figure = style.new_figure(
        width, 0.55 + len(rows) * max(style.ROW_INCHES, 0.09 * tallest) + legend
    )
    axes = figure.subplots()
    for place, (_, marks) in enumerate(rows):
        for number, (interval, look) in enumerate(marks):
            spread = 0.6 * ((number + 0.5) / len(marks) - 0.5)
            style.draw_interval(axes, interval, place + spread, **look)
    style.name_rows(axes, [label for label, _ in rows])
    axes.grid(axis="x")
    axes.set_xlabel(xlabel)
    style.add_legend(figure, entries)
    return figure


def interval_of(group: Json, metric: str) -> Json | None:
    """Look up a metric's interval in a group; None where it has none."""
    name, _, measure = metric.partition("/")
    found = group.get("intervals", {}).get(name)
    return found.get(measure) if measure and found else found


def accuracy(found: Sequence[Json], width: float) -> Figure:
    """Draw the accuracy on pairs by group, with intervals; ½ is chance."""
    metrics = {"accuracy": "P(preferred) > ½"}
    for analysis in found:
        measures = analysis["groups"][0]["intervals"].get("accuracy_at") or {}
        used = (name for name, value in measures.items() if value)
        metrics |= {f"accuracy_at/{name}": f"by {name}" for name in used}
    if "accuracy_at/mean" in metrics and _same(found, "accuracy", "accuracy_at/mean"):
        del metrics["accuracy_at/mean"]  # the same for a symmetric reward
    figure = intervals_figure(found, metrics, width, "accuracy")
    figure.axes[0].axvline(0.5, **style.REFERENCE_LINE)
    return figure


def _same(analyses: Sequence[Json], first: str, second: str) -> bool:
    """Tell whether two metrics have the same estimates in every group."""
    return all(
        a is None or b is None or abs(a["estimate"] - b["estimate"]) < 1e-12
        for analysis in analyses
        for group in analysis["groups"]
        for a, b in [(interval_of(group, first), interval_of(group, second))]
    )


def variance(found: Sequence[Json], width: float) -> Figure:
    """Draw the share of the rewards' variance that the text explains, by group."""
    groups = [analysis["groups"][0] for analysis in found]
    used = (name for name in _SHARES if any(interval_of(group, name) for group in groups))
    metrics = {name: _SHARES[name] for name in used}
    figure = intervals_figure(found, metrics, width, "share of variance that the text explains")
    figure.axes[0].set_xlim(0, 1)
    return figure


def causes(found: Sequence[Json], width: float) -> Figure:
    """Draw the variance by cause and group, as bars that add up to 1."""
    names = style.analysis_labels(found)

    def named(label: str, name: str) -> str:
        both = f"{style.shortened(label, 19)}, {style.shortened(name, 17)}"
        return both if len(found) > 1 else label

    bars = [
        (named(label, name), group["variance_shares"])
        for label, groups in group_rows(found)
        for name, group in zip(names, groups, strict=True)
        if group is not None and group.get("variance_shares")
    ]
    figure = style.new_figure(width, 0.75 + style.ROW_INCHES * len(bars))
    axes = figure.subplots()
    used = [cause for cause in _CAUSES if any(cause in shares for _, shares in bars)]
    left = [0.0] * len(bars)
    for cause in used:
        values = [shares.get(cause, 0.0) for _, shares in bars]
        label, colour = _CAUSES[cause]
        axes.barh(
            range(len(bars)), values, 0.7, left=left, color=style.COLOURS[colour], label=label
        )
        left = [a + b for a, b in zip(left, values, strict=True)]
    style.name_rows(axes, [label for label, _ in bars])
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of the variance")
    figure.legend(loc="outside lower center", ncols=len(used))
    return figure


def contexts(found: Sequence[Json], width: float) -> Figure:
    """Draw each context's share of the hidden variance beside its share of the pairs."""
    sizes = [len(analysis["contexts"]["clusters"]) for analysis in found]
    height = 0.55 + sum(style.ROW_INCHES * 1.3 * size + 0.25 for size in sizes)
    figure = style.new_figure(width, height)
    panels = figure.subplots(
        len(found), 1, sharex=True, squeeze=False, height_ratios=[size + 0.5 for size in sizes]
    )
    names = style.analysis_labels(found)
    for axes, analysis, name in zip(panels[:, 0], found, names, strict=True):
        clusters = analysis["contexts"]["clusters"]
        total = sum(cluster["pairs"] for cluster in clusters)
        places = range(len(clusters))
        shares = [cluster["variance_share"] for cluster in clusters]
        axes.barh(places, shares, 0.7, color=style.COLOURS[0], label="of the hidden variance")
        pairs = [cluster["pairs"] / total for cluster in clusters]
        axes.plot(
            pairs,
            places,
            linestyle="",
            marker="D",
            color=style.COLOURS[1],
            markeredgecolor="white",
            markeredgewidth=0.5,
            label="of the pairs",
        )
        for place, cluster in zip(places, clusters, strict=True):
            end = max(shares[place], pairs[place])
            axes.annotate(
                f"{cluster['mean_variance']:.2g}",
                (end, place),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                fontsize=6,
                color=style.GREY,
            )
        style.name_rows(axes, [style.shortened(cluster["name"], 32) for cluster in clusters])
        axes.margins(x=0.12)
        axes.set_xlim(left=0)
        if len(found) > 1:
            axes.set_title(style.plain(name), loc="left")
    panels[-1, 0].set_xlabel("share (beside it: mean variance of a pair)")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def comparison(comparisons: Sequence[Json], width: float) -> Figure:
    """Draw the differences between two models, each metric on its own scale; 0 means none."""
    metrics = list(dict.fromkeys(d["metric"] for each in comparisons for d in each["differences"]))
    figure = style.new_figure(width, 0.5 + len(metrics) * (0.28 + 0.14 * len(comparisons)))
    panels = figure.subplots(len(metrics), 1, squeeze=False)[:, 0]
    for axes, metric in zip(panels, metrics, strict=True):
        for series, each in enumerate(comparisons):
            for found in (d for d in each["differences"] if d["metric"] == metric):
                _draw_difference(axes, found, series)
        axes.axvline(0, **style.REFERENCE_LINE)
        axes.set_yticks([(len(comparisons) - 1) / 2], [style.plain(metric_name(metric))])
        axes.set_ylim(len(comparisons) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.margins(x=0.08)
        axes.locator_params(axis="x", nbins=5)
    texts = []
    for each in comparisons:
        files = [{"file": each[name], "kind": ""} for name in ("second", "first")]
        texts.append(" − ".join(style.analysis_labels(files)))
    if len(texts) == 1:
        panels[-1].set_xlabel(style.plain(style.shortened(texts[0], 60)))
    else:
        panels[-1].set_xlabel("second − first")
        style.add_legend(figure, [(text, style.look(series)) for series, text in enumerate(texts)])
    return figure


def _draw_difference(axes: Any, found: Json, series: int) -> None:
    style.draw_interval(axes, found["difference"], series, **style.look(series))
    if (p := found["p_value"]) is not None:
        axes.text(
            1.01,
            series,
            "p < 0.001" if p < 0.001 else f"p = {p:.2g}",
            transform=axes.get_yaxis_transform(),
            va="center",
            fontsize=6,
            color=style.GREY,
        )


def metric_name(metric: str) -> str:
    """Name a metric for readers.

    >>> metric_name("r2_within"), metric_name("accuracy_at/quantile:0.01")
    ('r² within prompts', 'accuracy by quantile:0.01')
    """
    if metric.startswith("accuracy_at/"):
        return f"accuracy by {metric.removeprefix('accuracy_at/')}"
    return {**_SHARES, "loss": "loss (nats)", "brier": "Brier score"}.get(metric, metric)
