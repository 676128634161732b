"""All numbers of the real language model's study, out of its responses and rewards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from policy.real.measures import (
    JUDGES,
    RESAMPLES,
    Floats,
    by_set,
    correlation,
    mean_intervals,
    per_prompt,
    per_response,
    standardised,
)
from policy.real.prompts import Division
from policy.real.reward_models import Said, correct, first_questions
from policy.rewards import REWARDS, values

from hidden_context.statistics.interval import cluster_interval, cluster_sums, ratio

CHOSEN: Final = {
    "base": "mean",
    "DPL mean": "mean",
    "quantile": "quantile:0.01",
    "CVaR": "cvar:0.05",
    "mean − λ·σ": "mean_minus_std:2",
    "entropic": "entropic:2",
    "relative quantile": "relative_quantile:0.05",
    "ensemble, worst member": "worst_member",
    "ensemble, mean − λ·variance": "less_ignorance:0.5",
    "PURM": "less_overlap:3",
}
"""The tries that the generated worlds took on their tuning seeds; nothing is tuned here."""
REFERENCES: Final = {"base": "base, mean", "dpl": "DPL mean, mean"}
SINGLE: Final = ("helpful only", "harmless only")


def rewards_of(
    said: Mapping[str, Said], judged: Mapping[str, Floats], lengths: Floats
) -> dict[str, Floats]:
    """Return every reward's values of the responses, ``(P, S)``, by title and try.

    Beside the study's rewards: the models of one objective, the longest and the shortest response,
    and what knows the judges: the lesser of their standardised rewards.
    """
    found = {
        f"{reward.title}, {name}": value.numpy()
        for reward in REWARDS
        for name, value in values(reward, said[reward.model].responses).items()
    }
    found |= {name: said[name].responses.mean.numpy() for name in SINGLE}
    found |= {"longest": lengths, "shortest": -lengths}
    both = np.minimum(*(standardised(judged[name]) for name in JUDGES))
    return {**found, "the judges themselves": both}


def summarise(
    rows: Sequence[Mapping[str, Any]], said: Mapping[str, Said], division: Division
) -> dict[str, Any]:
    """Return every number of the study.

    Args:
        rows: The responses, a row a prompt.
        said: What each reward model and judge says.
        division: The pairs.

    Returns:
        JSON: ``sizes``, ``accuracy``, ``rewards`` (by title and try), ``correlations``, ``sigma``
        and ``chosen``.
    """
    texts = [row["responses"] for row in rows]
    tokens = np.array([row["tokens"] for row in rows], dtype=float)
    sets = np.array([row["set"] for row in rows])
    characters = np.array([[len(text) for text in row] for row in texts], dtype=float)
    judged = {name: said[f"{name} judge"].responses.mean.numpy() for name in JUDGES}
    spread = said["mean_and_variance"].responses
    columns = per_response(judged, texts, tokens)
    columns["sigma"] = spread.stddev.numpy()
    columns["disagreement"] = disagreement(spread)
    scores = rewards_of(said, judged, characters)
    expected = {name: per_prompt(value, columns) for name, value in scores.items()}
    references = {short: expected[name] for short, name in REFERENCES.items()}
    return {
        "sizes": sizes_of(rows, division),
        "accuracy": accuracies(said, division),
        "rewards": {name: by_set(each, references, sets) for name, each in expected.items()},
        "correlations": {
            name: correlations(value, {**columns, "characters": characters})
            for name, value in scores.items()
        },
        "sigma": sigma(columns, characters, sets),
        "chosen": CHOSEN,
    }


def disagreement(rewards: Any) -> Floats:
    """Return how likely two people differ about each response and another one of its prompt.

    Args:
        rewards: Distributions of batch shape ``(P, S)``.

    Returns:
        The mean over the other responses, in [0, ½], of that shape.
    """
    count = rewards.mean.shape[1]
    total = np.zeros(tuple(rewards.mean.shape))
    for step in range(1, count):  # every other response, one rotation at a time
        turned = rewards[:, np.roll(np.arange(count), step)]
        chance = rewards.log_prob_greater(turned).exp().numpy()
        total += 2 * chance * (1 - chance)
    return total / max(count - 1, 1)


def sizes_of(rows: Sequence[Mapping[str, Any]], division: Division) -> dict[str, Any]:
    """Return how much there is: pairs by side, prompts by set, and lengths."""
    ended = np.array([row["ended"] for row in rows], dtype=float)
    tokens = np.array([row["tokens"] for row in rows], dtype=float)
    sets = [row["set"] for row in rows]
    return {
        "pairs": {side: len(getattr(division, side)) for side in ("train", "judges", "held_out")},
        "prompts": {name: sets.count(name) for name in dict.fromkeys(sets)},
        "responses": tokens.shape[1],
        "tokens": float(tokens.sum()),
        "cut off": 1 - float(ended.mean()),
        "resamples": RESAMPLES,
    }


def accuracies(said: Mapping[str, Said], division: Division) -> dict[str, Any]:
    """Return the share of held-out pairs each model gets right, by objective, with intervals."""
    objectives = np.array([pair.objective for pair in division.held_out])
    longer = np.array(
        [len(pair.responses[0]) - len(pair.responses[1]) for pair in division.held_out]
    )
    right = {name: correct(each.pairs) for name, each in said.items()}
    right["the longer response"] = (1 + np.sign(longer)) / 2
    cluster = first_questions(division.held_out)
    return {
        name: {
            group: _share(values, cluster, rows)
            for group, rows in (
                *((objective, objectives == objective) for objective in JUDGES),
                ("both", np.ones(len(objectives), dtype=bool)),
            )
        }
        for name, values in right.items()
    }


def _share(values: Floats, cluster: Any, rows: Any) -> list[float]:
    both = np.stack([values, np.ones_like(values)], axis=1)[rows]
    sums = cluster_sums(both, cluster[rows])
    found = cluster_interval(sums, ratio, bounds=(0, 1), resamples=RESAMPLES)
    return [found.estimate, found.low, found.high]


def correlations(scores: Floats, columns: Mapping[str, Floats]) -> dict[str, list[float]]:
    """Return a reward's mean correlations within prompts: with length, the judges and σ."""
    every = np.ones(len(scores), dtype=bool)
    wanted = ("characters", *JUDGES, "sigma")
    return {name: correlation(scores, columns[name], every) for name in wanted}


