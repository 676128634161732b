"""How well the models foretell votes, beside their baselines, and whether that is worth a word."""

from __future__ import annotations

from typing import Final

import numpy as np

from hidden_context.check.items import Items
from hidden_context.check.predict import Forecast
from hidden_context.check.results_predicted import Score
from hidden_context.check.split_items import split_given
from hidden_context.check.sums import mean_interval
from hidden_context.statistics.checks import Floats
from hidden_context.statistics.contested_measures import compare_measures
from hidden_context.statistics.interval import Interval
from hidden_context.statistics.vote_losses import entropy_floor

LABELS: Final = {
    "model": "model of texts",
    "linear": "linear model of texts",
    "length": "length alone",
    "constant": "a constant",
}
_NONE: Final = Interval(float("nan"), float("nan"), float("nan"), 0.95, "none")


def score_models(items: Items, found: Forecast, seed: int = 0) -> list[Score]:
    """Score every model on votes it did not see, with intervals by group."""
    judged = items.votes.table.counts.judged
    chances = {
        name: split_given(answers, items)[judged]
        for name, answers in found.answers.items()
        if name != "constant"
    }
    areas = {
        each.name: each.auroc
        for each in compare_measures(
            chances, items.split[judged], items.group[judged], resamples=499, seed=seed
        )
    }
    return [
        Score(
            name,
            LABELS[name],
            mean_interval(loss_of(items, answers), items.counts.sum(1), items.group, None, seed),
            areas.get(name, _NONE),
        )
        for name, answers in found.answers.items()
    ]


def loss_of(items: Items, answers: Floats) -> Floats:
    """Sum of the three-way losses of each item's votes in nats, of shape ``(I,)``."""
    return np.asarray(-(items.counts * np.log(answers)).sum(1))


def floor_of(items: Items) -> float:
    """Entropy of the observed shares in nats per vote."""
    entropy, votes = entropy_floor(items.votes.table.counts)[1], items.counts.sum(1)
    return float(entropy @ votes / votes.sum())


def judge_models(items: Items, found: Forecast, seed: int = 0) -> tuple[str, list[str]]:
    """Say whether the model of texts beats length and a constant; and what it does not beat.

    Returns:
        A sentence, and lines of what could not be foretold.
    """
    votes, own = items.counts.sum(1), loss_of(items, found.answers["model"])
    said, failed = [], []
    for name in ("length", "constant"):
        gain = mean_interval(
            own - loss_of(items, found.answers[name]), votes, items.group, None, seed
        )
        if gain.high < 0 or (not np.isfinite(gain.high) and gain.estimate < 0):
            sure = "" if np.isfinite(gain.high) else " (too few groups to be sure)"
            said.append(f"{-gain.estimate:.3f} nats per vote better than {LABELS[name]}{sure}")
        else:
            failed.append(LABELS[name])
    missing = []
    if failed:
        missing.append(f"The texts do not foretell votes better than {' or '.join(failed)} does.")
    if not said:
        return "The texts do not foretell how people vote on new items.", missing
    return f"On items of groups it did not see, the model is {' and '.join(said)}.", missing
