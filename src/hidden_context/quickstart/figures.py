"""The quickstart's figure: utilities of responses to harmful prompts, true and learned."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import stats

from hidden_context import worlds
from hidden_context.worlds.dialogues import World
from hidden_context.worlds.utilities import HARMFUL_PROMPT_KINDS, TRAIN_SETS

if TYPE_CHECKING:
    from hidden_context.quickstart.workflow import ModelRecord, QuickstartResult

# Okabe and Ito's colours, told apart by readers with any colour vision.
_COLOURS = {
    "compliance": "#D55E00",
    "alternative": "#009E73",
    "refusal": "#0072B2",
    "incoherent": "#666666",
}
_LABELS = {
    "compliance": "full compliance",
    "alternative": "refusal with an alternative",
    "refusal": "blunt refusal",
    "incoherent": "incoherent answer",
}


def draw(result: QuickstartResult) -> list[Path]:
    """Draw ``quickstart.svg`` and ``quickstart.png`` into the results folder.

    Args:
        result: What the quickstart gave.

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
    handles = [plt.Line2D([], [], color=_COLOURS[k], lw=2, label=_LABELS[k]) for k in _COLOURS]
    marker = plt.Line2D(
        [], [], color="0.2", marker="v", linestyle="", label=f"{result.config.alpha:g} quantile"
    )
    figure.legend(handles=[*handles, marker], loc="outside lower center", ncols=5, frameon=False)
    files = []
    for suffix in ("svg", "png"):
        path = Path(result.config.output_dir) / f"quickstart.{suffix}"
        metadata = {"Date": None} if suffix == "svg" else None
        figure.savefig(path, dpi=160, metadata=metadata)
        files.append(path)
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
    axes.fill_between(x, density, color=_COLOURS[name], alpha=0.15, linewidth=0)
    axes.plot(x, density, color=_COLOURS[name], linewidth=1.6)
    if x[0] <= quantile <= x[-1]:
        axes.plot([quantile], [0], marker="v", color=_COLOURS[name], clip_on=False, zorder=5)


def _tidy(axes: Any) -> None:
    axes.set_yticks([])
    axes.set_ylim(bottom=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