def sigma(columns: Mapping[str, Floats], characters: Floats, sets: Any) -> dict[str, Any]:
    """Return what σ and the disagreement it predicts have to do with the judges' difference.

    Returns:
        By set: mean σ and its spread within a prompt, and mean correlations within prompts of σ
        and of disagreement with ``split`` and with the length.
    """
    found = {}
    for group in ("all", *dict.fromkeys(sets.tolist())):
        rows = np.ones(len(sets), dtype=bool) if group == "all" else sets == group
        own = columns["sigma"][rows]
        found[group] = {
            "mean": mean_intervals(own.mean(1)[None])[0],
            "spread": float(np.sqrt(own.var(1).mean())),
            "disagreement": mean_intervals(columns["disagreement"][rows].mean(1)[None])[0],
            **{
                f"{name} and {other}": correlation(columns[name], value, rows)
                for name in ("sigma", "disagreement")
                for other, value in (("split", columns["split"]), ("length", characters))
            },
            "judges with each other": correlation(columns[JUDGES[0]], columns[JUDGES[1]], rows),
        }
    return found


def title_of(name: str) -> str:
    """Return the title of a reward and try: without the try where it has but one."""
    return name.removesuffix(", mean").removesuffix(", worst_member")


def chosen_names() -> list[str]:
    """List the rewards that the main tables show, by title and try."""
    tuned = [f"{title}, {name}" for title, name in CHOSEN.items()]
    return [*tuned, *SINGLE, "longest", "shortest", "the judges themselves"]
