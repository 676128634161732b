"""The tables and figures of the study, all from its files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from kit import cell, markdown, plotting, table, write_tables
from policy.best_of_n import SIZES
from policy.rewards import REWARDS
from policy.summary import CHOSEN_AT, KLS, MOST_LOSS, Try, summarise, tuned
from policy.worlds import NAMES

from hidden_context import terminal

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
_CAUTIOUS: Final = tuple(reward.title for reward in REWARDS if reward.cautious)
VERDICT: Final = ("claim holds", "by", "rivals that meet it too")
Numbers = Mapping[Any, Any]


def write_report(
    folder: Path, seeds: Sequence[int], tuning: Sequence[int], path: Path, figures: Path | None
) -> None:
    """Write tables in Markdown, every number of them as JSON beside it, and the figures.

    Args:
        folder: The study's results.
        seeds: Seeds of the study.
        tuning: Seeds of tuning.
        path: The Markdown file.
        figures: Folder of the figures; None for none.

    Raises:
        DataError: If results are missing.
    """
    tries = tuned(folder, tuning)
    chosen = {title: best.name for title, (best, _) in tries.items()}
    worlds = {world: summarise(folder, world, seeds, chosen) for world in NAMES}
    parts = [tuning_table(tries), quality_table(worlds)]
    for world, found in worlds.items():
        title = f"{world}, best of"
        parts += [rewards_table(f"{title} {n}", found["by_n"], f"{n}", COLUMNS) for n in CHOSEN_AT]
        parts.append(kl_table(world, found))
    parts += [
        falls_table(worlds),
        limits_table(worlds),
        tries_table(worlds),
        verdicts(worlds),
        cost_table(worlds["agreed"]),
    ]
    tuning = {title: [dataclasses.asdict(t) for t in own] for title, (_, own) in tries.items()}
    write_tables(path, parts, {"tuning": tuning, "chosen": chosen, "worlds": worlds})
    if figures is not None:
        draw(worlds, figures)


def tuning_table(tries: dict[str, tuple[Try, list[Try]]]) -> str:
    """Every try on the tuning seeds; the one taken is bold."""
    rows = []
    for title, (best, own) in tries.items():
        for each in own:
            mark = "**" if each is best and len(own) > 1 else ""
            name = f"{mark}{each.name}{mark}"
            rows.append([title, name, percent(each.jailbreaks), percent(each.loss)])
    return markdown(["reward", "try", "jailbreaks", "loss, of the gap"], rows, "Tuning")


def quality_table(worlds: Numbers) -> str:
    """How well the reward models predict test comparisons."""
    rows = [
        [world, model, f"{each['loss'][0]:.4f}", percent(each["accuracy"][0])]
        for world, found in worlds.items()
        for model, each in found["test"].items()
    ]
    return markdown(["world", "model", "loss, nats", "accuracy"], rows, "Reward models")


def kl_table(world: str, found: Numbers) -> str:
    """Jailbreaks and share of the gap reached at equal KL."""

    def both(each: Numbers, at: str) -> str:
        return f"{percent(each['jailbreaks'][at][0])} / {percent(each['reached'][at][0], 0)}"

    columns = {f"KL {kl:g}": partial(both, at=f"{kl:g}") for kl in KLS}
    corner = "jailbreaks / share of the gap reached"
    return table(corner, found["by_kl"], columns, f"{world}, at equal KL")


def falls_table(worlds: Numbers) -> str:
    """Over-optimisation: the share of the gap that is lost again by the largest n."""
    falls = [found["falls"] for found in worlds.values()]
    rows = [
        [title, *(f"{percent(np.mean(f[title]), 2)} ({percent(max(f[title]), 2)})" for f in falls)]
        for title in falls[0]
    ]
    return markdown(["lost again of the gap, mean (most)", *worlds], rows, "Over-optimisation")


def limits_table(worlds: Numbers) -> str:
    """What a reward that knew the utilities would do."""
    rows = []
    for world, found in worlds.items():
        mean, shy = (found["limits"][name] for name in ("mean", "no_jailbreak"))
        for n in CHOSEN_AT:
            at, base = SIZES.index(n), found["by_n"]["base"]["reached"][f"{n}"][0]
            shares = (
                percent(mean["jailbreaks"][at], 2),
                percent(shy["jailbreaks"][at], 2),
                percent(mean["reached"][at] - shy["reached"][at]),
                percent(base - shy["reached"][at]),
            )
            rows.append([world, f"{n}", *shares])
    heads = ["world", "n", "jailbreaks by mean utility", "least possible"]
    return markdown([*heads, "its loss to mean utility", "its loss to base"], rows, "Limits")


def tries_table(worlds: Numbers) -> str:
    """Every try on the study's seeds: jailbreaks, and loss to base."""
    places = [(world, n) for world in NAMES[:2] for n in CHOSEN_AT[:2]]
    rows = []
    for name in worlds["objectives"]["all_tries"]:
        both = [(worlds[world]["all_tries"][name], SIZES.index(n)) for world, n in places]
        cells = (f"{percent(e['jailbreaks'][at])} / {percent(e['loss'][at])}" for e, at in both)
        rows.append([name, *cells])
    heads = [f"{world}, n = {n}" for world, n in places]
    return markdown(["jailbreaks / loss to base", *heads], rows, "Every try")


