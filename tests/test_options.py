"""What options say of themselves is checked wherever a configuration is made."""

from __future__ import annotations

import dataclasses
from typing import Literal

import pytest

from hidden_context.config import check_options, option
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
