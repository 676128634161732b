"""Who disagrees: whether facts about people go with their votes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from scipy.sparse import csr_matrix
from scipy.stats import rankdata

from hidden_context.check.findings import Covariate, Level
from hidden_context.check.items import NOBODY, Items
from hidden_context.check.numbers import p_value
from hidden_context.data.votes.people import FEWEST_PEOPLE
from hidden_context.statistics.checks import Codes, Floats
from hidden_context.statistics.interval import Resampling
from hidden_context.statistics.means import ratio_interval
from hidden_context.statistics.votes.table import BETWEEN
from hidden_context.terminal import percent

RESAMPLES: Final = 999

Known = Mapping[str, Mapping[str, str | float]]


@dataclass(frozen=True, eq=False)
class _Deviations:
    """How the votes of A people deviate from other votes on the same items.

    Attributes:
        kernel: Products of two people's deviations beyond their leanings, summed over items, of
            shape ``(A, A)``; 0 on the diagonal.
        alike: Items on which both gave the same answer, of shape ``(A, A)``; likewise.
        both: Items that both judged, of shape ``(A, A)``; likewise.
        leaning: Each person's sum of deviations towards the longer response, or high, ``(A,)``.
        equal: Each person's sum of deviations towards ``equal``, ``(A,)``.
        votes: Votes on items that others judged too, of shape ``(A,)``.
    """

    kernel: Floats
    alike: Floats
    both: Floats
    leaning: Floats
    equal: Floats
    votes: Floats


def compare_covariates(
    items: Items, known: Known, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[list[Covariate], list[str]]:
    r"""Test for each covariate whether people who share it vote alike.

    A vote's deviation is its distance from the mean of the item's other votes. A person's leaning l
    is the mean deviation towards the longer response, or towards high ratings; d is what remains of
    the deviations. With x the covariate's centred columns (one for each level, or the ranks of a
    number), there are two statistics,

    .. math:: T_1 = \Bigl\|\sum_a l_a x_a\Bigr\|^2, \qquad
        T_2 = \sum_{a \ne b} (x_a \cdot x_b) \sum_i d_{ai} d_{bi}.

    People change places under the null hypothesis. The p-value is twice the smaller of the two.
    Levels of fewer than five people play no part.

    Args:
        items: The items.
        known: What is known of people, by name.
        seed: Seed of the permutations.
        resamples: Number of permutations.

    Returns:
        Covariates, smallest p first, adjusted by Holm's method; and what could not be tested.
    """
    names, missing = items.votes.names, []
    with_row = np.array([n for n, name in enumerate(names) if name in known], dtype=np.int64)
    if len(with_row) < FEWEST_PEOPLE:
        return [], [f"The table must describe five annotators or more, not {len(with_row)}."]
    deviations = _deviations(items, with_row)
    found: list[Covariate] = []
    for field in dict.fromkeys(key for name in names for key in known.get(name, {})):
        values = [known[names[number]].get(field) for number in with_row.tolist()]
        coded = _code(values)
        if isinstance(coded, str):
            missing.append(f"{field}: {coded}")
            continue
        found.append(_test(field, coded, deviations, items, seed, resamples))
    adjusted = holm([each.p_value for each in found])
    found = [_adjusted(each, p) for each, p in zip(found, adjusted, strict=True)]
    return sorted(found, key=lambda each: (each.p_value, each.name)), missing


def holm(p_values: list[float]) -> list[float]:
    """Adjust p-values by Holm's method, which bounds the probability of any false alarm.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]

    Source: Holm (1979).
    """
    order = np.argsort(p_values, kind="stable")
    factor = np.arange(len(order), 0, -1)
    raised = np.maximum.accumulate(np.asarray(p_values, dtype=np.float64)[order] * factor)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(raised, 1.0)
    return [float(p) for p in adjusted]


def _deviations(items: Items, people: Codes) -> _Deviations:
    table = items.votes.table
    place = np.full(table.annotators + 1, NOBODY)
    place[people] = np.arange(len(people))
    who = place[table.annotator]
    count = np.bincount(table.item, minlength=len(items))
    rows = np.flatnonzero((who >= 0) & (count[table.item] > 1))
    item, person = table.item[rows], who[rows]

    def away(values: Floats) -> Floats:
        """Distance of each vote from the mean of its item's other votes."""
        total = np.bincount(table.item, values, len(items))[item]
        own = values[rows]
        return np.asarray(own - (total - own) / (count[item] - 1))

    votes = np.bincount(person, minlength=len(people)).astype(np.float64)
    longer = np.ones(len(items))
    if items.are_pairs:
        longer = np.sign(items.length[items.first] - items.length[items.second])
    lean = away(items.value)
    leaning = np.bincount(person, lean * longer[item], len(people))
    beyond = lean - (leaning / np.maximum(votes, 1))[person] * longer[item]
    answer = table.answer[rows]
    whole, shape = (answer != BETWEEN).astype(np.float64), (len(people), 3 * len(items))
    equal = away((table.share == 0.5).astype(np.float64))
    return _Deviations(
        kernel=_products(beyond, person, item, shape),
        alike=_products(whole, person, 3 * item + np.maximum(answer, 0), shape),
        both=_products(whole, person, item, shape),
        leaning=np.asarray(leaning, dtype=np.float64),
        equal=np.asarray(np.bincount(person, equal, len(people)), dtype=np.float64),
        votes=votes,
    )


