"""The paper's tables as records, the published numbers beside them, and their JSON form."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Final

from hidden_context.analysis.config import SummarizeConfig
from hidden_context.analysis.measure.records import Count
from hidden_context.statistics.interval import Interval
from hidden_context.statistics.significance.permutation import TestResult

REWARD_MODEL_TYPES: Final = ("base", "mean_and_variance", "categorical")
TRAIN_SETS: Final = ("helpful", "harmless", "both")
_ALPHA_OF_THE_PAPER: Final = 0.01


@dataclass(frozen=True)
class PublishedCell:
    """What the paper says of one type of reward model trained on one set; shares, not percent.

    ``None`` stands where the paper prints nothing.

    Attributes:
        jailbreak_rate: At the mean, and risk-sensitive.
        helpfulness_accuracy: At the mean, and risk-sensitive.
        r_squared: Explained variance share.

    Source: Siththaranjan, Laidlaw and Hadfield-Menell, "Distributional Preference Learning"
    (arXiv 2312.08358): Table 1 and the r² values of its Llama-2-7B reward models.
    """

    jailbreak_rate: tuple[float | None, float | None] = (None, None)
    helpfulness_accuracy: tuple[float | None, float | None] = (None, None)
    r_squared: float | None = None


PUBLISHED: dict[tuple[str, str], PublishedCell] = {
    ("base", "helpful"): PublishedCell((0.524, None), (0.726, None)),
    ("base", "harmless"): PublishedCell((0.037, None), (0.495, None)),
    ("base", "both"): PublishedCell((0.251, None), (0.682, None)),
    ("mean_and_variance", "helpful"): PublishedCell(r_squared=0.89),
    ("mean_and_variance", "harmless"): PublishedCell(r_squared=0.77),
    ("mean_and_variance", "both"): PublishedCell((0.305, 0.203), (0.684, 0.664), 0.53),
    ("categorical", "helpful"): PublishedCell(r_squared=0.63),
    ("categorical", "harmless"): PublishedCell(r_squared=0.53),
    ("categorical", "both"): PublishedCell((0.321, 0.134), (0.662, 0.662), 0.41),
}
"""Published numbers by type of reward model and training set."""


def published(reward_model_type: str, train_set: str, alpha: float) -> PublishedCell:
    """Return what the paper printed for one model, as far as it can be compared at ``alpha``.

    >>> published("mean_and_variance", "both", 0.01).jailbreak_rate
    (0.305, 0.203)
    >>> published("mean_and_variance", "both", 0.05).jailbreak_rate
    (0.305, None)
    """
    cell = PUBLISHED[reward_model_type, train_set]
    if alpha == _ALPHA_OF_THE_PAPER:
        return cell
    return PublishedCell(
        (cell.jailbreak_rate[0], None), (cell.helpfulness_accuracy[0], None), cell.r_squared
    )


@dataclass(frozen=True)
class JailbreakNumbers:
    """Jailbreak rates of one reward model, by the mean and by a quantile.

    Attributes:
        file: Where they come from.
        rows_left_out: Rows without a reward.
        mean: Rows whose jailbroken response has a mean reward at least as high as the safe one.
        risk_sensitive: The same by the quantile; None for a base model.
        intervals: Of the two shares, by prompt.
        test: McNemar's exact test of one against the other, by prompt; None for a base model.
    """

    file: str
    rows_left_out: int
    mean: Count
    risk_sensitive: Count | None
    intervals: tuple[Interval, Interval | None]
    test: TestResult | None

    @property
    def shares(self) -> list[tuple[Count | None, Interval | None]]:
        """Both shares with their intervals."""
        return list(zip((self.mean, self.risk_sensitive), self.intervals, strict=True))

    @property
    def p_value(self) -> float | None:
        """Of the test; None without."""
        return None if self.test is None else self.test.p_value


@dataclass(frozen=True)
class EvaluationNumbers(JailbreakNumbers):
    """Helpfulness accuracies and r² of one reward model.

    Attributes:
        r_squared_interval: r² over all chosen and rejected texts; None for a base model.
        num_texts: Number of these texts.
    """

    r_squared_interval: Interval | None
    num_texts: int

    @property
    def r_squared(self) -> float | None:
        """r² over all chosen and rejected texts."""
        return None if self.r_squared_interval is None else self.r_squared_interval.estimate


@dataclass(frozen=True)
class SummaryCell:
    """What is known of one type of reward model trained on one set."""

    reward_model_type: str
    train_set: str
    jailbreak: JailbreakNumbers | None = None
    evaluation: EvaluationNumbers | None = None


@dataclass(frozen=True)
class Summary:
    """The paper's tables.

    Attributes:
        config: The options they were made with.
        cells: One per type of reward model and training set, in the paper's order.
        missing: Inputs that were not there, in words.
        gaps: Why cells are empty though their inputs are there, one sentence each.
    """

    config: SummarizeConfig
    cells: list[SummaryCell]
    missing: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)

    def cell(self, reward_model_type: str, train_set: str) -> SummaryCell:
        """Return one cell.

        Raises:
            KeyError: If there is none of that type and training set.
        """
        return {(c.reward_model_type, c.train_set): c for c in self.cells}[
            reward_model_type, train_set
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; see ``docs/guides/analyze.md`` for its fields."""
        return {
            "format": "hidden_context.summary",
            "version": 1,
            "config": dataclasses.asdict(self.config),
            "cells": [_cell_to_dict(cell, self.config.alpha) for cell in self.cells],
            "missing": list(self.missing),
            "gaps": list(self.gaps),
        }


def _cell_to_dict(cell: SummaryCell, alpha: float) -> dict[str, Any]:
    paper = published(cell.reward_model_type, cell.train_set, alpha)
    evaluation = cell.evaluation
    r_squared = None if evaluation is None else evaluation.r_squared_interval
    sources = {"jailbreak": cell.jailbreak, "evaluation": evaluation}
    return {
        "reward_model_type": cell.reward_model_type,
        "train_set": cell.train_set,
        "jailbreak_rate": _shares(cell.jailbreak, paper.jailbreak_rate),
        "helpfulness_accuracy": _shares(evaluation, paper.helpfulness_accuracy),
        "r_squared": {
            "value": None if r_squared is None else r_squared.estimate,
            **_ends(r_squared),
            "paper": paper.r_squared,
        },
        "texts": getattr(evaluation, "num_texts", None),
        "files": {name: getattr(each, "file", None) for name, each in sources.items()},
        "rows_left_out": {
            name: getattr(each, "rows_left_out", None) for name, each in sources.items()
        },
    }


def _shares(
    numbers: JailbreakNumbers | None, paper: tuple[float | None, float | None]
) -> dict[str, Any]:
    found: dict[str, Any] = {"mean": None, "risk_sensitive": None}
    shares = [(None, None)] * 2 if numbers is None else numbers.shares
    for name, (count, interval), own in zip(found, shares, paper, strict=True):
        if count is not None or own is not None:
            keys = ("share", "count", "total")
            values = dict.fromkeys(keys) if count is None else count.to_dict()
            found[name] = {**values, **_ends(interval), "paper": own}
    return {**found, "paired_p_value": numbers and numbers.p_value}


def _ends(interval: Interval | None) -> dict[str, float | None]:
    values = {} if interval is None else interval.to_dict()
    return {"low": values.get("low"), "high": values.get("high")}
