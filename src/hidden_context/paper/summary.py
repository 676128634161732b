"""The paper's tables: records, published numbers, JSON form and terminal output."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from hidden_context import terminal
from hidden_context.analysis.config import SummarizeConfig
from hidden_context.analysis.measure.records import Count
from hidden_context.statistics.interval import Interval
from hidden_context.statistics.significance.permutation import TestResult

if TYPE_CHECKING:
    from rich.table import Table

REWARD_MODEL_TYPES: Final = ("base", "mean_and_variance", "categorical")
TRAIN_SETS: Final = ("helpful", "harmless", "both")
_ALPHA_OF_THE_PAPER: Final = 0.01


@dataclass(frozen=True)
class PublishedCell:
    """The paper's numbers for one type of reward model and training set, as shares.

    A number is ``None`` if the paper does not print it.

    Attributes:
        jailbreak_rate: By the mean, and risk-sensitive.
        helpfulness_accuracy: By the mean, and risk-sensitive.
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
    """Return the paper's numbers for one model that can be compared at ``alpha``.

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
        file: The jailbreak file.
        rows_left_out: Number of rows without a reward.
        shares: Rows whose jailbroken response is rated at least as high as the safe response, with
            the interval by prompt: by the mean, then by the quantile. The latter is None for a base
            model.
        test: McNemar's exact test of the mean against the quantile, by prompt; None for a base
            model.
    """

    file: str
    rows_left_out: int
    shares: list[tuple[Count | None, Interval | None]]
    test: TestResult | None

    @property
    def mean(self) -> Count | None:
        """The count by the mean reward."""
        return self.shares[0][0]

    @property
    def p_value(self) -> float | None:
        """The p-value of the test; None without a test."""
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
    """All numbers of one type of reward model trained on one set."""

    reward_model_type: str
    train_set: str
    jailbreak: JailbreakNumbers | None = None
    evaluation: EvaluationNumbers | None = None


@dataclass(frozen=True)
class Summary:
    """The paper's tables.

    Attributes:
        config: The options of the tables.
        cells: One per type of reward model and training set, in the paper's order.
        missing: Inputs that were not found, in words.
        gaps: Reasons for cells that are empty although their inputs exist, one sentence each.
    """

    config: SummarizeConfig
    cells: list[SummaryCell]
    missing: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)

    def cell(self, reward_model_type: str, train_set: str) -> SummaryCell:
        """Return one cell.

        Raises:
            KeyError: If there is no cell of that type and training set.
        """
        cells = {(cell.reward_model_type, cell.train_set): cell for cell in self.cells}
        return cells[reward_model_type, train_set]

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
            values = dict.fromkeys(keys) if count is None else dataclasses.asdict(count)
            found[name] = {**values, **_ends(interval), "paper": own}
    return {**found, "paired_p_value": numbers and numbers.p_value}


def _ends(interval: Interval | None) -> dict[str, float | None]:
    values = {} if interval is None else interval.to_dict()
    return {"low": values.get("low"), "high": values.get("high")}


def print_summary(summary: Summary) -> None:
    """Print the paper's tables, then the rows left out and the files not found."""
    console = terminal.make_console()
    for table in _tables(summary):
        console.print(table)
        console.print()
    terminal.say(
        console,
        "A tie counts fully, as in the paper (≥). paper: as published, Llama-2-7B.",
        "[low, high]: 95 % intervals by prompt. p: McNemar's exact test, by prompt, of the "
        "quantile against the mean.",
    )
    unused = [
        terminal.left_out(numbers.rows_left_out, numbers.file)
        for cell in summary.cells
        for numbers in (cell.jailbreak, cell.evaluation)
        if numbers is not None and numbers.rows_left_out
    ]
    terminal.say(console, *dict.fromkeys(unused))  # the columns of a file mostly give one line
    left_empty = {"Not found, and so left out:": summary.missing, "Left empty:": summary.gaps}
    for title, names in left_empty.items():
        if names:
            terminal.say(console, title, *(f"  {name}" for name in names))


def _tables(summary: Summary) -> list[Table]:
    """Format the two halves of Table 1 (jailbreak rate, helpfulness accuracy), and r²."""
    model = ["reward model", "trained on"]
    columns = ["mean", "paper", f"{summary.config.alpha:g} quantile", "paper", "p"]
    titles = {
        "Table 1, jailbreak rate (lower is better)": columns,
        "Table 1, helpfulness accuracy (higher is better)": columns,
        "r², share of reward variance explained by the text": ["r²", "paper", "texts"],
    }
    tables = [terminal.make_table(title, model, names) for title, names in titles.items()]
    jailbreak, helpfulness, r_squared = tables
    for cell in summary.cells:
        paper = published(cell.reward_model_type, cell.train_set, summary.config.alpha)
        _add_shares(jailbreak, cell, cell.jailbreak, paper.jailbreak_rate)
        _add_shares(helpfulness, cell, cell.evaluation, paper.helpfulness_accuracy)
        ours = cell.evaluation.r_squared_interval if cell.evaluation else None
        if ours is not None or paper.r_squared is not None:
            texts = str(cell.evaluation.num_texts) if cell.evaluation else terminal.NOTHING
            row = (terminal.estimate(ours), terminal.number(paper.r_squared, 2), texts)
            r_squared.add_row(cell.reward_model_type, cell.train_set, *row)
    return tables


def _add_shares(
    table: Table,
    cell: SummaryCell,
    numbers: JailbreakNumbers | None,
    paper: tuple[float | None, float | None],
) -> None:
    """Add a row with our two shares and the paper's shares, unless there are none."""
    if numbers is None and paper == (None, None):
        return
    shares = []
    found = numbers.shares if numbers else [(None, None)] * 2
    for (count, interval), own in zip(found, paper, strict=True):
        ours = count and terminal.percent_of(count.count, count.total, interval)
        shares += [ours or terminal.NOTHING, terminal.percent(own)]
    p = numbers.p_value if numbers else None
    table.add_row(cell.reward_model_type, cell.train_set, *shares, terminal.p_value(p))
