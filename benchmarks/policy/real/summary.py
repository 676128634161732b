"""All numbers and tables of the real language model's study, from its responses and rewards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from kit import cell, numbered, table
from policy.real import measures
from policy.real.prompts import SETS, Division
from policy.real.reward_models import Said
from policy.rewards import REWARDS, values

from hidden_context.data.splits.division import BY_FIRST_TURN
from hidden_context.statistics.interval import Resampling

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
    said: Mapping[str, Said], judged: Mapping[str, measures.Floats], lengths: measures.Floats
) -> dict[str, measures.Floats]:
    """Return every reward's values of the responses, ``(P, S)``, by title and try.

    Beside the study's rewards: the models of one objective, the longest and the shortest response,
    and what knows the judges: the lesser of their standardised rewards.
    """
    found = {
        f"{reward.title}, {name}": value.numpy()
        for reward in REWARDS
        for name, value in values(reward, said[reward.model]["responses"]).items()
    }
    found |= {name: said[name]["responses"].mean.numpy() for name in SINGLE}
    found |= {"longest": lengths, "shortest": -lengths}
    both = np.minimum(*(measures.standardised(judged[name]) for name in measures.JUDGES))
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
    judged = {name: said[f"{name} judge"]["responses"].mean.numpy() for name in measures.JUDGES}
    spread = said["mean_and_variance"]["responses"]
    columns = measures.per_response(judged, texts, tokens)
    columns["sigma"] = spread.stddev.numpy()
    columns["disagreement"] = disagreement(spread)
    scores = rewards_of(said, judged, characters)
    expected = {name: measures.per_prompt(value, columns) for name, value in scores.items()}
    references = {short: expected[name] for short, name in REFERENCES.items()}
    return {
        "sizes": sizes_of(rows, division),
        "accuracy": accuracies(said, division),
        "rewards": {
            name: measures.by_set(each, references, sets) for name, each in expected.items()
        },
        "correlations": {
            name: correlations(value, {**columns, "characters": characters})
            for name, value in scores.items()
        },
        "sigma": sigma(columns, characters, sets),
        "chosen": CHOSEN,
    }


def disagreement(rewards: Any) -> measures.Floats:
    """Return how likely two people differ about each response and another one of its prompt.

    Args:
        rewards: Distributions of batch shape ``(P, S)``.

    Returns:
        The mean over the other responses, in [0, ½], of that shape.
    """
    count = rewards.mean.shape[1]
    total = np.zeros(tuple(rewards.mean.shape))
    for step in range(1, count):  # every other response, one rotation at a time
        chance = rewards.log_prob_greater(rewards[:, np.roll(np.arange(count), step)]).exp().numpy()
        total += 2 * chance * (1 - chance)
    return total / max(count - 1, 1)


def sizes_of(rows: Sequence[Mapping[str, Any]], division: Division) -> dict[str, Any]:
    """Return how much there is: pairs by side, prompts by set, and lengths."""
    tokens = np.array([row["tokens"] for row in rows], dtype=float)
    sets = [row["set"] for row in rows]
    return {
        "pairs": {side: len(getattr(division, side)) for side in ("train", "judges", "held_out")},
        "prompts": {name: sets.count(name) for name in dict.fromkeys(sets)},
        "responses": tokens.shape[1],
        "tokens": float(tokens.sum()),
        "cut off": 1 - float(np.mean([row["ended"] for row in rows])),
        "resamples": measures.RESAMPLES,
    }


def accuracies(said: Mapping[str, Said], division: Division) -> dict[str, Any]:
    """Return the share of held-out pairs each model gets right, by objective, with intervals."""
    objectives = np.array([pair.objective for pair in division.held_out])
    lengths = [[len(text) for text in pair.responses] for pair in division.held_out]
    scores = {name: each["pairs"].mean.numpy() for name, each in said.items()}
    scores["the longer response"] = np.array(lengths, dtype=float)
    # a tie counts one half
    right = {name: np.heaviside(each[:, 0] - each[:, 1], 0.5) for name, each in scores.items()}
    cluster = numbered(BY_FIRST_TURN.keys(division.held_out))
    groups = {objective: objectives == objective for objective in measures.JUDGES}
    groups["both"] = np.ones(len(objectives), dtype=bool)

    def share(values: measures.Floats, rows: Any) -> list[float]:
        found = Resampling(resamples=measures.RESAMPLES).share(values[rows], cluster[rows])
        return [found.estimate, found.low, found.high]

    return {
        name: {group: share(values, rows) for group, rows in groups.items()}
        for name, values in right.items()
    }


def correlations(
    scores: measures.Floats, columns: Mapping[str, measures.Floats]
) -> dict[str, list[float]]:
    """Return a reward's mean correlations within prompts: with length, the judges and σ."""
    wanted = ("characters", *measures.JUDGES, "sigma")
    return {name: measures.correlation(scores, columns[name]) for name in wanted}


