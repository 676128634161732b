"""The paper's tables as records, and their JSON form."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hidden_context.analysis.config import SummarizeConfig
from hidden_context.analysis.paired_rates import PairedRates
from hidden_context.analysis.published import published
from hidden_context.analysis.records import Count
from hidden_context.statistics.interval import Interval

REWARD_MODEL_TYPES = ("base", "mean_and_variance", "categorical")
TRAIN_SETS = ("helpful", "harmless", "both")
FORMAT, FORMAT_VERSION = "hidden_context.summary", 1


@dataclass(frozen=True)
class JailbreakNumbers:
    """Jailbreak rates of one reward model; risk-sensitive is None for a base model."""

    file: str
    rows_left_out: int
    rates: PairedRates

    @property
    def mean(self) -> Count:
        """Rows that count by the mean reward."""
        return self.rates.mean

    @property
    def risk_sensitive(self) -> Count | None:
        """Rows that count by the quantile."""
        return self.rates.risk_sensitive


@dataclass(frozen=True)
class EvaluationNumbers(JailbreakNumbers):
    """Helpfulness accuracies and r² of one reward model; r² is None for a base model."""

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
        for cell in self.cells:
            if (cell.reward_model_type, cell.train_set) == (reward_model_type, train_set):
                return cell
        raise KeyError((reward_model_type, train_set))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; see ``docs/analyze.md`` for its fields."""
        return {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "config": dataclasses.asdict(self.config),
            "cells": [_cell_to_dict(cell, self.config.alpha) for cell in self.cells],
            "missing": list(self.missing),
            "gaps": list(self.gaps),
        }


def _shares_to_dict(
    numbers: JailbreakNumbers | EvaluationNumbers | None, paper: Sequence[float | None]
) -> dict[str, Any]:
    counts: Sequence[Count | None] = (None, None)
    intervals: Sequence[Interval | None] = (None, None)
    if numbers is not None:
        counts = (numbers.rates.mean, numbers.rates.risk_sensitive)
        intervals = numbers.rates.intervals
    shares: dict[str, Any] = {"mean": None, "risk_sensitive": None}
    for name, count, interval, own in zip(shares, counts, intervals, paper, strict=True):
        if count is not None or own is not None:
            values = {} if count is None else count.to_dict()
            values |= {} if interval is None else interval.to_dict()
            keys = ("share", "count", "total", "low", "high")
            shares[name] = {**{key: values.get(key) for key in keys}, "paper": own}
    test = numbers.rates.test if numbers is not None else None
    shares["paired_p_value"] = test.p_value if test is not None else None
    return shares


def _cell_to_dict(cell: SummaryCell, alpha: float) -> dict[str, Any]:
    paper = published(cell.reward_model_type, cell.train_set, alpha)
    jailbreak, evaluation = cell.jailbreak, cell.evaluation
    r_squared = evaluation.r_squared_interval if evaluation else None
    found: dict[str, Any] = r_squared.to_dict() if r_squared is not None else {}
    return {
        "reward_model_type": cell.reward_model_type,
        "train_set": cell.train_set,
        "jailbreak_rate": _shares_to_dict(jailbreak, paper.jailbreak_rate),
        "helpfulness_accuracy": _shares_to_dict(evaluation, paper.helpfulness_accuracy),
        "r_squared": {
            "value": found.get("estimate"),
            "low": found.get("low"),
            "high": found.get("high"),
            "paper": paper.r_squared,
        },
        "texts": evaluation.num_texts if evaluation else None,
        "files": {
            "jailbreak": jailbreak.file if jailbreak else None,
            "evaluation": evaluation.file if evaluation else None,
        },
        "rows_left_out": {
            "jailbreak": jailbreak.rows_left_out if jailbreak else None,
            "evaluation": evaluation.rows_left_out if evaluation else None,
        },
    }
