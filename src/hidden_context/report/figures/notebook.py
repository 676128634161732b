"""Drawings of reward distributions in notebooks, by ``%load_ext hidden_context``."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from hidden_context.errors import ConfigError
from hidden_context.report.figures.style import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hidden_context.distributions import RewardDistribution

_PNG: Final = "image/png"
_DPI: Final = 160  # a notebook shows as many pixels as it gets
_SHOWN: Final = 8
"""The number of rewards that are drawn of a long batch."""


def plot(
    rewards: RewardDistribution, names: Sequence[str] | None = None, *, low: float = 0.05
) -> Figure:
    """Draw rewards below each other on one scale, with their means and a low quantile.

    In IPython, the first call also makes rewards and this function's figures draw themselves, as
    ``%load_ext hidden_context`` does.

    Args:
        rewards: Of batch shape ``()`` or ``(n,)``, n at most 20.
        names: n names of what the rewards are for; by default their places.
        low: Level of the quantile that is marked.

    Returns:
        A figure of Matplotlib, apart from pyplot's state; ``savefig`` writes it.

    Raises:
        ConfigError: If there is no reward, or too many, in more than one dimension, not finite, or
            with another number of names; or the level is outside (0, 1).
    """
    ipython = sys.modules.get("IPython")  # not imported here
    if ipython is not None and (shell := ipython.get_ipython()) is not None:
        register(shell)
    return _draw(rewards, names, low)


def _draw(
    rewards: RewardDistribution,
    names: Sequence[str] | None = None,
    low: float = 0.05,
    title: str | None = None,
) -> Figure:
    from hidden_context.report.figures.rewards import draw_rewards

    with style():
        figure = draw_rewards(rewards, names, low)
        if title is not None:
            figure.suptitle(title, fontsize=7)
        figure.draw_without_rendering()  # labels of ticks take their style when first drawn
    return figure


def register(shell: Any) -> None:
    """Let reward distributions and figures draw themselves in IPython.

    This imports no library: IPython knows the types by name until such an object is shown.
    An existing formatter stays, such as the one that ``%matplotlib inline`` registers for figures.

    Args:
        shell: IPython's shell; one that shows no pictures, as in a terminal, keeps to text.
    """
    formatter = shell.display_formatter.formatters[_PNG]
    for (module, name), draw in _drawings().items():
        if _registered(formatter, f"{module}.{name}") is None:
            formatter.for_type_by_name(module, name, draw)


def unregister(shell: Any) -> None:
    """Undo ``register``.

    Args:
        shell: IPython's shell.
    """
    formatter = shell.display_formatter.formatters[_PNG]
    for (module, name), draw in _drawings().items():
        if _registered(formatter, f"{module}.{name}") is draw:
            formatter.pop(f"{module}.{name}")


def _drawings() -> dict[tuple[str, str], Callable[[Any], bytes | None]]:
    return {
        ("hidden_context.distributions.base", "RewardDistribution"): png_of_rewards,
        ("matplotlib.figure", "Figure"): png_of_figure,
    }


def _registered(formatter: Any, name: str) -> Any:
    try:
        return formatter.lookup_by_type(name)
    except KeyError:
        return None


def png_of_rewards(rewards: RewardDistribution) -> bytes | None:
    """Draw rewards as a notebook shows them, the first eight of a long batch.

    Args:
        rewards: Of any batch shape.

    Returns:
        A PNG; None for what cannot be drawn, which is shown as text then.
    """
    try:
        if len(rewards.batch_shape) == 1 and len(rewards) > _SHOWN:
            title = f"the first {_SHOWN} of {len(rewards)} rewards"
            figure = _draw(rewards[:_SHOWN], title=title)
        else:
            figure = _draw(rewards)
    except ConfigError:
        return None
    return png_of_figure(figure)


def png_of_figure(figure: Figure) -> bytes:
    """Write a figure as a PNG of the size that notebooks show.

    Args:
        figure: The figure.
    """
    content = io.BytesIO()
    with style():
        figure.savefig(content, format="png", dpi=_DPI, metadata={"Software": None})
    return content.getvalue()
