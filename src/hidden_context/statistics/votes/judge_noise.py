r"""How often a judge contradicts itself, and how much of its disagreement that explains.

A judge, such as a language model, is asked about two responses in both orders, perhaps several
times. Let p be its probabilities of the three answers to an item (first, equal, second), over
orders and repetitions, and q the probabilities of people's answers. An answer of the judge and an
independent answer of a person differ with probability

.. math:: D_{pq} = 1 - \sum_k p_k q_k
    = \tfrac12 D_{pp} + \tfrac12 D_{qq} + \tfrac12 \sum_k (p_k - q_k)^2 ,

so the judge's disagreement with people has three parts: the judge's noise, the disagreement of
people among themselves, and a lasting difference. All three are estimated without bias from pairs
of distinct answers; an estimate of the third can therefore lie below 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from hidden_context.errors import ConfigError
from hidden_context.statistics.checks import Codes, Floats, numbered, quotient
from hidden_context.statistics.interval import Interval, cluster_interval, cluster_sums, ratio
from hidden_context.statistics.means import ratio_interval
from hidden_context.statistics.votes.krippendorff import alpha, coincidences

Repeats = Literal["repeated", "taken_as_fixed", "unknown"]
"""How the noise of a judge is known; see ``JudgeNoise.repeats``."""

_ANSWERS: Final = 3
_NOTHING: Final = Interval.without_ends()


@dataclass(frozen=True)
class JudgeNoise:
    """The consistency of a judge's answers.

    Attributes:
        items: Number of items with two answers or more.
        alpha: Krippendorff's α of the judge's answers to one item.
        other_order: Probability that the answer differs when the two responses change places; NaN
            if only one order was asked.
        same_order: Probability that two answers to one question differ; NaN if no question was
            asked twice.
        leaning: Position bias: how much more often the judge chooses the response shown first than
            the response shown second.
        itself: Probability that two answers to an item differ, with a random order for each.
        repeats: ``repeated`` if questions were asked twice; ``taken_as_fixed`` if each was asked
            once, in both orders, and the same question is assumed to get the same answer;
            ``unknown`` if nothing was asked twice.
    """

    items: int
    alpha: Interval
    other_order: Interval
    same_order: Interval
    leaning: Interval
    itself: Interval
    repeats: Repeats


@dataclass(frozen=True)
class JudgeAndPeople:
    """A comparison of a judge's answers with people's answers, on items that both judged.

    Attributes:
        items: Number of items with answers of the judge and votes of two people or more. If there
            are none, items with a single vote, which do not show how far people disagree.
        differ: Probability that an answer of the judge and an answer of a person differ.
        settled: Probability that the judge's settled answer and an answer of a person differ; NaN
            if no settled answer is given.
        people: Probability that the answers of two people differ; NaN if each item has one vote.
        kappa: Cohen's κ of an answer of the judge and an answer of a person. The names of the sides
            have no meaning, so both sides are equally likely by chance.
        people_kappa: Cohen's κ of the answers of two people.
        noise: Share of ``differ`` that is the judge's own noise; NaN if the noise is unknown.
        among_people: Share of ``differ`` that is the disagreement of people among themselves.
        lasting: The rest of ``differ``, which would remain however often everyone was asked.
            Unknown parts are included here.
    """

    items: int
    differ: Interval
    settled: Interval
    people: Interval
    kappa: Interval
    people_kappa: Interval
    noise: Interval
    among_people: Interval
    lasting: Interval


def judge_noise(answers: Floats, group: Codes | None = None, *, seed: int = 0) -> JudgeNoise:
    """Measure how often a judge changes its answer when it is asked again.

    Args:
        answers: Counts of the judge's answers by item, order and answer, ``(I, 2, 3)``. In order 0
            the item's first side was shown first, in order 1 the second side. The answers are
            first, equal and second. Abstentions are left out.
        group: Number of each item's group, ``(I,)``; the bootstrap resamples groups. None makes
            each item a group.
        seed: Seed of the bootstrap.

    Returns:
        Probabilities with 95 % intervals by group; NaN where the data do not allow an estimate.

    Raises:
        ConfigError: If the shape is wrong, or there are no items.
    """
    found = _asked(answers)
    codes = numbered(group, len(answers), "group")
    several = answers.sum((1, 2)) > 1
    own = _NOTHING
    if several.any():
        own = alpha(answers.sum(1)[several], codes[several], mirrored=True, seed=seed)
    return JudgeNoise(
        items=int(several.sum()),
        alpha=own,
        other_order=_mean(found.other_order, codes, (0, 1), seed),
        same_order=_mean(found.same_order, codes, (0, 1), seed),
        leaning=_mean(found.leaning, codes, (-1, 1), seed),
        itself=_mean(found.itself, codes, (0, 1), seed),
        repeats=found.repeats,
    )


def judge_and_people(
    answers: Floats,
    people: Floats,
    group: Codes | None = None,
    *,
    settled: Floats | None = None,
    seed: int = 0,
) -> JudgeAndPeople | None:
    """Split a judge's disagreement with people into noise, disagreement of people, and the rest.

    Args:
        answers: Counts of the judge's answers, ``(I, 2, 3)``; see ``judge_noise``.
        people: Counts of people's votes by answer, ``(I, 3)``.
        group: Number of each item's group, ``(I,)``.
        settled: The judge's settled answer, as a count of 1 by answer, ``(I, 3)``; 0 for none.
        seed: Seed of the bootstrap.

    Returns:
        Probabilities and shares with 95 % intervals by group; None if no item has both an answer of
        the judge and a vote.

    Raises:
        ConfigError: If a shape is wrong, or there are no items.
    """
    found = _asked(answers)
    if people.shape != (len(answers), _ANSWERS):
        raise ConfigError(f"people's votes need the shape ({len(answers)}, 3), not {people.shape}.")
    known = found.repeats != "unknown"
    judged = np.isfinite(found.itself) if known else np.isfinite(found.shares).all(1)
    several = judged & (people.sum(1) > 1)
    rows = several if several.any() else judged & (people.sum(1) > 0)
    if not rows.any():
        return None
    noise = found.itself[rows] if known else np.zeros(int(rows.sum()))
    columns = _columns(found.shares[rows], people[rows], noise)
    codes = numbered(group, len(answers), "group")[rows]
    sums = cluster_sums(columns, codes)

    def mean(column: int) -> Interval:
        return cluster_interval(sums[:, [column, _ONE]], ratio, bounds=(0, 1), seed=seed)

    def of_differ(*weights: float) -> Interval:
        def share(totals: Floats) -> Floats:
            return quotient(totals[..., :_ONE] @ np.array(weights), totals[..., _DIFFER])

        return cluster_interval(sums, share, seed=seed)

    def kappa(start: int) -> Interval:
        return cluster_interval(sums[:, start : start + _ANSWERS**2], _kappa, seed=seed)

    agrees = np.full(len(codes), np.nan)
    if settled is not None:
        own, votes = settled[rows], people[rows]
        agrees = np.where(own.sum(1) > 0, (own * votes).sum(1) / votes.sum(1), np.nan)
    unknown = () if known else ("noise",)
    if not several.any():
        unknown = (*unknown, "people", "people_kappa", "among_people")
    parts = {
        "differ": mean(_DIFFER),
        "settled": _mean(1 - agrees, codes, (0, 1), seed),
        "people": mean(_PEOPLE),
        "kappa": kappa(_ONE + 1),
        "people_kappa": kappa(_ONE + 1 + _ANSWERS**2),
        "noise": of_differ(0.5, 0, 0),
        "among_people": of_differ(0, 0.5, 0),
        "lasting": of_differ(-0.5, -0.5, 1),
    }
    return JudgeAndPeople(int(rows.sum()), **(parts | dict.fromkeys(unknown, _NOTHING)))


_PEOPLE, _DIFFER, _ONE = 1, 2, 3
"""Columns behind the judge's noise: how people differ, how a person and the judge do, and 1."""


