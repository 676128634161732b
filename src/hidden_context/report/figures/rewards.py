"""Reward distributions in rows: densities, probabilities of atoms, or cumulative shares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from scipy.special import ndtr

from hidden_context.distributions import CategoricalReward, RewardDistribution
from hidden_context.errors import ConfigError
from hidden_context.report.figures import style
from hidden_context.statistics.checks import Floats

if TYPE_CHECKING:
    from matplotlib.figure import Figure


MOST: Final = 20
"""The most rewards in one figure."""

_WIDTH: Final = 4.2
_ROW: Final = 0.62
_REACH: Final = 4.0  # drawn standard deviations of each normal
_POINTS: Final = 101
_MEAN: Final = {"color": style.COLOURS[6], "marker": "o"}
_LOW: Final = {"color": style.COLOURS[1], "marker": "^"}


@dataclass(frozen=True)
class _Row:
    """One reward as a mixture of normals and points, with its marks."""

    weights: Floats
    location: Floats
    scale: Floats
    mean: float
    low: float

    def grid(self) -> Floats:
        """Return the places at which a curve is drawn, closer where the distribution is narrow."""
        steps = np.linspace(-_REACH, _REACH, _POINTS)
        return np.unique(self.location[:, None] + self.scale[:, None] * steps)


def draw_rewards(
    rewards: RewardDistribution, names: Sequence[str] | None = None, low: float = 0.05
) -> Figure:
    """Draw rewards below each other on one scale, with their means and a low quantile.

    Rewards of normals are drawn as densities, a fixed grid of atoms and single points as
    probabilities, and other atoms as the cumulative share F(x). All rows have the same heights.

    Args:
        rewards: Of batch shape ``()`` or ``(n,)``, n at most 20.
        names: n names of what the rewards are for; by default their places.
        low: Level of the quantile that is marked.

    Returns:
        The figure; use ``style.style()`` around it and its saving.

    Raises:
        ConfigError: If there is no reward, or too many, in more than one dimension, not finite, or
            with another number of names; or the level is outside (0, 1).
    """
    rewards = _checked(rewards, names)
    if names is None and len(rewards) > 1:
        names = [f"rewards[{place}]" for place in range(len(rewards))]
    rows = _rows(rewards, low)
    label, draw = _kind(rewards, rows)
    figure = style.new_figure(_WIDTH, _ROW * len(rows) + 0.75)
    panels = list(figure.subplots(len(rows), 1, sharex=True, sharey=True, squeeze=False)[:, 0])
    places = np.concatenate([row.grid() for row in rows])
    margin = 0.06 * float(np.ptp(places)) or 0.5
    panels[0].set_xlim(float(places.min()) - margin, float(places.max()) + margin)
    for place, (axes, row) in enumerate(zip(panels, rows, strict=True)):
        draw(axes, row)
        for name, mark, look in (("low", row.low, _LOW), ("mean", row.mean, _MEAN)):
            axes.axvline(mark, color=look["color"], linewidth=0.6, linestyle=(0, (3, 2)))
            axes.plot([mark], [0], linestyle="", clip_on=False, zorder=3, gid=name, **look)
        if names is not None:
            title = style.plain(style.shortened(names[place], 60))
            axes.set_title(title, loc="left", fontsize=6.5, pad=2)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
    panels[0].set_ylim(bottom=0)
    panels[-1].set_xlabel("reward")
    figure.supylabel(label, color=style.GREY, fontsize=7)
    style.add_legend(figure, [("mean", _MEAN), (f"{100 * low:g} % quantile", _LOW)])
    return figure


def _checked(rewards: RewardDistribution, names: Sequence[str] | None) -> RewardDistribution:
    """Bring rewards to one dimension, and refuse what cannot be drawn."""
    shape = tuple(rewards.batch_shape)
    if len(shape) > 1:
        raise ConfigError(
            f"rewards of batch shape {shape} are drawn one row at a time; choose one, as in "
            "rewards[0]."
        )
    rewards = rewards if shape else rewards.expand((1,))
    count = len(rewards)
    if not 0 < count <= MOST:
        raise ConfigError(
            f"{count} rewards cannot be drawn; choose from 1 to {MOST}, as in rewards[:{MOST}]."
        )
    if names is not None and len(names) != count:
        raise ConfigError(f"each of the {count} rewards needs a name, but names has {len(names)}.")
    return rewards


def _rows(rewards: RewardDistribution, low: float) -> list[_Row]:
    """Read the rewards' numbers.

    Raises:
        ConfigError: If one is not finite.
    """
    found = []
    with torch.no_grad():
        parts = [part.double().cpu().numpy() for part in rewards.components()]
        means, lows = rewards.mean.tolist(), rewards.quantile(low).tolist()
        for place, (log_weights, location, scale) in enumerate(zip(*parts, strict=True)):
            row = _Row(np.exp(log_weights), location, scale, means[place], lows[place])
            if not np.isfinite([*row.weights, *location, *scale, row.mean, row.low]).all():
                raise ConfigError(f"reward {place} is not finite and cannot be drawn.")
            found.append(row)
    return found


def _kind(
    rewards: RewardDistribution, rows: Sequence[_Row]
) -> tuple[str, Callable[[Any, _Row], None]]:
    """Choose how all rows are drawn, by the components of their rewards."""
    if all((row.scale > 0).all() for row in rows):
        return "density", _draw_density
    points = all((row.scale == 0).all() for row in rows)
    if points and (isinstance(rewards, CategoricalReward) or all(len(r.scale) == 1 for r in rows)):
        return "probability", _draw_bars
    return "share at or below", _draw_steps


def _draw_density(axes: Any, row: _Row) -> None:
    places = row.grid()
    z = (places[:, None] - row.location) / row.scale
    heights = (row.weights * np.exp(-0.5 * z**2) / (row.scale * np.sqrt(2 * np.pi))).sum(1)
    axes.plot(places, heights, color=style.COLOURS[0], gid="curve")
    axes.fill_between(places, heights, color=style.COLOURS[0], alpha=0.15, linewidth=0)
    worst = places <= row.low
    axes.fill_between(
        places[worst], heights[worst], color=style.COLOURS[1], alpha=0.45, linewidth=0
    )


def _draw_bars(axes: Any, row: _Row) -> None:
    gap = np.diff(row.location).min() if len(row.location) > 1 else 0.0
    if gap > 0:
        axes.bar(row.location, row.weights, min(0.7 * gap, 0.1), color=style.COLOURS[0], alpha=0.6)
    else:  # a bar needs a width, and a point has none
        axes.vlines(row.location, 0, row.weights, color=style.COLOURS[0], linewidth=2)


def _draw_steps(axes: Any, row: _Row) -> None:
    first, last = axes.get_xlim()
    places = np.concatenate([[first], row.grid(), [last]])
    distance = places[:, None] - row.location
    point = row.scale == 0
    smooth = ndtr(distance / np.where(point, 1.0, row.scale))
    shares = (row.weights * np.where(point, distance >= 0, smooth)).sum(1)
    axes.step(places, shares, where="post", color=style.COLOURS[0], gid="curve")
