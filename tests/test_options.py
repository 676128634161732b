"""What options say of themselves is checked wherever a configuration is made."""

from __future__ import annotations

import dataclasses
from typing import Literal

import pytest

from hidden_context.config import by_present_names, check_options, earlier_names, option
from hidden_context.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Options:
    kind: Literal["a", "b", "c"] = option("a", "a choice")
    count: int = option(1, "a number", least=1)
    weight: float | None = option(None, "a number or nothing", least=0)
    free: int = option(-5, "any number")

    def __post_init__(self) -> None:
        check_options(self)


@pytest.mark.parametrize(
    "options", [{}, {"kind": "c"}, {"count": 1}, {"weight": 0}, {"weight": None}, {"free": -9}]
)
def test_options_within_their_bounds_are_taken(options):
    assert vars(Options(**options)) == {**vars(Options()), **options}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "d"}, "--kind is 'd'; choose a, b or c."),
        ({"count": 0}, "--count is 0; it must be at least 1."),
        ({"weight": -0.5}, "--weight is -0.5; it must be at least 0."),
        ({"weight": float("nan")}, "--weight is nan; it must be at least 0."),
        ({"weight": float("inf")}, "--weight is inf; it must be at least 0."),
    ],
)
def test_options_that_cannot_work_are_refused_by_name(options, message):
    with pytest.raises(ConfigError) as refused:
        Options(**options)
    assert str(refused.value) == message


@dataclasses.dataclass(frozen=True)
class Renamed:
    precision: str = option(
        "auto", "which", formerly={"bf16": {True: "bfloat16", False: "float32"}, "dtype": {}}
    )
    count: int = option(1, "a number", formerly={"number": {}})


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, {}),
        ({"bf16": True, "count": 3}, {"precision": "bfloat16", "count": 3}),
        ({"bf16": False}, {"precision": "float32"}),
        ({"dtype": "float64", "number": 2}, {"precision": "float64", "count": 2}),
        ({"dtype": ["a"]}, {"precision": ["a"]}),  # for the check of types to refuse
        ({"bf16": True, "precision": "auto"}, {"precision": "auto"}),
        ({"unknown": 1}, {"unknown": 1}),
    ],
)
def test_options_of_earlier_versions_are_called_by_their_present_names(values, expected):
    before = dict(values)
    assert by_present_names(values, Renamed) == expected
    assert values == before
    assert set(earlier_names(Renamed)) == {"bf16", "dtype", "number"}
    assert earlier_names(Options) == {}