def _columns(shares: Floats, people: Floats, noise: Floats) -> Floats:
    """Return the columns to sum: three probabilities to differ, 1, and two tables of answers.

    A single vote is paired with itself, which says nothing about disagreement among people.
    """
    votes = people.sum(1)[:, None, None]
    mixed = shares[:, :, None] * people[:, None, :] / votes
    single = people[:, :, None] * np.eye(_ANSWERS)
    among = np.where(votes > 1, coincidences(people), single) / votes
    # which of the two sides is called first has no meaning
    tables = [(each + each[:, ::-1, ::-1]) / 2 for each in (mixed, among)]
    same = [np.trace(table, axis1=1, axis2=2) for table in tables]
    columns = np.stack([noise, 1 - same[1], 1 - same[0], np.ones(len(noise))], axis=1)
    return np.concatenate([columns, *(table.reshape(len(noise), -1) for table in tables)], axis=1)


@dataclass(frozen=True, eq=False)
class _Asked:
    """Statistics of the answers to each of I items; NaN where nothing is known."""

    shares: Floats
    """``(I, 3)``, probabilities of the answers, the order drawn."""
    other_order: Floats
    same_order: Floats
    leaning: Floats
    itself: Floats
    repeats: Repeats


def _asked(answers: Floats) -> _Asked:
    """Compute each item's statistics of the judge's noise from counts ``(I, 2, 3)``."""
    if answers.ndim != 3 or answers.shape[1:] != (2, _ANSWERS) or not len(answers):
        raise ConfigError(
            f"answers need the shape (items, 2, 3) and one item at least, not {answers.shape}."
        )
    asked = answers.sum(2)
    shares = quotient(answers, asked[:, :, None])
    again = 1 - quotient((answers * (answers - 1)).sum(2), asked * (asked - 1))
    again[asked < 2] = np.nan
    if not asked.all(1).any():  # at most one order was asked of each item
        one = (asked[:, 1] > 0).astype(np.int64)
        rows = np.arange(len(answers))
        itself, missing = again[rows, one], np.full(len(answers), np.nan)
        repeats: Repeats = "repeated" if np.isfinite(itself).any() else "unknown"
        return _Asked(shares[rows, one], missing, itself, missing, itself, repeats)
    other_order, same_order = 1 - (shares[:, 0] * shares[:, 1]).sum(1), again.mean(1)
    lead = shares[:, :, 0] - shares[:, :, 2]
    leaning = (lead[:, 0] - lead[:, 1]) / 2
    is_repeated = bool(np.isfinite(same_order).any())
    itself = (other_order + (same_order if is_repeated else 0)) / 2
    repeats = "repeated" if is_repeated else "taken_as_fixed"
    return _Asked(shares.mean(1), other_order, same_order, leaning, itself, repeats)


def _mean(values: Floats, codes: Codes, bounds: tuple[float, float], seed: int) -> Interval:
    known = np.isfinite(values)
    ones = np.ones(int(known.sum()))
    return ratio_interval(values[known], ones, codes[known], bounds=bounds, seed=seed)


def _kappa(totals: Floats) -> Floats:
    """Return Cohen's κ ``(...)`` from joint frequencies ``(..., 9)`` of two answers."""
    joint = totals.reshape(*totals.shape[:-1], _ANSWERS, _ANSWERS)
    joint = joint / joint.sum((-1, -2), keepdims=True)
    same = np.trace(joint, axis1=-2, axis2=-1)
    chance = (joint.sum(-1) * joint.sum(-2)).sum(-1)
    return quotient(same - chance, 1 - chance)
