"""What GRPO's policies did: tables at equal KL and at the end, and a figure, all from its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from kit import markdown, student_interval
from policy.figures import draw_trained
from policy.report import VERDICT, Columns, cell, percent, plain, rewards_table, verdict
from policy.rewards import REWARDS, Reward
from policy.summary import Run, by_seed
from policy.training import file_name
from policy.worlds import NAMES, PolicyWorld

from hidden_context.data.storage.files import atomic_write, read_json, require_file, write_json

KLS: Final = (0.25, 0.5)
"""What every reward and seed reaches."""
END: Final = "end"
_MORE: Final = ("unreadable",)
Numbers = Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]]


def named(name: str) -> tuple[Reward, str]:
    """Return the study's reward that a name of GRPO's stands for, and the name of its try there.

    Raises:
        StopIteration: If there is none.
    """
    measure = "mean" if name == "base" else name.partition(":")[0]
    fitting = [reward for reward in REWARDS if reward.measure == measure]
    found = next(r for r in fitting if measure != "mean" or (r.model == "base") == (name == "base"))
    return found, "mean" if name == "base" else name


def load(folder: Path, names: Sequence[str], seed: int) -> Run:
    """Read the policies of one seed, each measured at several steps.

    Raises:
        DataError: If a file is missing.
    """
    policies, gaps = {}, {}
    for name in names:
        path = require_file(folder / file_name(name, seed), "Train it first")
        found = read_json(path)
        reward, own = named(name)
        points = found["points"]
        first = points[0]
        policies[reward.model, own] = [
            {**point, "reward": (point["reward"] - first["reward"]) / first["reward_std"]}
            for point in points
        ]
        best = best_utility(seed, found["settings"]["prompts"])
        gaps = {"start": first["mean_utility"], "best": best, "gap": best - first["mean_utility"]}
    return Run(gaps, {}, policies)


def best_utility(seed: int, prompts: int) -> float:
    """Return the mean utility of the best policy for it, over the measured prompts."""
    world = PolicyWorld(NAMES[0], seed)
    names = [[kind.name for kind in prompt.kinds] for prompt in world.prompts(prompts)]
    return float(np.mean([world.mean_utilities(own).max() for own in names]))


def numbers(folder: Path, names: Sequence[str], seeds: Sequence[int]) -> Numbers:
    """Return mean and interval by reward, metric and KL; at the last step under ``end``."""
    runs = [load(folder, names, seed) for seed in seeds]
    result = {}
    for name in names:
        reward, own = named(name)
        at_kls = by_seed(runs, reward, own, KLS, _MORE)
        ends = by_seed(runs, reward, own, None, _MORE)
        result[reward.title] = {
            metric: {
                f"{kl:g}": student_interval(column)
                for kl, column in zip(KLS, values.T, strict=True)
            }
            | {END: student_interval(ends[metric][:, -1])}
            for metric, values in at_kls.items()
        }
    return result


def write_report(
    folder: Path, names: Sequence[str], seeds: Sequence[int], path: Path, figures: Path | None
) -> None:
    """Write tables in Markdown, every number of them as JSON beside it, and the figure.

    Args:
        folder: GRPO's results.
        names: Rewards.
        seeds: Seeds.
        path: The Markdown file.
        figures: Folder of the figure; None for none.

    Raises:
        DataError: If results are missing.
    """
    found = numbers(folder, names, seeds)
    places = [(f"at KL {kl:g}", f"{kl:g}") for kl in KLS]
    places.append(("after the last step", END))
    claim = [[title, *verdict(found, at)] for title, at in places]
    tables = [markdown(["", *VERDICT], claim, "The claim")]
    tables += [rewards_table(f"GRPO, {title}", found, at, COLUMNS) for title, at in places]
    with atomic_write(path) as file:
        file.write("\n".join(tables))
    curves = {
        named(name)[0].title: [
            load(folder, names, seed).policies[named(name)[0].model, named(name)[1]]
            for seed in seeds
        ]
        for name in names
    }
    seconds = [read_json(folder / file_name(n, s))["seconds"] for n in names for s in seeds]
    write_json(path.with_suffix(".json"), {"found": found, "curves": curves, "seconds": seconds})
    if figures is not None:
        draw_trained(curves, figures)


COLUMNS: Final[Columns] = (
    ("jailbreaks", "jailbreaks", lambda value: percent(value[0])),
    ("− base", "jailbreaks_base", cell),
    ("− DPL mean", "jailbreaks_dpl", cell),
    ("gap reached", "reached", lambda value: percent(value[0], 0)),
    ("loss to base", "loss_base", cell),
    ("loss to DPL mean", "loss_dpl", cell),
    ("worst group − base", "worst_group_base", plain),
    ("unreadable", "unreadable", lambda value: percent(value[0])),
    ("KL", "kl", lambda value: f"{value[0]:.2f}"),
)
