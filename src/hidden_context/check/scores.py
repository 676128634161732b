"""How well models predict votes, and the most split items by votes and forecast together."""

from __future__ import annotations

from typing import Final

import numpy as np

from hidden_context.baselines.pairs import group_folds
from hidden_context.check.features import fit_share
from hidden_context.check.findings import Item, Score
from hidden_context.check.items import NOBODY, Items
from hidden_context.check.predict import FOLDS, Forecast
from hidden_context.check.topics import Topics
from hidden_context.contexts.text import shortened
from hidden_context.statistics.checks import Floats, places
from hidden_context.statistics.interval import Interval, Resampling
from hidden_context.statistics.means import ratio_interval
from hidden_context.statistics.votes.contested import compare_measures, contested_probability
from hidden_context.statistics.votes.losses import entropy_floor
from hidden_context.statistics.votes.posterior import log_chance

LABELS: Final = {
    "model": "model of texts",
    "linear": "linear model of texts",
    "length": "length alone",
    "constant": "a constant",
}


def score_models(items: Items, found: Forecast, seed: int = 0) -> list[Score]:
    """Score every model on votes it did not see, with intervals by group."""
    judged = items.votes.table.counts.judged
    chances = {
        name: split_given(answers, items)[judged]
        for name, answers in found.answers.items()
        if name != "constant"
    }
    split, group = items.split[judged], items.group[judged]
    compared = compare_measures(chances, split, group, resamples=499, seed=seed)
    areas = {each.name: each.auroc for each in compared}
    votes, how, none = items.counts.sum(1), vars(Resampling(seed=seed)), Interval.without_ends()
    losses = {
        name: ratio_interval(loss_of(items, answers), votes, items.group, **how)
        for name, answers in found.answers.items()
    }
    return [Score(name, LABELS[name], losses[name], areas.get(name, none)) for name in losses]


def loss_of(items: Items, answers: Floats) -> Floats:
    """Sum of the three-way losses of each item's votes in nats, of shape ``(I,)``."""
    return np.asarray(-(items.counts * np.log(answers)).sum(1))


def floor_of(items: Items) -> float:
    """Entropy of the observed shares in nats per vote."""
    entropy, votes = entropy_floor(items.votes.table.counts)[1], items.counts.sum(1)
    return float(entropy @ votes / votes.sum())


def judge_models(items: Items, found: Forecast, seed: int = 0) -> tuple[str, list[str]]:
    """Say whether the model of texts beats length and a constant, and which it does not beat.

    Returns:
        A sentence, and lines of what could not be predicted.
    """
    votes, own = items.counts.sum(1), loss_of(items, found.answers["model"])
    said, failed = [], []
    for name in ("length", "constant"):
        saved = own - loss_of(items, found.answers[name])
        gain = ratio_interval(saved, votes, items.group, **vars(Resampling(seed=seed)))
        if gain.high < 0 or (not np.isfinite(gain.high) and gain.estimate < 0):
            sure = "" if np.isfinite(gain.high) else " (too few groups to be sure)"
            said.append(f"{-gain.estimate:.3f} nats per vote better than {LABELS[name]}{sure}")
        else:
            failed.append(LABELS[name])
    missing = []
    if failed:
        missing.append(f"The texts do not predict votes better than {' or '.join(failed)} does.")
    if not said:
        return "The texts do not predict how people vote on new items.", missing
    return f"On items of groups it did not see, the model is {' and '.join(said)}.", missing


SHOWN: Final = 10
_DRAWS: Final = 48
_LEAST: Final = 1e-9
_STRENGTHS: Final = 2.0 ** np.arange(-1, 8)


def most_split(items: Items, topics: Topics, answers: Floats | None) -> list[Item]:
    """List the ten items on which two people most likely take opposite sides.

    Args:
        items: The items.
        topics: Topics of the items.
        answers: Predicted answers, of shape ``(I, 3)``; None without a forecast.

    Returns:
        Split items, most likely opposite first; one of each prompt, as long as there are prompts.
    """
    counts = items.counts
    prior = answers
    if prior is None:
        total = counts.sum(0) + 0.5
        if items.are_pairs:  # which side is first means nothing
            total = (total + total[::-1]) / 2
        prior = np.tile(total / total.sum(), (len(items), 1))
    opposite = opposite_sides(prior, counts)
    split = items.split & (counts[:, 0] > 0) & (counts[:, 2] > 0)
    order = np.argsort(-opposite, kind="stable")
    order = order[split[order]]
    comes_again = places(items.prompt[order]) > 0  # one item of each prompt first, then more
    shown = order[np.sort(np.argsort(comes_again, kind="stable")[:SHOWN])]
    return [_item(items, topics, answers, n, float(opposite[n])) for n in shown.tolist()]


