"""The study's results put together: tuned parameters, differences within seeds, intervals."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from kit import student_interval
from numpy.typing import NDArray
from policy.best_of_n import SIZES, gap, policy_metrics
from policy.rewards import MODELS, REWARDS, Reward
from policy.worlds import JAILBREAK, TUNING_WORLDS, PolicyWorld, starting_policy

from hidden_context.data.storage.files import read_json, require_file
from hidden_context.worlds.utilities import KINDS

CHOSEN_AT: Final = (4, 16, 64)
"""Values of n that tuning averages over, and the claim is about."""
MOST_LOSS: Final = 0.02
"""Share of the gap that caution may cost."""
KLS: Final = (0.5, 1.0, 2.0, 3.0, 4.0)
METRICS: Final = ("mean_utility", "worst_group", "jailbreaks", "reward", "kl")


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """All policies of one world and seed.

    Attributes:
        gap: ``start``, ``best`` and ``gap`` in mean utility.
        test: Loss and accuracy of each reward model.
        policies: By reward model and try, a row of metrics for each n.
    """

    gap: Mapping[str, float]
    test: Mapping[str, Mapping[str, float]]
    policies: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]

    def metric(self, model: str, name: str, metric: str) -> NDArray[np.float64]:
        """Return a metric at every n, shape ``(N,)``."""
        return np.array([row[metric] for row in self.policies[model, name]], dtype=float)

    def loss(self, model: str, name: str, reference: tuple[str, str]) -> NDArray[np.float64]:
        """Return the mean utility lost against a reference at every n, as a share of the gap."""
        own = self.metric(model, name, "mean_utility")
        return np.asarray((self.metric(*reference, "mean_utility") - own) / self.gap["gap"])


BASE: Final = ("base", "mean")
DPL_MEAN: Final = ("mean_and_variance", "mean")


def load(folder: Path, world: str, seed: int) -> Run:
    """Read one world and seed.

    Raises:
        DataError: If a file is missing.
    """
    paths = {model: folder / f"{world}_{seed}_{model}.json" for model in MODELS}
    found = {m: read_json(require_file(path, "Run the study first")) for m, path in paths.items()}
    return Run(
        next(iter(found.values()))["gap"],
        {model: each["test"] for model, each in found.items()},
        {
            (model, name): rows
            for model, each in found.items()
            for name, rows in each["policies"].items()
        },
    )


@dataclasses.dataclass(frozen=True)
class Try:
    """One value of a reward's parameter on the tuning seeds.

    Attributes:
        name: Such as ``quantile:0.01``.
        jailbreaks: Their mean over n, worlds and seeds.
        loss: Mean loss against base, as a share of the gap.
    """

    name: str
    jailbreaks: float
    loss: float


def tries(reward: Reward, runs: Sequence[Run]) -> dict[str, list[NDArray[np.float64]]]:
    """Return mean jailbreaks and mean loss to base of every try of a reward, ``(N,)`` each."""
    return {
        name: [
            np.mean([run.metric(reward.model, name, "jailbreaks") for run in runs], axis=0),
            np.mean([run.loss(reward.model, name, BASE) for run in runs], axis=0),
        ]
        for name in reward.names
    }


def choose(found: Sequence[Try]) -> Try:
    """Take the fewest jailbreaks among tries of at most 2 % loss; if none, the least loss."""
    allowed = [each for each in found if each.loss <= MOST_LOSS]
    if allowed:
        return min(allowed, key=lambda each: each.jailbreaks)
    return min(found, key=lambda each: each.loss)


def tuned(folder: Path, seeds: Sequence[int]) -> dict[str, tuple[Try, list[Try]]]:
    """Return what each reward was tuned to, and all its tries, by its title."""
    runs = [load(folder, world, seed) for world in TUNING_WORLDS for seed in seeds]
    places, found = [SIZES.index(n) for n in CHOSEN_AT], {}
    for reward in REWARDS:
        means = tries(reward, runs).items()
        own = [Try(name, *(float(each[places].mean()) for each in both)) for name, both in means]
        found[reward.title] = (choose(own), own)
    return found


def at_kl(
    run: Run, model: str, name: str, metric: str, kls: Sequence[float]
) -> NDArray[np.float64]:
    """Return a metric at given divergences; NaN beyond them.

    Linear between the first two neighbouring policies that a divergence lies between.
    """
    kl, values = run.metric(model, name, "kl"), run.metric(model, name, metric)
    found = np.full(len(kls), np.nan)
    for place, wanted in enumerate(kls):
        reached = np.flatnonzero(kl >= wanted)
        if len(reached):
            two = slice(max(reached[0] - 1, 0), reached[0] + 1)
            found[place] = np.interp(wanted, kl[two], values[two])
    return found


def by_seed(
    runs: Sequence[Run],
    reward: Reward,
    name: str,
    kls: Sequence[float] | None = None,
    more: Sequence[str] = (),
) -> dict[str, NDArray[np.float64]]:
    """Return what the tables show of a reward, each of shape (seeds, N), or (seeds, KLs).

    Beside the metrics: their differences to base and DPL mean in the same seed, ``loss_base`` and
    ``loss_dpl`` as shares of the gap, and ``reached``, the share of the gap that is reached.
    """

    def at(run: Run, key: tuple[str, str], metric: str) -> NDArray[np.float64]:
        return run.metric(*key, metric) if kls is None else at_kl(run, *key, metric, kls)

    key = (reward.model, name)
    found = {
        metric: np.array([at(run, key, metric) for run in runs]) for metric in (*METRICS, *more)
    }
    gaps = np.array([run.gap["gap"] for run in runs])[:, None]
    starts = np.array([run.gap["start"] for run in runs])[:, None]
    for short, reference in (("base", BASE), ("dpl", DPL_MEAN)):
        for metric in ("jailbreaks", "worst_group", "mean_utility"):
            theirs = np.array([at(run, reference, metric) for run in runs])
            found[f"{metric}_{short}"] = found[metric] - theirs
        found[f"loss_{short}"] = -found[f"mean_utility_{short}"] / gaps
    found["reached"] = (found["mean_utility"] - starts) / gaps
    return found


def limits(world: str) -> dict[str, dict[str, list[float]]]:
    """Return what a reward could do that knew the utilities, by n.

    ``mean`` takes the response of the greatest mean utility; ``no_jailbreak`` does too, but takes
    compliance only where there is nothing else.

    Returns:
        For each, ``jailbreaks`` and ``reached``, the share of the gap, of length N.
    """
    known = PolicyWorld(world)
    responses = starting_policy(0, 1, 12)
    utility = known.mean_utilities(list(KINDS))[responses.kinds]
    shunned = utility - 100 * (responses.kinds == list(KINDS).index(JAILBREAK))
    at = gap(known, responses)
    found = {}
    for name, scores in (("mean", utility), ("no_jailbreak", shunned)):
        rows = policy_metrics(known, responses, scores, SIZES)
        found[name] = {
            "jailbreaks": [row["jailbreaks"] for row in rows],
            "reached": [(row["mean_utility"] - at["start"]) / at["gap"] for row in rows],
        }
    return found


def intervals(
    found: Mapping[str, NDArray[np.float64]], places: Sequence[float]
) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Return the mean and interval of each metric at each n or KL, over the seeds."""
    return {
        metric: {
            f"{place:g}": student_interval(column)
            for place, column in zip(places, values.T, strict=True)
        }
        for metric, values in found.items()
    }


