"""What models foretell of votes they did not see: each item by models fitted without its group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from hidden_context.baselines.pairs import group_folds
from hidden_context.check.features import Features
from hidden_context.check.items import NOBODY, Items
from hidden_context.check.probe import fit_probe
from hidden_context.check.shares import fit_share
from hidden_context.statistics.checks import Codes, Floats
from hidden_context.statistics.votes import Booleans

FOLDS: Final = 4
LEAST: Final = 1e-4
"""No answer is foretold with a smaller probability."""
_FEWEST_ITEMS: Final = 20
_TIE_FEATURES: Final = 30


@dataclass(frozen=True, eq=False)
class Forecast:
    """Answers foretold of I items, each by models that never saw its group.

    Attributes:
        answers: By model (``model``, ``linear``, ``length``, ``constant``) the probabilities of
            first, equal and second, each of shape ``(I, 3)``.
        values: By risk measure the values of the first and the second response, each of shape
            ``(I, 2)``; empty for ratings.
        folds: Number of folds.
    """

    answers: dict[str, Floats]
    values: dict[str, Floats]
    folds: int


def forecast(
    items: Items, features: Features, measures: Sequence[str], seed: int = 0
) -> Forecast | None:
    """Foretell every item's answers by cross-fitting over groups.

    Where all items are of one group, folds are by item.

    Args:
        items: The items.
        features: Learns and computes the features of responses.
        measures: Risk measures by which pairs are to be compared.
        seed: Of folds and models.

    Returns:
        The forecast; None for fewer than 20 items, or where no item has a vote to learn from.
    """
    if len(items) < _FEWEST_ITEMS:
        return None
    folds = list(group_folds(np.stack([items.group, items.group], axis=1), FOLDS, seed))
    found: Forecast | None = None
    for learn, held_out in folds:
        fold = predict_fold(items, features, np.flatnonzero(learn), measures, seed)
        found = fold if found is None else _put(found, fold, held_out)
    return None if found is None else replace(found, folds=len(folds))


def _put(found: Forecast, fold: Forecast, held_out: Booleans) -> Forecast:
    """Take over a fold's held-out items."""
    for old, new in ((found.answers, fold.answers), (found.values, fold.values)):
        for name, values in old.items():
            values[held_out] = new[name][held_out]
    return found


def predict_fold(
    items: Items, features: Features, learn: Codes, measures: Sequence[str], seed: int
) -> Forecast:
    r"""Fit all models on some items and foretell all of them.

    Each model says how likely somebody answers ``equal``, and which side is better otherwise:

    .. math:: P(\text{first}) = (1 - e)\, p, \quad P(\text{equal}) = e, \quad
        P(\text{second}) = (1 - e)(1 - p)

    p is a logistic regression's of differences of features; for ``model`` it is the mean of that
    and a probe's. e is a logistic regression's of what does not change when the sides change
    places. A rated text is compared with a text that is the same for all items.

    Args:
        items: The items.
        features: Learns and computes the features of responses.
        learn: Items to learn from, indices.
        measures: Risk measures by which pairs are to be compared.
        seed: Of the models.

    Returns:
        The forecast of all items, of which those not learned from are of use.
    """
    design = design_of(items, features, learn)
    first, second = (
        items.first,
        np.where(items.second == NOBODY, len(items.responses), items.second),
    )
    counts, groups = items.counts[learn], items.group[learn]
    sides = counts[:, [0, 2]] + counts[:, [1]] / 2
    equal = np.stack([counts[:, 1], counts[:, 0] + counts[:, 2]], axis=1)

    def leaning(columns: Floats) -> Floats:
        difference = columns[first] - columns[second]
        return fit_share(difference[learn], sides, groups, intercept=False)(difference)

    def ties(columns: Floats) -> Floats:
        one, other = columns[first], columns[second]
        both = np.concatenate([np.abs(one - other), one + other], axis=1)
        return fit_share(both[learn], equal, groups, intercept=True)(both)

    constant, length = design[:, :1], design[:, :2]
    tie_columns = ties(design[:, : 2 + _TIE_FEATURES])
    linear = leaning(design)
    probe = fit_probe(design, first, second, sides, groups, learn, measures, seed)
    parts = {
        "model": ((probe.first + linear) / 2, tie_columns),
        "linear": (linear, tie_columns),
        "length": (leaning(length), ties(length)),
        "constant": (leaning(constant), ties(constant)),
    }
    answers = {name: _answers(p, e, counts[:, 1].sum() > 0) for name, (p, e) in parts.items()}
    return Forecast(answers, probe.values if items.are_pairs else {}, 0)


def design_of(items: Items, features: Features, learn: Codes) -> Floats:
    """Return features of R responses and of the text that ratings are compared with.

    The first column marks that text, the second is the length, the others are of one scale.

    Args:
        items: The items.
        features: Learns and computes the features of responses.
        learn: Items to learn from, indices.

    Returns:
        Features of shape ``(R + 1, D)``.
    """
    used = np.unique(np.concatenate([items.first[learn], items.second[learn]]))
    used = used[used != NOBODY]
    columns = features(used)
    columns = columns - columns[used].mean(0)
    size = np.sqrt(np.square(columns[used]).sum(1).mean())
    columns = columns * (np.sqrt(columns.shape[1]) / size if size > 0 else 0.0)
    length = items.length - items.length[used].mean()
    spread = length[used].std()
    length = length / spread if spread > 0 else np.zeros_like(length)
    design = np.zeros((len(items.responses) + 1, 2 + columns.shape[1]))
    design[:-1, 1], design[:-1, 2:] = length, columns
    design[-1, 0] = -1.0
    return design


def _answers(first: Floats, equal: Floats, has_ties: bool) -> Floats:
    equal = equal if has_ties else np.zeros_like(equal)
    answers = np.stack([(1 - equal) * first, equal, (1 - equal) * (1 - first)], axis=1)
    answers = np.maximum(answers, LEAST)
    return np.asarray(answers / answers.sum(1, keepdims=True))
