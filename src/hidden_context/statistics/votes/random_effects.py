"""Empirical Bayes estimates of how far each person's tendency lies from the typical one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.optimize import minimize
from scipy.sparse import coo_array

from hidden_context.errors import ConfigError
from hidden_context.statistics.checks import Booleans, Codes, Floats, quotient
from hidden_context.statistics.interval import Interval
from hidden_context.statistics.votes.tilts import Tilt

_REACH: Final = 10.0
_NODES: Final = 81
_NUMBERS: Final = 2_000_000
_FINEST, _COARSEST = 40, 5
_MOST_PEOPLE: Final = 20_000
_BLOCK: Final = 4096
_SCALES: Final = 15
_STEP: Final = 0.02


@dataclass(frozen=True, eq=False)
class Effects:
    """Estimates of one tendency for each of A people, on the scale of its pull t in [0, 1].

    Attributes:
        name: Name of the tendency.
        votes: ``(A,)``, number of informative votes.
        raw: ``(A,)``, mean of t over a person's own votes; NaN without a vote.
        mean: ``(A,)``, posterior mean of t on the average item, if this person judged all items.
        low: ``(A,)``, lower end of the posterior interval.
        high: ``(A,)``, upper end.
        typical: Mean of t on the average item for a person in the middle of the population.
        spread: Standard deviation of the tendencies b in the population, in logits.
        above: ``(A,)``, who lies above ``typical`` with a probability of more than (1 + level)/2.
        below: ``(A,)``, who lies below ``typical``, likewise.
        wrong_sign: Expected number of these people who truly lie on the other side of ``typical``,
            according to the posterior.
        level: Level of the intervals.
    """

    name: str
    votes: Codes
    raw: Floats
    mean: Floats
    low: Floats
    high: Floats
    typical: float
    spread: Interval
    above: Booleans
    below: Booleans
    wrong_sign: float
    level: float

    @property
    def clear(self) -> Booleans:
        """Who lies clearly away from ``typical``, ``(A,)``."""
        return np.asarray(self.above | self.below)


def random_effects(
    tilt: Tilt,
    answer: Codes,
    annotator: Codes,
    people: int,
    *,
    weight: Floats | None = None,
    level: float = 0.95,
) -> Effects:
    r"""Estimate every person's tendency with a posterior.

    The tendencies b of ``tilt`` have a normal prior, whose mean and scale are learned from all
    votes. The mean and scale are integrated over with flat priors, so that a few people with few
    votes are not all estimated alike because of a scale of 0. A person's posterior is exact, on a
    grid from −10 to 10. Estimates for people with few votes are shrunk towards the typical person,
    more strongly the more alike people are. Intervals can therefore be read for all people at once,
    without a correction for multiple comparisons.

    A tendency is reported as the mean of t over all informative votes,
    :math:`m(b) = \operatorname{mean}_v \sum_k P_b(k \mid v)\, t_{vk}`, which increases in b: a
    probability, or a share, on the average item.

    Args:
        tilt: The tendency.
        answer: Answers of all votes, ``(V,)``.
        annotator: Annotator who cast each vote, ``(V,)``.
        people: A, number of people.
        weight: Weight of each vote, ``(V,)``; 1 each if not given.
        level: Level of the intervals.

    Returns:
        Posteriors of all A people; people without an informative vote have the population's
        distribution.

    Raises:
        ConfigError: If there are no people, or the level is not between 0 and 1.
    """
    if people < 1:
        raise ConfigError("no annotator is named, so there is no tendency to estimate.")
    if not 0 < level < 1:
        raise ConfigError(f"level is {level}; it has to lie strictly between 0 and 1.")
    who = annotator[tilt.row]
    weights = np.ones(len(tilt.row)) if weight is None else weight[tilt.row]
    chosen = tilt.of_answers(answer)
    votes = np.bincount(who, minlength=people)
    sums = np.bincount(who, weights * chosen, people)
    raw = quotient(sums, np.bincount(who, weights, people))
    nodes = np.linspace(-_REACH, _REACH, _NODES)
    likelihood, curve = _on_nodes(tilt, nodes, chosen, who, weights, people)
    between = int(np.clip(_NUMBERS // (people * _NODES), _COARSEST, _FINEST))
    grid = np.linspace(-_REACH, _REACH, (_NODES - 1) * between + 1)
    telling = np.flatnonzero(votes)
    if len(telling) > _MOST_PEOPLE:  # enough to learn the prior from
        telling = np.random.default_rng(0).choice(telling, _MOST_PEOPLE, replace=False)
    priors = _likely_priors(_evidence(likelihood[telling], nodes, grid), grid)
    tail, units, blocks = (1 - level) / 2, CubicSpline(nodes, curve), []
    for block in np.array_split(likelihood, -(-people // _BLOCK)):
        posterior, lower = _posterior(_evidence(block, nodes, grid), grid, priors)
        ends = [units(_quantile(posterior, grid, p)) for p in (tail, 1 - tail)]
        blocks.append(np.stack([posterior @ units(grid), *ends, lower]))
    mean, low, high, below = np.concatenate(blocks, axis=1)
    clear = (below < tail) | (below > 1 - tail)
    return Effects(
        name=tilt.name,
        votes=votes,
        raw=raw,
        mean=mean,
        low=low,
        high=high,
        typical=float(units(priors.weight @ priors.middle)),
        spread=priors.interval(level),
        above=below < tail,
        below=below > 1 - tail,
        wrong_sign=float(np.minimum(below, 1 - below)[clear].sum()),
        level=level,
    )


def _evidence(likelihood: Floats, nodes: Floats, grid: Floats) -> Floats:
    """Return each person's likelihood on the fine grid, scaled to a maximum of 1, ``(A, G)``."""
    fine = CubicSpline(nodes, likelihood, axis=1)(grid)
    return np.asarray(np.exp(fine - fine.max(1, keepdims=True)))


