"""What a reward model should do: whom choices by the mean and by cautious measures leave out."""

from __future__ import annotations

from typing import Final

import numpy as np

from hidden_context.check.items import Items
from hidden_context.check.results_explained import Advice, Choice
from hidden_context.check.sums import mean_interval
from hidden_context.check.words import percent
from hidden_context.statistics.checks import Floats
from hidden_context.statistics.interval import Interval

MEASURES: Final = ("mean", "quantile:0.1", "cvar:0.1")
MANY: Final = 1 / 3
"""Share of an item's votes from which on many are against a choice."""
_NAMES: Final = {"mean": "mean", "quantile:0.1": "10 % quantile", "cvar:0.1": "10 % CVaR"}


def weigh_measures(items: Items, values: dict[str, Floats], seed: int = 0) -> Advice | None:
    """Count the votes against the choices of each risk measure.

    A vote for the response that is not chosen is against the choice; ``equal`` is against neither.

    Args:
        items: The items, pairs.
        values: By measure the values of both responses, each of shape ``(I, 2)``, the mean's first.
        seed: Of the bootstrap.

    Returns:
        The advice; None without values, or without an item that two people judged.
    """
    judged = items.votes.table.counts.judged
    if not values or not judged.any():
        return None
    counts, groups = items.counts[judged], items.group[judged]
    votes = counts.sum(1)
    against = {
        name: np.where(each[judged, 0] >= each[judged, 1], counts[:, 2], counts[:, 0])
        for name, each in values.items()
    }
    picks = {name: each[judged, 0] >= each[judged, 1] for name, each in values.items()}
    mean = against["mean"]

    def share(total: Floats, weight: Floats) -> Interval:
        return mean_interval(total, weight, groups, seed=seed)

    choices = []
    for name, lost in against.items():
        apart = (picks[name] != picks["mean"]).astype(np.float64)
        choices.append(
            Choice(
                measure=name,
                differs=share(apart, np.ones(len(votes))),
                against=share(lost, votes),
                against_there=share(lost * apart, votes * apart),
                mean_against_there=share(mean * apart, votes * apart),
                many_against=share(
                    (lost >= MANY * votes - 1e-9).astype(np.float64), np.ones(len(votes))
                ),
            )
        )
    least = float(np.minimum(counts[:, 0], counts[:, 2]).sum() / votes.sum())
    gains = {
        name: mean_interval(lost - mean, votes, groups, None, seed)
        for name, lost in against.items()
        if name != "mean"
    }
    return Advice(choices, least, _sentence(choices, gains, least))


def _sentence(choices: list[Choice], gains: dict[str, Interval], least: float) -> str:
    mean = choices[0]
    start = (
        f"A model that chooses by the mean has {percent(mean.against.estimate)} of the votes "
        f"against it; each item's majority has {percent(least)}."
    )
    cautious = [choice for choice in choices[1:] if choice.differs.estimate > 0]
    if not cautious:
        return f"{start} Cautious measures never choose otherwise: use the mean."
    better = [c for c in cautious if gains[c.measure].high < 0]
    worse = [c for c in cautious if gains[c.measure].low > 0]
    shown = better[0] if better else worse[0] if worse else cautious[0]
    there = (
        f"The {_NAMES.get(shown.measure, shown.measure)} chooses otherwise on "
        f"{percent(shown.differs.estimate, 1)} of the items, where "
        f"{percent(shown.against_there.estimate)} of the votes are against its choice and "
        f"{percent(shown.mean_against_there.estimate)} against the mean's"
    )
    if better:
        return f"{start} {there}: caution serves more people here."
    end = "caution costs votes here" if worse else "no difference that these votes can show"
    return f"{start} {there}: {end}. Use the mean, and show people both answers where they split."
