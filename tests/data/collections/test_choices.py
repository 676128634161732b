from __future__ import annotations

import doctest

import pytest

from hidden_context.data.collections import choices
from hidden_context.data.collections.choices import best_of, ranks_of
from hidden_context.data.example import Ranking
from hidden_context.data.expand import comparisons_of


def test_the_best_of_four() -> None:
    assert best_of(4, 2) == [
        {"comparison": [0, 2], "preference": 0.0, "weight": 0.5},
        {"comparison": [1, 2], "preference": 0.0, "weight": 0.5},
        {"comparison": [2, 3], "preference": 1.0, "weight": 0.5},
    ]


def test_the_better_of_two_is_one_comparison() -> None:
    assert best_of(2, 0) == [{"comparison": [0, 1], "preference": 1.0, "weight": 1.0}]


@pytest.mark.parametrize("count", [2, 3, 7])
def test_a_pair_weighs_as_much_as_in_a_ranking(count: int) -> None:
    ranking = Ranking(tuple(range(1, count + 1)))
    (weight,) = {votes for _, votes in comparisons_of(ranking)}
    assert {entry["weight"] for entry in best_of(count, count - 1)} == {weight}


@pytest.mark.parametrize(
    ("order", "ranks"),
    [
        ("A>B>C>D", [1, 2, 3, 4]),
        ("D>C=B>A", [3, 2, 2, 1]),
        ("A=B=C=D", [1, 1, 1, 1]),
        (" C > A ", [2, None, 1, None]),
    ],
)
def test_orders(order: str, ranks: list[int | None]) -> None:
    assert ranks_of(order, "ABCD") == ranks


@pytest.mark.parametrize("order", ["", "A", "A>A", "A>E", "A>>B", "A=", "AB>C", "none"])
def test_what_is_no_order(order: str) -> None:
    assert ranks_of(order, "ABCD") is None


def test_the_example_in_its_docstring() -> None:
    assert doctest.testmod(choices).failed == 0