def opposite_sides(prior: Floats, counts: Floats) -> Floats:
    r"""Probability that two people take opposite sides on an item, by votes and forecast together.

    The shares of an item have a Dirichlet prior with the forecast as its mean. It weighs as many
    votes m as makes all votes most likely. With a = m p + n,

    .. math:: 2\, a_1 a_3 / (A (A + 1)), \qquad A = \sum_k a_k

    Args:
        prior: Predicted probabilities of first, equal and second, of shape ``(I, 3)``.
        counts: Votes, of shape ``(I, 3)``.

    Returns:
        Probabilities of shape ``(I,)``.

    Source: Mosimann (1962) for the Dirichlet-multinomial distribution.
    """
    after = prior_votes(prior, counts) * prior + counts
    total = after.sum(1)
    return np.asarray(2 * after[:, 0] * after[:, 2] / (total * (total + 1)))


def prior_votes(prior: Floats, counts: Floats) -> float:
    """How many votes a forecast is worth: the m that makes the votes most likely, ½ to 128.

    An item with a single vote has no part in it: the vote is as likely with every m.

    Args:
        prior: Predicted probabilities of first, equal and second, of shape ``(I, 3)``.
        counts: Votes, of shape ``(I, 3)``.
    """
    fits = [log_chance(each * prior, counts).sum() for each in _STRENGTHS]
    return float(_STRENGTHS[int(np.argmax(fits))])


def split_given(answers: Floats, items: Items) -> Floats:
    """Probability that an item's votes come out split, if each is drawn by the same answers.

    Args:
        answers: Probabilities of first, equal and second, of shape ``(I, 3)``.
        items: The items, whose numbers of votes count.

    Returns:
        Probabilities of shape ``(I,)``.
    """
    votes = np.maximum(np.rint(items.counts.sum(1)), 1).astype(np.int64)
    if items.has_few_votes:
        return np.asarray(1 - (answers ** votes[:, None]).sum(1))
    return contested_probability(answers, votes)


def chance_of_split(prior: Floats, items: Items, seed: int = 0) -> Floats:
    """Probability that an item's votes come out split, of shape ``(I,)``.

    The item's shares are drawn around the forecast, from a Dirichlet distribution that is worth
    ``prior_votes``: what the texts do not say moves them too.

    Args:
        prior: Predicted probabilities of first, equal and second, of shape ``(I, 3)``.
        items: The items.
        seed: Seed of the draws.
    """
    strength = prior_votes(prior, items.counts)
    generator = np.random.default_rng(seed)
    total = np.zeros(len(prior))
    for _ in range(_DRAWS):
        shares = np.maximum(generator.standard_gamma(strength * prior), _LEAST)
        total += split_given(shares / shares.sum(1, keepdims=True), items)
    return total / _DRAWS


def calibrated(chance: Floats, items: Items, seed: int = 0) -> Floats:
    """Calibrate the chances of being split on the items of other groups.

    By logistic regression of being split on the chance's log-odds, cross-fitted over groups.

    Args:
        chance: Probabilities of shape ``(I,)``.
        items: The items.
        seed: Seed of the folds.

    Returns:
        Probabilities of shape ``(I,)``; as they were where all items are of one group.
    """
    found = chance.copy()
    split = np.stack([items.split, ~items.split], axis=1).astype(np.float64)
    inside = np.clip(chance, _LEAST, 1 - _LEAST)
    odds = np.log(inside / (1 - inside))[:, None]
    if items.group.max() == 0:
        return found
    groups = np.stack([items.group, items.group], axis=1)
    for learn, held_out in group_folds(groups, FOLDS, seed):
        rows = learn & items.votes.table.counts.judged
        if rows.any():
            fit = fit_share(odds[rows], split[rows], items.group[rows], intercept=True)
            found[held_out] = fit(odds[held_out])
    return found


def _item(
    items: Items, topics: Topics, answers: Floats | None, number: int, opposite: float
) -> Item:
    sides = [items.first[number], items.second[number]]
    responses = [items.responses[side].shown for side in sides if side != NOBODY]
    prompt = items.prompts[int(items.prompt[number])]
    first, equal, second = items.counts[number].tolist()
    return Item(
        place=items.places[number],
        topic=topics.name(number),
        prompt="" if prompt in responses else shortened(prompt),
        responses=[shortened(response) for response in responses],
        first=first,
        equal=equal,
        second=second,
        predicted=[] if answers is None else answers[number].tolist(),
        opposite=opposite,
    )
