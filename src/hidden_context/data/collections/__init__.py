"""Public data sets of human judgements, read as published, with one module per data set."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Final

from hidden_context.data.collections.source import Source
from hidden_context.errors import ConfigError

_SHARED: Final = {"source", "save"}

NAMES: Final[tuple[str, ...]] = tuple(
    sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name not in _SHARED)
)
"""The sources; each has a module of its name, which is imported when it is asked for."""


def find_source(name: str) -> Source:
    """Return the source with a given name.

    Args:
        name: One of ``NAMES``.

    Returns:
        The source.

    Raises:
        ConfigError: If no source has this name; the message lists the names.
    """
    if name not in NAMES:
        raise ConfigError(f"{name!r} is not a known source; choose {', '.join(NAMES)}.")
    source: Source = importlib.import_module(f"{__name__}.{name}").SOURCE
    return source
