"""The study's tables and figures, all from its files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from kit import markdown
from policy.best_of_n import SIZES
from policy.figures import draw
from policy.rewards import REWARDS
from policy.summary import CHOSEN_AT, KLS, MOST_LOSS, Try, summarise, tuned
from policy.worlds import NAMES

from hidden_context.data.storage.files import atomic_write, write_json

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
        parts += [n_table(world, found, n) for n in CHOSEN_AT]
        parts.append(kl_table(world, found))
    parts += [
        falls_table(worlds),
        limits_table(worlds),
        tries_table(worlds),
        verdicts(worlds),
        cost_table(worlds["agreed"]),
    ]
    with atomic_write(path) as file:
        file.write("\n".join(parts))
    numbers = {
        "tuning": {
            title: [dataclasses.asdict(t) for t in own] for title, (_, own) in tries.items()
        },
        "chosen": chosen,
        "worlds": worlds,
    }
    write_json(path.with_suffix(".json"), numbers)
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


def n_table(world: str, found: Numbers, n: int) -> str:
    """All rewards at one n, the one with the fewest jailbreaks first."""
    return rewards_table(f"{world}, best of {n}", found["by_n"], f"{n}", COLUMNS)


def kl_table(world: str, found: Numbers) -> str:
    """Jailbreaks and share of the gap reached at equal KL."""
    rows = []
    for title, each in found["by_kl"].items():
        row = [title]
        for kl in KLS:
            jailbreaks, reached = (each[m][f"{kl:g}"][0] for m in ("jailbreaks", "reached"))
            row.append(f"{percent(jailbreaks)} / {percent(reached, 0)}")
        rows.append(row)
    heads = ["jailbreaks / share of the gap reached", *(f"KL {kl:g}" for kl in KLS)]
    return markdown(heads, rows, f"{world}, at equal KL")


def falls_table(worlds: Numbers) -> str:
    """Over-optimisation: the share of the gap that is lost again by the largest n."""
    rows = [
        [title, *(_mean_and_most(found["falls"][title]) for found in worlds.values())]
        for title in worlds["objectives"]["falls"]
    ]
    return markdown(["lost again of the gap, mean (most)", *worlds], rows, "Over-optimisation")


def _mean_and_most(values: Sequence[float]) -> str:
    return f"{percent(sum(values) / len(values), 2)} ({percent(max(values), 2)})"


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
    rows = []
    for name in worlds["objectives"]["all_tries"]:
        row = [name]
        for world in NAMES[:2]:
            each = worlds[world]["all_tries"][name]
            for n in CHOSEN_AT[:2]:
                at = SIZES.index(n)
                row.append(f"{percent(each['jailbreaks'][at])} / {percent(each['loss'][at])}")
        rows.append(row)
    heads = [f"{world}, n = {n}" for world in NAMES[:2] for n in CHOSEN_AT[:2]]
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
    rows = []
    for title, each in found["by_n"].items():
        row = [title]
        for n in CHOSEN_AT:
            row += [cell(each[f"loss_{short}"][f"{n}"]) for short in ("base", "dpl")]
        rows.append(row)
    heads = ["loss, of the gap"]
    heads += [f"n = {n}, to {other}" for n in CHOSEN_AT for other in ("base", "DPL mean")]
    return markdown(heads, rows, "What caution costs in agreed")


def rewards_table(title: str, found: Numbers, place: str, columns: Columns) -> str:
    """All rewards at one n, KL or the end; the fewest jailbreaks come first."""
    ranked = sorted(found, key=lambda name: found[name]["jailbreaks"][place][0])
    rows = [
        [name, *(write(found[name][metric][place]) for _, metric, write in columns)]
        for name in ranked
    ]
    return markdown(["reward", *(head for head, _, _ in columns)], rows, title)


def percent(value: float, digits: int = 1) -> str:
    """Write a share in per cent."""
    if value != value:
        return "–"
    return f"{100 * value:.{digits}f} %".replace("-", "−")


def cell(value: Sequence[float], digits: int = 1) -> str:
    """Write a difference of shares with its interval, in points."""
    return _with_interval([100 * each for each in value], digits)


def plain(value: Sequence[float]) -> str:
    """Write a difference of utilities with its interval."""
    return _with_interval(list(value), 3)


def _with_interval(value: list[float], digits: int) -> str:
    if value[0] != value[0]:
        return "–"
    mean, low, high = (f"{each:+.{digits}f}".replace("-", "−") for each in value)
    return mean if value[1] != value[1] else f"{mean} [{low}, {high}]"


Columns = Sequence[tuple[str, str, Callable[[Sequence[float]], str]]]
"""Head, metric, and how its mean and interval are written."""
COLUMNS: Final[Columns] = (
    ("jailbreaks", "jailbreaks", lambda value: percent(value[0], 2)),
    ("− base", "jailbreaks_base", lambda value: cell(value, 2)),
    ("− DPL mean", "jailbreaks_dpl", lambda value: cell(value, 2)),
    ("loss to base", "loss_base", cell),
    ("loss to DPL mean", "loss_dpl", cell),
    ("worst group", "worst_group", lambda value: f"{value[0]:.3f}"),
    ("− base", "worst_group_base", plain),
    ("KL", "kl", lambda value: f"{value[0]:.2f}"),
)
