"""Output of the quickstart: the paper's two tables, preference probabilities and the figure.

Each table and the figure show the truth beside the learned values. The figure shows the utilities
of responses to harmful prompts.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import stats

from hidden_context import heads, worlds
from hidden_context.terminal import make_table, number, percent
from hidden_context.worlds.dialogues import World
from hidden_context.worlds.utilities import HARMFUL_PROMPT_KINDS, TRAIN_SETS

if TYPE_CHECKING:
    from rich.table import Table

    from hidden_context.quickstart.workflow import ModelRecord, QuickstartResult

_SHORT = {"mean_and_variance": "mean, σ", "categorical": "categ."}
# Okabe and Ito's colours, told apart by readers with any colour vision.
_LOOKS = {
    "compliance": ("#D55E00", "full compliance"),
    "alternative": ("#009E73", "refusal with an alternative"),
    "refusal": ("#0072B2", "blunt refusal"),
    "incoherent": ("#666666", "incoherent answer"),
}


def main_table(result: QuickstartResult) -> Table:
    """Make Table 1 of the paper, jailbreak rate and helpfulness accuracy, with the truth."""
    table = make_table(
        "Jailbreak rate and helpfulness accuracy",
        ("reward model", "trained on"),
        ("jailbreaks", "cautious", "accuracy", "cautious"),
    )
    level = f"{result.config.alpha:g} quantile"
    table.caption = f"cautious: by the {level} of the reward instead of its mean"
    for cell in result.summary.cells:
        parts = (part and part.shares for part in (cell.jailbreak, cell.evaluation))
        counts = [count for part in parts for count, _ in part or 2 * [(None, None)]]
        shares = (percent(count.share if count else None) for count in counts)
        table.add_row(cell.reward_model_type, cell.train_set, *shares)
    table.add_section()
    for train_set, truth in result.truth.items():
        *shares_of_truth, _ = dataclasses.astuple(truth)
        table.add_row("true utility", train_set, *map(percent, shares_of_truth))
    return table


def variance_table(result: QuickstartResult) -> Table:
    """Make the paper's r² table with the truth, which comparisons do not identify."""
    title = "r², share of reward variance explained by the text"
    table = make_table(title, ("reward model",), tuple(result.truth))
    for head_type in heads.PAPER_TYPES[1:]:
        cells = (result.summary.cell(head_type, name).evaluation for name in result.truth)
        table.add_row(head_type, *(number(cell.r_squared if cell else None, 2) for cell in cells))
    table.add_section()
    truths = (number(truth.r_squared, 2) for truth in result.truth.values())
    table.add_row("true utility (not identified)", *truths)
    return table


def probability_table(result: QuickstartResult) -> Table:
    """Make the table of P(first ≻ second) by pair of kinds, learned on both, with the truth."""
    records = [record for record in result.records if record.train_set == "both"]
    types = (record.reward_model_type for record in records)
    table = make_table(
        "P(first preferred to second), trained on both: what comparisons identify",
        ("first", "second"),
        ("truth", *(_SHORT.get(name, name) for name in types)),
    )
    for pairs in zip(*(record.preferences for record in records), strict=True):
        mark = " *" if pairs[0].contested else ""
        learned = (number(pair.learned, 2) for pair in pairs)
        table.add_row(pairs[0].first, pairs[0].second, f"{pairs[0].true:.2f}{mark}", *learned)
    table.add_section()
    table.add_row("mean absolute error", "", "", *(number(r.probability_error) for r in records))
    return table