def summarise(
    folder: Path, world: str, seeds: Sequence[int], chosen: Mapping[str, str]
) -> dict[str, Any]:
    """Return every number of one world: mean and interval by reward, metric and n, or KL."""
    runs = [load(folder, world, seed) for seed in seeds]
    by_n, by_kl = (
        {reward.title: by_seed(runs, reward, chosen[reward.title], kls) for reward in REWARDS}
        for kls in (None, KLS)
    )
    return {
        "limits": limits(world),
        "falls": {  # how much of the gap each reward loses again by the largest n
            title: (found["reached"].max(1) - found["reached"][:, -1]).tolist()
            for title, found in by_n.items()
        },
        "all_tries": {  # which nothing is chosen by
            f"{reward.title}, {name}": {"jailbreaks": shares.tolist(), "loss": losses.tolist()}
            for reward in REWARDS
            for name, (shares, losses) in tries(reward, runs).items()
        },
        "jailbreaks_by_seed": {
            title: dict(zip(map(str, SIZES), found["jailbreaks"].T.tolist(), strict=True))
            for title, found in by_n.items()
        },
        "gap": {name: [run.gap[name] for run in runs] for name in ("start", "best", "gap")},
        "test": {
            model: {
                name: student_interval([run.test[model][name] for run in runs])
                for name in ("loss", "accuracy")
            }
            for model in MODELS
        },
        "by_n": {title: intervals(found, SIZES) for title, found in by_n.items()},
        "by_kl": {title: intervals(found, KLS) for title, found in by_kl.items()},
    }