@dataclass(frozen=True, eq=False)
class _Priors:
    """H normal priors and how likely each is: mean, scale, and weights that sum to 1, ``(H,)``."""

    middle: Floats
    spread: Floats
    weight: Floats

    def on(self, grid: Floats) -> Floats:
        """Return the priors on a grid, ``(H, G)``, each of sum 1."""
        squared = np.square((grid - self.middle[:, None]) / self.spread[:, None]) / 2
        mass = np.exp(squared.min(1, keepdims=True) - squared)
        return np.asarray(mass / mass.sum(1, keepdims=True))

    def interval(self, level: float) -> Interval:
        """Return the mean of the scale with the interval of its posterior."""
        order = np.argsort(self.spread)
        total = np.cumsum(self.weight[order])
        ends = [
            self.spread[order][np.searchsorted(total, p)]
            for p in ((1 - level) / 2, (1 + level) / 2)
        ]
        low = 0.0 if ends[0] <= self.spread.min() else float(ends[0])
        mean = float(self.weight @ self.spread)
        return Interval(mean, low, float(ends[1]), level, "posterior")


def _on_nodes(
    tilt: Tilt, nodes: Floats, chosen: Floats, who: Codes, weights: Floats, people: int
) -> tuple[Floats, Floats]:
    """Return log-likelihoods ``(A, G)`` and the mean of t over all votes, ``(G,)``.

    Votes on items that look alike, as most do, are merged into one row.
    """
    columns = np.concatenate([tilt.log_typical, tilt.pull], axis=1)
    rows, place = np.unique(columns, axis=0, return_inverse=True)
    log_typical, pull = rows[:, :3], rows[:, 3:]
    logits = log_typical[..., None] + nodes * pull[..., None]
    top = logits.max(1)
    mass = np.exp(logits - top[:, None])
    total = mass.sum(1)
    mean = (mass * pull[..., None]).sum(1) / total
    of_people = coo_array((weights, (who, place.ravel())), (people, len(rows))).tocsr()
    likelihood = np.outer(np.bincount(who, weights * chosen, people), nodes)
    likelihood -= of_people @ (np.log(total) + top)
    return likelihood, np.average(mean, axis=0, weights=np.bincount(place.ravel(), weights))


