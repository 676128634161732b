"""Generated worlds with a known truth: grids and tables of alternatives, and dialogues.

Only ``make`` knows the worlds by name.
"""

from __future__ import annotations

import importlib
from typing import Any, Final

from hidden_context.errors import ConfigError

_WORLDS: Final = {
    "1d": ("grids", "OneDimensional"),
    "2d": ("grids", "TwoDimensional"),
    "dialogues": ("dialogues", "World"),
    "gaussian_independent": ("tables", "gaussian_independent"),
    "shared_factor": ("tables", "shared_factor"),
    "two_objectives": ("tables", "two_objectives"),
    "heavy_tailed": ("tables", "heavy_tailed"),
    "prop_3_3": ("tables", "prop_3_3"),
    "thm_3_4": ("tables", "thm_3_4"),
}


def make(name: str, **options: Any) -> Any:
    """Make a world by its name.

    Args:
        name: ``1d`` and ``2d`` are the paper's grids, ``dialogues`` is the quickstart's world. The
            others are tables of a few alternatives; ``thm_3_4`` is a pair of tables.
        **options: Options of that world, such as ``seed`` of ``dialogues``.

    Returns:
        The world.

    Raises:
        ConfigError: If no world has this name, or an option cannot work.

    >>> make("2d").num_atoms
    8
    """
    if name not in _WORLDS:
        raise ConfigError(f"there is no world {name!r}; choose from {', '.join(_WORLDS)}.")
    module, kind = _WORLDS[name]
    return getattr(importlib.import_module(f"hidden_context.worlds.{module}"), kind)(**options)
