"""Vote shares predicted from texts, from repeated responses, and from groups.

By logistic regression with normal priors, whose posterior is taken for a normal: means and
variances. Items are rows with features of their texts, and with effects of what several items have
in common (a response that was compared with many others, a group). Only what is used by the rows is
stored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from scipy import linalg
from scipy.sparse import coo_array, csr_array, diags_array, hstack
from scipy.special import expit

from hidden_context.check.features import Features
from hidden_context.check.items import NOBODY, Items
from hidden_context.check.predict import LEAST, design_of
from hidden_context.statistics.checks import Codes, Floats

_TOLERANCE: Final = 1e-6
_ROWS: Final = 4096


@dataclass(frozen=True, eq=False)
class Design:
    """Features of I items.

    Attributes:
        texts: Features of the texts, of shape ``(I, T)``.
        effects: Which effects are in which item, with their sign, sparse, ``(I, E)``.
    """

    texts: Floats
    effects: csr_array

    @property
    def columns(self) -> int:
        """Number T + E of weights."""
        return int(self.texts.shape[1] + self.effects.shape[1])

    def times(self, weights: Floats) -> Floats:
        """Scores of shape ``(I,)``."""
        cut = self.texts.shape[1]
        return np.asarray(self.texts @ weights[:cut] + self.effects @ weights[cut:])

    def sums(self, values: Floats) -> Floats:
        """Sum the items' features, each times a value, of shape ``(T + E,)``."""
        return np.concatenate([self.texts.T @ values, self.effects.T @ values])

    def products(self, weight: Floats) -> Floats:
        """Weighted products of the features, of shape ``(T + E, T + E)``."""
        used = np.flatnonzero(weight > 0)
        texts, effects = self.texts[used], self.effects[used]
        weighed = weight[used, None] * texts
        cross = np.asarray(effects.T @ weighed)
        own = np.asarray((effects.T @ diags_array(weight[used]) @ effects).toarray())
        return np.block([[texts.T @ weighed, cross.T], [cross, own]])

    def variances(self, covariance: Floats) -> Floats:
        """Variances of the scores by a covariance of the weights, of shape ``(I,)``."""
        found = np.empty(len(self.texts))
        cut = self.texts.shape[1]
        for start in range(0, len(found), _ROWS):
            part = slice(start, start + _ROWS)
            texts, effects = self.texts[part], self.effects[part]
            product = texts @ covariance[:cut] + effects @ covariance[cut:]
            by_texts = (product[:, :cut] * texts).sum(1)
            by_effects = np.asarray(effects.multiply(product[:, cut:]).sum(axis=1)).reshape(-1)
            found[part] = by_texts + by_effects
        return found


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of I items: the log-odds of one answer against the others.

    Attributes:
        mean: With all votes, of shape ``(I,)``.
        others: Without the item's own votes, of shape ``(I,)``.
        others_variance: Variance of ``others``, of shape ``(I,)``.
        evidence: Log-probability of all votes under the priors, by Laplace's method, in nats.
    """

    mean: Floats
    others: Floats
    others_variance: Floats
    evidence: float


def fit_scores(design: Design, yes: Floats, no: Floats, precision: Floats) -> Scores:
    r"""Fit log-odds of votes, with and without each item's own votes.

    Weights are normal with mean 0 and the precisions given; their posterior is taken for a normal
    around its mode, found by Newton's method. An item with information w = n p (1 − p), slope
    g = yes − n p and variance v would have without its own votes

    .. math:: v' = \frac{v}{1 - w v}, \qquad s' = s - v' g

    Args:
        design: The features.
        yes: Votes for the answer, of shape ``(I,)``.
        no: Votes against it, of shape ``(I,)``.
        precision: Prior precision of each weight, of shape ``(T + E,)``.

    Returns:
        The scores.
    """
    votes = yes + no
    weights, factor = np.zeros(design.columns), None
    loss, score = _loss(design, weights, yes, votes, precision)
    for _ in range(25):
        chance = expit(score)
        slope = design.sums(votes * chance - yes) + precision * weights
        curve = design.products(votes * chance * (1 - chance))
        curve[np.diag_indices_from(curve)] += precision
        factor = linalg.cho_factor(curve, overwrite_a=True, check_finite=False)
        step = linalg.cho_solve(factor, slope)
        ends = step @ slope < _TOLERANCE * max(float(votes.sum()), 1.0)
        while True:
            moved = _loss(design, weights - step, yes, votes, precision)
            if moved[0] <= loss + _TOLERANCE:
                break
            step = step / 2
        weights, (loss, score) = weights - step, moved
        if ends:
            break
    chance = expit(score)
    assert factor is not None
    variance = design.variances(linalg.cho_solve(factor, np.eye(len(weights))))
    spread = np.maximum(1 - votes * chance * (1 - chance) * variance, 0.1)
    without = variance / spread
    log_det = 2 * np.log(np.diag(factor[0])).sum() - np.log(precision).sum()
    return Scores(
        mean=score,
        others=score - without * (yes - votes * chance),
        others_variance=without,
        evidence=float(-loss - log_det / 2),
    )


def _loss(
    design: Design, weights: Floats, yes: Floats, votes: Floats, precision: Floats
) -> tuple[float, Floats]:
    score = design.times(weights)
    nats = votes @ np.logaddexp(0, score) - yes @ score
    return float(nats + (precision * weights) @ weights / 2), score


MOST_EFFECTS: Final = 1500
"""Most responses with an effect of their own; responses in the most items come first."""
_LEAN_TEXTS: Final = (0.0125, 0.05, 0.2)
_LEAN_EFFECTS: Final = (0.125, 0.5, 1.5)
_TIE_TEXTS, _TIE_EFFECTS, _TIE_GROUPS = 0.01, 0.1, 0.25
_VAGUE: Final = 25.0
_POINTS, _WEIGHTS = np.polynomial.hermite_e.hermegauss(9)


@dataclass(frozen=True)
class Sizes:
    """Variances of the priors, which set how far a forecast trusts texts.

    Attributes:
        texts: Variance of the weights of texts, for which side is better.
        effects: Variance of the effects of responses, likewise.
        ties: Factor of the usual variances, for ``equal``.
    """

    texts: float
    effects: float
    ties: float


@dataclass(frozen=True, eq=False)
class ShareForecast:
    """Predicted shares of I items, each without its own votes.

    Attributes:
        shares: Shares of first, equal and second, of shape ``(I, 3)``.
        variance: Summed variance of the three shares, of shape ``(I,)``: how unsure the forecast
            is of what a model of the texts would say with all votes.
        linear: Probability that the first side is better by texts alone, of shape ``(I,)``.
        sizes: Variances of the priors.
    """

    shares: Floats
    variance: Floats
    linear: Floats
    sizes: Sizes


def forecast_shares(items: Items, features: Features, sizes: Sizes | None = None) -> ShareForecast:
    r"""Predict shares of votes from the votes on other items.

    Two logistic regressions with normal priors say how likely a vote is for ``equal``, and which
    side is better otherwise:

    .. math:: P(\text{first}) = (1 - e)\,p, \quad P(\text{equal}) = e, \quad
        P(\text{second}) = (1 - e)(1 - p)

    p is by differences: of the texts' features, and of an effect of each response that stands in
    three items or more. e is by what does not change when the sides change places, by groups, and
    by how far apart the sides are. The priors' variances are chosen from a small grid: the ones
    that make the votes most likely. Each item is predicted as if its own votes were unknown.

    Args:
        items: The items, with or without votes.
        features: Learns and computes the features of responses.
        sizes: Variances of the priors; if not given, the ones that make the votes most likely.

    Returns:
        The forecast.
    """
    columns = design_of(items, features, np.arange(len(items)))
    first, equal, second = items.counts.T
    one, other = (columns[side] for side in items.sides)
    difference = one - other
    lean, linear, found = _lean(items, difference, first, second, sizes)
    if equal.sum() == 0:
        return _together(lean, np.zeros((2, len(items))), linear, found)
    design, variances = _tie_design(items, one, other, lean)
    fits = []
    for scale in (0.25, 1.0, 4.0) if sizes is None else (sizes.ties,):
        precision = 1 / (variances * scale)
        precision[:2] = 1 / _VAGUE, 1.0
        fits.append((fit_scores(design, equal, first + second, precision), scale))
    ties, scale = max(fits, key=lambda pair: pair[0].evidence)
    e = np.stack(_moments(ties.others, ties.others_variance))
    return _together(lean, e, linear, replace(found, ties=scale))


def _lean(
    items: Items, texts: Floats, yes: Floats, no: Floats, sizes: Sizes | None
) -> tuple[Scores, Floats, Sizes]:
    """Fit which side is better, also from texts alone."""
    effects = _effects(items, signs=(1.0, -1.0))
    design = Design(texts, effects)
    chosen = sizes or Sizes(_LEAN_TEXTS[1], _LEAN_EFFECTS[1], 1.0)
    of_effects = _LEAN_EFFECTS if sizes is None and effects.shape[1] else (chosen.effects,)
    of_texts = _LEAN_TEXTS if sizes is None else (chosen.texts,)
    _, chosen = _best(design, yes, no, [replace(chosen, effects=size) for size in of_effects])
    best, chosen = _best(design, yes, no, [replace(chosen, texts=size) for size in of_texts])
    if not effects.shape[1]:
        return best, expit(best.mean), chosen
    alone = Design(texts, csr_array((len(texts), 0)))
    linear = fit_scores(alone, yes, no, _lean_precision(alone, chosen))
    return best, expit(linear.mean), chosen


def _best(design: Design, yes: Floats, no: Floats, tried: list[Sizes]) -> tuple[Scores, Sizes]:
    """Fit with each of some sizes, and keep the one that makes the votes most likely."""
    found = [(fit_scores(design, yes, no, _lean_precision(design, each)), each) for each in tried]
    return max(found, key=lambda pair: pair[0].evidence)


def _lean_precision(design: Design, sizes: Sizes) -> Floats:
    counts = [design.texts.shape[1], design.effects.shape[1]]
    precision = np.repeat([1 / sizes.texts, 1 / sizes.effects], counts)
    precision[0] = 1 / _VAGUE  # the text that ratings are compared with
    return precision


def _tie_design(items: Items, one: Floats, other: Floats, lean: Scores) -> tuple[Design, Floats]:
    """Return a design, and the usual variances of its weights' priors."""
    one, other = one[:, : 2 + 32], other[:, : 2 + 32]
    ones, apart = np.ones((len(one), 1)), np.abs(lean.others)[:, None]
    texts = np.concatenate([ones, apart, np.abs(one - other), one + other], axis=1)
    effects, groups = _effects(items, signs=(1.0, 1.0)), _frequent([items.group], (1.0,), 200, 20)
    groups = groups if groups.shape[1] > 1 else groups[:, :0]  # of one group nothing is learned
    counts = [texts.shape[1], effects.shape[1], groups.shape[1]]
    variances = np.repeat([_TIE_TEXTS, _TIE_EFFECTS, _TIE_GROUPS], counts)
    return Design(texts, csr_array(hstack([effects, groups]))), variances


