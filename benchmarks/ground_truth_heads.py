"""The heads that the ground-truth benchmark compares, and how each one is asked for its caution."""

from __future__ import annotations

import dataclasses
from typing import Any, Final


@dataclasses.dataclass(frozen=True)
class Contender:
    """A head, how it is trained, and how it ranks answers cautiously.

    Attributes:
        name: Its name in tables.
        head: Type of the head.
        options: Options of ``TrainConfig`` beside the type.
        caution: Risk measure for the worst-served tenth.
        paper: Whether it is one of the paper's, as published.
    """

    name: str
    head: str
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    caution: str = "quantile:0.1"
    paper: bool = False


CONTENDERS: Final = (
    Contender("base", "base", caution="mean", paper=True),
    Contender(
        "mean_and_variance (paper)",
        "mean_and_variance",
        {"likelihood": "logistic"},
        paper=True,
    ),
    Contender("categorical (paper)", "categorical", caution="quantile:0.1:bins", paper=True),
    Contender("ensemble of base", "base", {"ensemble": "heads"}),
    Contender("mean_and_variance", "mean_and_variance"),
    Contender("mixture", "mixture"),
    Contender("quantile", "quantile"),
    Contender("factor", "factor", caution="relative_quantile:0.1"),
    Contender(
        "factor, annotators known",
        "factor",
        {"annotators": "variational"},
        caution="relative_quantile:0.1",
    ),
)