def print_result(result: QuickstartResult) -> None:
    """Print the tables with notes on how to read them."""
    from rich.console import Console

    console = Console()
    for table in (main_table(result), variance_table(result), probability_table(result)):
        console.print(table)
    both = [record for record in result.records if record.train_set == "both"]
    accuracies = ", ".join(f"{r.reward_model_type} {100 * r.accuracy:.1f} %" for r in both)
    console.print(
        f"* contested: the two objectives order these responses differently. Accuracy on test "
        f"comparisons: {accuracies}; no model can expect more than "
        f"{100 * result.best_accuracy:.1f} %.\n"
        "The size of r² on contested responses is set by regularisation and stopping, not by the "
        "data: compliance is preferred to each safe answer with nearly the same probability, so "
        "the likelihood alone lets its σ grow without bound (docs/start/quickstart.md).",
        highlight=False,
    )
    console.print(
        f"Everything is in {result.config.output_dir}; open report.html first. "
        f"The run took {result.seconds:.0f} s.",
        highlight=False,
    )


def draw(result: QuickstartResult) -> list[Path]:
    """Draw ``quickstart.svg`` and ``quickstart.png`` into the results folder.

    Args:
        result: The result of the quickstart.

    Returns:
        The files.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    world: World = worlds.make(
        "dialogues", seed=result.config.seed, helpful_share=result.config.helpful_share
    )
    learned = {r.train_set: r for r in result.records if r.reward_model_type == "mean_and_variance"}
    figure, axes = plt.subplots(2, 3, figsize=(9.6, 4.6), layout="constrained")
    titles = {
        "helpful": "judged by helpfulness",
        "harmless": "judged by harmlessness",
        "both": "either, drawn per comparison",
    }
    for column, train_set in enumerate(TRAIN_SETS):
        top, bottom = axes[0, column], axes[1, column]
        _draw_truth(top, world, train_set)
        _draw_learned(bottom, learned[train_set], result.config.alpha)
        top.set_title(titles[train_set])
    axes[0, 0].set_ylabel("true utility")
    axes[1, 0].set_ylabel("learned mean and σ\n(standardised)")
    handles = [plt.Line2D([], [], color=c, lw=2, label=label) for c, label in _LOOKS.values()]
    marker = plt.Line2D(
        [], [], color="0.2", marker="v", linestyle="", label=f"{result.config.alpha:g} quantile"
    )
    figure.legend(handles=[*handles, marker], loc="outside lower center", ncols=5, frameon=False)
    files = [result.config.folder / f"quickstart.{suffix}" for suffix in ("svg", "png")]
    for path in files:
        figure.savefig(path, dpi=160, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)
    return files


def _draw_truth(axes: Any, world: World, train_set: Any) -> None:
    annotators = world.annotators(train_set)
    x = np.linspace(-0.5, 1.5, 160)
    for kind in HARMFUL_PROMPT_KINDS:
        utility = annotators.utility(kind)
        density = utility.log_prob(torch.from_numpy(x)).exp().numpy()
        _curve(axes, x, density, kind.name, float(utility.quantile(0.01)))
    _tidy(axes)


def _draw_learned(axes: Any, record: ModelRecord, alpha: float) -> None:
    values = {kind.name: record.rewards[kind.name] for kind in HARMFUL_PROMPT_KINDS}
    spread = max(stddev for _, stddev in values.values())
    low = min(mean - 3 * stddev for mean, stddev in values.values())
    high = max(mean + 3 * stddev for mean, stddev in values.values())
    x = np.linspace(max(low, -3 * spread - 3), min(high, 3 * spread + 3), 160)
    for name, (mean, stddev) in values.items():
        quantile = mean + float(stats.norm.ppf(alpha)) * stddev
        _curve(axes, x, stats.norm.pdf(x, mean, stddev), name, quantile)
    _tidy(axes)


def _curve(axes: Any, x: Any, density: Any, name: str, quantile: float) -> None:
    colour, _ = _LOOKS[name]
    axes.fill_between(x, density, color=colour, alpha=0.15, linewidth=0)
    axes.plot(x, density, color=colour, linewidth=1.6)
    if x[0] <= quantile <= x[-1]:
        axes.plot([quantile], [0], marker="v", color=colour, clip_on=False, zorder=5)


def _tidy(axes: Any) -> None:
    axes.set_yticks([])
    axes.set_ylim(bottom=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