def _effects(items: Items, signs: tuple[float, float]) -> csr_array:
    """Effects of responses that stand in several items, sparse, ``(I, E)``."""
    if not items.are_pairs:
        return csr_array((len(items), 0))
    return _frequent([items.first, items.second], signs, MOST_EFFECTS, 3)


def _frequent(codes: list[Codes], signs: tuple[float, ...], most: int, fewest: int) -> csr_array:
    """Signed indicators of the codes that occur most often, sparse, ``(I, E)``."""
    uses = np.bincount(np.concatenate(codes))
    chosen = np.argsort(-uses, kind="stable")[:most]
    chosen = chosen[uses[chosen] >= fewest]
    place = np.full(len(uses), NOBODY)
    place[chosen] = np.arange(len(chosen))
    rows = [np.flatnonzero(place[each] != NOBODY) for each in codes]
    values = np.concatenate([np.full(len(r), s) for r, s in zip(rows, signs, strict=True)])
    columns = np.concatenate([place[each[r]] for each, r in zip(codes, rows, strict=True)])
    shape = (len(codes[0]), len(chosen))
    return csr_array(coo_array((values, (np.concatenate(rows), columns)), shape))


def _moments(mean: Floats, variance: Floats) -> tuple[Floats, Floats]:
    """Mean and variance of a probability whose log-odds are normal."""
    points = expit(mean[:, None] + np.sqrt(variance)[:, None] * _POINTS)
    weight = _WEIGHTS / _WEIGHTS.sum()
    found = points @ weight
    return np.asarray(found), np.asarray(((points - found[:, None]) ** 2) @ weight)


def _together(lean: Scores, equal: Floats, linear: Floats, sizes: Sizes) -> ShareForecast:
    """Combine the lean and the moments of e, ``(2, I)``; their errors are taken as independent."""
    p, p_variance = _moments(lean.others, lean.others_variance)
    e, e_variance = equal
    shares = np.stack([(1 - e) * p, e, (1 - e) * (1 - p)], axis=1)
    decided = (1 - e) ** 2 + e_variance
    variance = e_variance + 2 * decided * p_variance + e_variance * (p**2 + (1 - p) ** 2)
    shares = np.maximum(shares, LEAST)
    return ShareForecast(shares / shares.sum(1, keepdims=True), variance, linear, sizes)