def _log_evidence(evidence: Floats, grid: Floats, middle: Floats, spread: Floats) -> Floats:
    """Return the log-likelihood of all votes under each of H priors, ``(H,)``."""
    priors = _Priors(middle, spread, np.ones_like(middle)).on(grid)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(evidence @ priors.T).sum(0))


def _likely_priors(evidence: Floats, grid: Floats) -> _Priors:
    """Return a grid of the priors that the votes support, with a flat prior of the scale."""
    low, high = np.log((0.02, 4.0))

    def loss(found: Floats) -> float:
        inside = np.clip(found, [-_REACH, low], [_REACH, high])
        outside = float(np.abs(found - inside).sum())
        middle, spread = inside[:1], np.exp(inside[1:])
        return outside - float(_log_evidence(thin, thin_grid, middle, spread)[0])

    stride = max(1, round(0.1 / (grid[1] - grid[0])))
    thin, thin_grid = np.ascontiguousarray(evidence[:, ::stride]), grid[::stride]
    start = np.array([0.0, np.log(0.3)])
    found = minimize(loss, start, method="Nelder-Mead", options={"xatol": 1e-3, "fatol": 1e-3})
    best = np.clip(found.x, [-_REACH, low], [_REACH, high])
    scales = np.linspace(low, high, _SCALES)
    for _ in range(2):  # the second time, only over the scales that the votes allow
        value = scales + _log_evidence(
            evidence, grid, np.full(_SCALES, best[0]), np.exp(scales)
        )  # + scales: flat in the scale, not in its logarithm
        allowed = np.flatnonzero(value > value.max() - 8.0)
        ends = max(allowed[0] - 1, 0), min(allowed[-1] + 1, _SCALES - 1)
        scales = np.linspace(scales[ends[0]], scales[ends[1]], _SCALES)
    bend = [loss(best + np.array([side * _STEP, 0])) for side in (-1, 0, 1)]
    error = _STEP / np.sqrt(max(bend[0] - 2 * bend[1] + bend[2], 1e-6))
    middles = best[0] + error * np.arange(-2, 3)
    spread, middle = (net.ravel() for net in np.meshgrid(np.exp(scales), middles))
    value = np.log(spread) + _log_evidence(evidence, grid, middle, spread)
    weight = np.exp(value - value.max())
    return _Priors(middle, spread, weight / weight.sum())


def _posterior(evidence: Floats, grid: Floats, priors: _Priors) -> tuple[Floats, Floats]:
    """Return each person's posterior ``(A, G)``, and the probability below the prior's mean."""
    of_priors = priors.on(grid)
    mixed = priors.weight / (evidence @ of_priors.T)
    step = grid[1] - grid[0]
    # mass lies evenly around grid points
    inside = np.clip((priors.middle[:, None] - grid) / step + 0.5, 0, 1)
    below = (mixed * (evidence @ (of_priors * inside).T)).sum(1)
    return evidence * (mixed @ of_priors), np.asarray(np.clip(below, 0, 1))


def _quantile(posterior: Floats, grid: Floats, p: float) -> Floats:
    """Return a quantile of each row's distribution, ``(A,)``."""
    step = grid[1] - grid[0]
    total = np.cumsum(posterior, axis=1)
    place = np.minimum((total < p).sum(1), len(grid) - 1)
    rows = np.arange(len(posterior))
    mass = np.maximum(posterior[rows, place], 1e-300)
    into = np.clip((p - (total[rows, place] - mass)) / mass, 0, 1)
    return np.asarray(np.clip(grid[place] + step * (into - 0.5), grid[0], grid[-1]))