def _products(values: Floats, person: Codes, column: Codes, shape: tuple[int, int]) -> Floats:
    """Products of two people's values, summed over columns; 0 on the diagonal, ``(A, A)``."""
    matrix = csr_matrix((values, (person, column)), shape)
    found = np.asarray((matrix @ matrix.T).toarray())
    np.fill_diagonal(found, 0.0)
    return found


@dataclass(frozen=True, eq=False)
class _Coded:
    """A covariate of the people in a table.

    Attributes:
        kind: ``group`` or ``number``.
        people: Places of the people it is known of and whose level is large enough.
        columns: Centred columns, of shape ``(len(people), q)``.
        level: Level of each of these people.
        levels: Names of the levels.
        hidden: Number of levels that are too small.
    """

    kind: Literal["group", "number"]
    people: Codes
    columns: Floats
    level: Codes
    levels: list[str]
    hidden: int


def _code(values: list[str | float | None]) -> _Coded | str:
    """Code a covariate; return a sentence if it cannot be tested."""
    there = [n for n, value in enumerate(values) if value is not None]
    if all(isinstance(values[n], float) for n in there):
        return _code_number(np.array(there), np.array([values[n] for n in there], np.float64))
    size = Counter(str(values[n]) for n in there)
    if len(size) > 30:
        return f"{len(size)} different values are too many to compare people by."
    large = sorted(level for level, count in size.items() if count >= FEWEST_PEOPLE)
    if len(large) < 2:
        return "there are no two groups of five people to compare."
    people = np.array([n for n in there if str(values[n]) in large])
    level = np.array([large.index(str(values[n])) for n in people.tolist()])
    columns = np.eye(len(large))[level]
    return _Coded("group", people, columns - columns.mean(0), level, large, len(size) - len(large))


def _code_number(people: Codes, values: Floats) -> _Coded | str:
    """Code a number by its ranks, with two or three ranges as levels."""
    if len(people) < 2 * FEWEST_PEOPLE or np.ptp(values) == 0:
        return "the number is known for too few people, or is the same for all."
    ranks = rankdata(values)
    parts = 3 if len(people) >= 6 * FEWEST_PEOPLE else 2
    cuts = np.quantile(values, np.arange(1, parts) / parts)
    level = np.searchsorted(cuts, values, side="left")
    present = np.unique(level)
    if len(present) < 2 or np.bincount(level)[present].min() < FEWEST_PEOPLE:
        return "there are no two groups of five people to compare."
    own = [values[level == number] for number in present.tolist()]
    names = [f"{each.min():.3g} to {each.max():.3g}" for each in own]
    centred = (ranks - ranks.mean())[:, None] / ranks.std()
    return _Coded("number", people, centred, np.searchsorted(present, level), names, 0)


def _test(
    field: str, coded: _Coded, deviations: _Deviations, items: Items, seed: int, resamples: int
) -> Covariate:
    own = np.ix_(coded.people, coded.people)
    kernel, generator = deviations.kernel[own], np.random.default_rng(seed)
    votes = np.maximum(deviations.votes[coded.people], 1)
    lean = deviations.leaning[coded.people] / votes

    def statistics(columns: Floats) -> Floats:
        beyond = float((columns * (kernel @ columns)).sum())
        return np.array([float(np.square(lean @ columns).sum()), beyond])

    observed = statistics(coded.columns)
    drawn = np.stack([statistics(generator.permutation(coded.columns)) for _ in range(resamples)])
    reached = (drawn >= observed - 1e-9 * np.maximum(1.0, np.abs(observed))).sum(0)
    smaller = float(((1 + reached) / (1 + resamples)).min())
    same = coded.level[:, None] == coded.level[None, :]
    alike, both = deviations.alike[own], deviations.both[own]
    return Covariate(
        name=field,
        kind=coded.kind,
        people=len(coded.people),
        alike=_share(alike[same], both[same]),
        unlike=_share(alike[~same], both[~same]),
        p_value=min(1.0, 2 * smaller),
        p_adjusted=1.0,
        levels=[
            _level(name, coded.people[coded.level == number], deviations, seed)
            for number, name in enumerate(coded.levels)
        ],
        levels_hidden=coded.hidden,
        sentence="",
    )


def _share(part: Floats, whole: Floats) -> float:
    return float(part.sum() / whole.sum()) if whole.sum() > 0 else float("nan")


def _level(name: str, people: Codes, deviations: _Deviations, seed: int) -> Level:
    votes, place = deviations.votes[people], np.arange(len(people))
    leaning, equal = (
        ratio_interval(sums[people], votes, place, **vars(Resampling(seed=seed)))
        for sums in (deviations.leaning, deviations.equal)
    )
    return Level(name, len(people), leaning, equal)


def _adjusted(found: Covariate, p: float) -> Covariate:
    unit = "group" if found.kind == "group" else "range"
    goes = "goes" if p < 0.05 else "does not clearly go"
    sentence = (
        f"{found.name} {goes} with how people vote: two people of one {unit} answer alike in "
        f"{percent(found.alike)} of the cases, of different {unit}s in {percent(found.unlike)} "
        f"({p_value(p)} by Holm's method)."
    )
    return replace(found, p_adjusted=p, sentence=sentence)