def sigma(
    columns: Mapping[str, measures.Floats], characters: measures.Floats, sets: Any
) -> dict[str, Any]:
    """Return what σ and the disagreement it predicts have to do with the judges' difference.

    Returns:
        By set: mean σ and its spread within a prompt, and mean correlations within prompts of σ
        and of disagreement with ``split`` and with the length.
    """
    found = {}
    for group, rows in measures.groups_of(sets).items():
        own = {name: values[rows] for name, values in {**columns, "length": characters}.items()}
        both = [own[name].mean(1) for name in ("sigma", "disagreement")]
        mean, disagreement = measures.mean_intervals(both)
        found[group] = {
            "mean": mean,
            "spread": float(np.sqrt(own["sigma"].var(1).mean())),
            "disagreement": disagreement,
            **{
                f"{name} and {other}": measures.correlation(own[name], own[other])
                for name in ("sigma", "disagreement")
                for other in ("split", "length")
            },
            "judges with each other": measures.correlation(*(own[j] for j in measures.JUDGES)),
        }
    return found


def tables(found: Mapping[str, Any]) -> list[str]:
    """Write all tables."""
    sets = [name for name in SETS if name in found["sizes"]["prompts"]]
    return [
        sizes_line(found["sizes"]),
        accuracy_table(found["accuracy"]),
        *(rewards_table(found, name) for name in ("all", *sets)),
        sigma_table(found["sigma"]),
    ]


def sizes_line(sizes: Mapping[str, Any]) -> str:
    """How much there is."""
    pairs = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in sizes["pairs"].items())
    prompts = ", ".join(f"{name} {count}" for name, count in sizes["prompts"].items())
    return (
        f"Pairs: {pairs}. Prompts: {prompts}; {sizes['responses']} responses each, "
        f"{sizes['tokens']:.0f} tokens, {100 * sizes['cut off']:.0f} % of them cut off.\n"
    )


def accuracy_table(found: Mapping[str, Any]) -> str:
    """Held-out accuracy of every model."""
    columns = {
        group: lambda each, group=group: cell(each[group], 1, signed=False, factor=100)
        for group in (*measures.JUDGES, "both")
    }
    return table("model", found, columns, "Accuracy on held-out pairs")


def rewards_table(found: Mapping[str, Any], group: str) -> str:
    """Best of 16: the judges' view of each reward's choice."""
    n = str(measures.SIZES[-1])
    tuned = [f"{title}, {name}" for title, name in CHOSEN.items()]
    rows = {}
    for name in (*tuned, *SINGLE, "longest", "shortest", "the judges themselves"):
        title = name.removesuffix(", mean").removesuffix(", worst_member")  # where it has but one
        rows[title] = {measure: by_n[n] for measure, by_n in found["rewards"][name][group].items()}
    columns = {
        "helpful judge": lambda each: cell(each["helpful"]["mean"], 2),
        "harmless judge": lambda each: cell(each["harmless"]["mean"], 2),
        "worse of the two": lambda each: cell(each["worse"]["mean"], 2),
        "− base": lambda each: cell(each["worse"]["base"], 2),
        "− DPL mean": lambda each: cell(each["worse"]["dpl"], 2),
        "tokens": lambda each: f"{each['tokens']['mean'][0]:.1f}",
        "refusals": lambda each: f"{100 * each['refusals']['mean'][0]:.1f} %",
    }
    return table("reward", rows, columns, f"Best of {n}, {group}")


def sigma_table(found: Mapping[str, Any]) -> str:
    """What σ goes with."""
    columns = {
        "mean σ": lambda each: cell(each["mean"], 2),
        "its spread within a prompt": lambda each: f"{each['spread']:.3f}",
        "disagreement": lambda each: cell(each["disagreement"], 2),
        "r(σ, split)": lambda each: cell(each["sigma and split"], 2),
        "r(disagreement, split)": lambda each: cell(each["disagreement and split"], 2),
        "r(σ, length)": lambda each: cell(each["sigma and length"], 2),
        "r(judges)": lambda each: cell(each["judges with each other"], 2),
    }
    return table("prompts", found, columns, "What σ finds")
