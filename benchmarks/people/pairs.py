"""A fold's examples as pairs: rankings become the pairs of their responses."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
from people.data import Dataset, Fold

from hidden_context.data.example import Comparison, Example, Judgement, Ranking


@dataclasses.dataclass(frozen=True, eq=False)
class PairFold:
    """Pairs to learn from and to judge by.

    Attributes:
        train: Training pairs.
        test: Test pairs.
        train_groups: Group of each side of each training pair, by number, ``(C, 2)``.
        test_groups: The same of the test pairs, ``(I, 2)``.
        names: Names of all annotators of the data set, sorted.
        length: Length of the first response minus the second's, in characters, ``(I,)``.
    """

    train: list[Example]
    test: list[Example]
    train_groups: Any
    test_groups: Any
    names: list[str]
    length: Any


def pair_fold(data: Dataset, fold: Fold) -> PairFold:
    """Make pairs of a fold's examples; a pair nobody judged is left out.

    Groups and annotators are numbered alike in all folds of a data set.
    """
    train, train_groups = _pairs(fold.train, fold.train_groups)
    test, test_groups = _pairs(fold.test, fold.test_groups)
    number = {key: n for n, key in enumerate(sorted(set(data.groups)))}
    names = {str(said.annotator) for each in data.examples for said in each.judgements}
    length = [len(str(each.responses[0])) - len(str(each.responses[1])) for each in test]
    return PairFold(
        train,
        test,
        np.array([[number[key] for key in group] for group in train_groups]),
        np.array([[number[key] for key in group] for group in test_groups]),
        sorted(names),
        np.array(length, dtype=float),
    )


def _pairs(
    examples: list[Example], groups: list[tuple[str, ...]]
) -> tuple[list[Example], list[tuple[str, str]]]:
    pairs, keys = [], []
    for example, group in zip(examples, groups, strict=True):
        for each in _of(example):
            if any(not said.abstains for said in each.judgements):
                pairs.append(each)
                keys.append((group[0], group[-1]))
    return pairs, keys


def _of(example: Example) -> list[Example]:
    if not any(isinstance(said.answer, Ranking) for said in example.judgements):
        return [example]
    return [
        dataclasses.replace(
            example,
            responses=(example.responses[a], example.responses[b]),
            judgements=tuple(
                Judgement(Comparison(0, 1, _share(said.answer, a, b)), said.annotator)
                for said in example.judgements
                if isinstance(said.answer, Ranking)
            ),
            columns={k: v for k, v in example.columns.items() if isinstance(v, str)},
        )
        for a, b in itertools.combinations(range(len(example.responses)), 2)
    ]


def _share(ranking: Ranking, first: int, second: int) -> float:
    a, b = ranking.ranks[first], ranking.ranks[second]
    assert a is not None
    assert b is not None
    return 0.5 + 0.5 * ((a < b) - (a > b))