def verdicts(worlds: Numbers) -> str:
    """The claim, for each world, n and cautious reward, and the rivals that meet it too."""
    rows = [
        [world, f"{n}", *verdict(worlds[world]["by_n"], f"{n}")]
        for world in NAMES[:2]
        for n in CHOSEN_AT
    ]
    return markdown(["world", "n", *VERDICT], rows, "The claim")


def verdict(found: Numbers, place: str) -> list[str]:
    """Whether the claim holds at one n or KL, by which rewards, and the rivals that meet it too."""
    met = [title for title, each in found.items() if holds(each, place)]
    cautious = [title for title in _CAUTIOUS if title in met]
    rivals = [title for title in met if title not in _CAUTIOUS]
    lists = (", ".join(titles) or "–" for titles in (cautious, rivals))
    return ["yes" if cautious else "no", *lists]


def holds(each: Numbers, place: str) -> bool:
    """Whether a reward has surely fewer jailbreaks than base and DPL mean, at a loss of ≤ 2 %."""
    fewer = all(each[f"jailbreaks_{short}"][place][2] < 0 for short in ("base", "dpl"))
    return bool(fewer and each["loss_base"][place][0] <= MOST_LOSS)


def cost_table(found: Numbers) -> str:
    """What each reward costs where nobody disagrees."""
    columns = {
        f"n = {n}, to {other}": lambda each, n=n, short=short: points(each[f"loss_{short}"][f"{n}"])
        for n in CHOSEN_AT
        for short, other in (("base", "base"), ("dpl", "DPL mean"))
    }
    return table("loss, of the gap", found["by_n"], columns, "What caution costs in agreed")


def rewards_table(title: str, found: Numbers, place: str, columns: Columns) -> str:
    """All rewards at one n, KL or the end; the fewest jailbreaks come first."""
    rows = [
        [name, *(write(found[name][metric][place]) for _, metric, write in columns)]
        for name in sorted(found, key=lambda name: found[name]["jailbreaks"][place][0])
    ]
    return markdown(["reward", *(head for head, _, _ in columns)], rows, title)


def percent(value: float, digits: int = 1) -> str:
    """Write a share in per cent."""
    return terminal.percent(value, digits).replace("-", "−")


points = partial(cell, digits=1, factor=100)
"""Writes a difference of shares with its interval, in points."""
Columns = Sequence[tuple[str, str, Callable[[Sequence[float]], str]]]
"""Head, metric, and how its mean and interval are written."""
COLUMNS: Final[Columns] = (
    ("jailbreaks", "jailbreaks", lambda value: percent(value[0], 2)),
    ("− base", "jailbreaks_base", partial(points, digits=2)),
    ("− DPL mean", "jailbreaks_dpl", partial(points, digits=2)),
    ("loss to base", "loss_base", points),
    ("loss to DPL mean", "loss_dpl", points),
    ("worst group", "worst_group", lambda value: f"{value[0]:.3f}"),
    ("− base", "worst_group_base", partial(cell, digits=3)),
    ("KL", "kl", lambda value: f"{value[0]:.2f}"),
)


def draw(worlds: Mapping[Any, Any], folder: Path) -> list[Path]:
    """Draw ``policy.svg`` and ``policy_overoptimisation.svg``.

    Args:
        worlds: What ``summarise`` gave, by world.
        folder: Where to; created if need be.

    Returns:
        The files.
    """
    plt = plotting()
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
    figure, axes = plotting().subplots(1, len(_TRAINED), figsize=(9.6, 3.6), layout="constrained")
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


def _save(figure: Any, titles: Iterable[str], columns: int, path: Path) -> Path:
    """Write a figure with a legend of rewards below it."""
    plt = plotting()
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
