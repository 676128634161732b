"""Public data sets of human judgements, one file for each, read as they were published."""

from __future__ import annotations

import importlib
from typing import Final

from hidden_context.data.collections.source import Source
from hidden_context.errors import ConfigError

NAMES: Final[tuple[str, ...]] = (
    "ukpconvarg",
    "pluriharms",
    "dices",
    "mt_bench_human",
    "helpsteer2",
    "helpsteer3",
    "multipref",
    "prism",
    "summarize_from_feedback",
    "pku_saferlhf",
    "lamp",
    "hhh_alignment",
    "chatbot_arena",
    "community_alignment",
    "ultrafeedback",
    "shp",
    "personalllm",
    "collective_alignment",
    "webgpt",
    "nectar",
    "pandalm",
    "lewidi",
    "helpsteer",
    "oasst",
)
"""The sources that are read; each has a module of its name, loaded when it is asked for."""


def find_source(name: str) -> Source:
    """Find a source by its name.

    Args:
        name: One of ``NAMES``.

    Returns:
        What it is and how it is read.

    Raises:
        ConfigError: If there is none of that name, listing those there are.
    """
    if name not in NAMES:
        raise ConfigError(f"{name!r} is no source that is read; choose {', '.join(NAMES)}.")
    source: Source = importlib.import_module(f"{__name__}.{name}").SOURCE
    return source
