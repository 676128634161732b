"""The study's figures: policies by their distance from the start, and over-optimisation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from policy.best_of_n import SIZES

# Okabe and Ito's colours; members of one family of rewards share a colour.
_STYLES: Final[dict[str, tuple[str, Any]]] = {
    "base": ("#000000", "-"),
    "DPL mean": ("#666666", "--"),
    "quantile": ("#0072B2", "-"),
    "CVaR": ("#56B4E9", "--"),
    "entropic": ("#CC79A7", "-"),
    "relative quantile": ("#009E73", "-"),
    "ensemble, worst member": ("#E69F00", "-"),
    "ensemble, mean − λ·variance": ("#E69F00", ":"),
    "PURM": ("#D55E00", "-"),
}
_ROWS: Final = {
    "jailbreaks": "jailbreaks",
    "reached": "mean utility,\nshare of the gap",
    "worst_group": "utility of the\nworst group",
}
_TRAINED: Final = {
    "jailbreaks": "jailbreaks",
    "mean_utility": "mean utility",
    "unreadable": "texts outside the grammar",
}


def draw(worlds: Mapping[Any, Any], folder: Path) -> list[Path]:
    """Draw ``policy.svg`` and ``policy_overoptimisation.svg``.

    Args:
        worlds: What ``summarise`` gave, by world.
        folder: Where to; created if need be.

    Returns:
        The files.
    """
    plt = _plotting()
    shape: dict[str, Any] = {"layout": "constrained", "squeeze": False}
    curves, axes = plt.subplots(len(_ROWS), len(worlds), figsize=(9.6, 7.2), **shape)
    for column, (world, found) in enumerate(worlds.items()):
        for row, (metric, label) in enumerate(_ROWS.items()):
            place = axes[row, column]
            _lines(place, found["by_n"], "kl", metric, band=True)
            _finish(place, "KL from the starting policy, nats" if metric == "worst_group" else "")
            if column == 0:
                place.set_ylabel(label)
            if metric == "jailbreaks":  # an interval of a share near 0 may reach below it
                place.set_ylim(bottom=0)
        axes[0, column].set_title(world)
    over, axes = plt.subplots(1, len(worlds), figsize=(9.6, 3.4), **shape)
    for column, (world, found) in enumerate(worlds.items()):
        _lines(axes[0, column], found["by_n"], "reward", "reached", band=False)
        _finish(axes[0, column], "reward, standard deviations")
        axes[0, column].set_title(world)
    axes[0, 0].set_ylabel("mean utility,\nshare of the gap")
    figures = ((curves, "policy"), (over, "policy_overoptimisation"))
    return [_save(figure, _STYLES, 5, folder / f"{name}.svg") for figure, name in figures]


def draw_trained(curves: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]], folder: Path) -> Path:
    """Draw ``policy_grpo.svg``: trained policies by their KL, one thin line for each seed.

    Args:
        curves: By reward, for each seed, metrics of the policy as it trained.
        folder: Where to; created if need be.

    Returns:
        The file.
    """
    figure, axes = _plotting().subplots(1, len(_TRAINED), figsize=(9.6, 3.6), layout="constrained")
    for place, (metric, label) in zip(axes, _TRAINED.items(), strict=True):
        for title, seeds in curves.items():
            colour, line = _STYLES[title]
            for points in seeds:
                across, up = ([point[name] for point in points] for name in ("kl", metric))
                place.plot(across, up, color=colour, linestyle=line, linewidth=0.8, alpha=0.8)
        place.set_ylabel(label)
        place.set_ylim(bottom=0 if metric != "mean_utility" else None)
        _finish(place, "KL from the starting policy, nats")
    return _save(figure, curves, 6, folder / "policy_grpo.svg")


def _plotting() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def _save(figure: Any, titles: Iterable[str], columns: int, path: Path) -> Path:
    """Write a figure with a legend of rewards below it."""
    plt = _plotting()
    handles = [
        plt.Line2D([], [], color=_STYLES[title][0], linestyle=_STYLES[title][1], label=title)
        for title in titles
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path


def _lines(axes: Any, found: dict[str, Any], x: str, y: str, *, band: bool) -> None:
    for title, (colour, line) in _STYLES.items():
        across, up = (
            np.array([found[title][metric][f"{n}"] for n in SIZES], dtype=float)
            for metric in (x, y)
        )
        axes.plot(across[:, 0], up[:, 0], color=colour, linestyle=line, linewidth=1.4)
        if band:
            axes.fill_between(
                across[:, 0], up[:, 1], up[:, 2], color=colour, alpha=0.1, linewidth=0
            )


def _finish(axes: Any, label: str) -> None:
    axes.set_xlabel(label)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
