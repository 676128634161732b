"""Preference labels by a language model: which of two responses is better, by each objective."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hidden_context.relabel.config import RelabelConfig

if TYPE_CHECKING:
    from hidden_context.relabel.workflow import RelabelResult, run

__all__ = ["RelabelConfig", "RelabelResult", "run"]


def __getattr__(name: str) -> Any:
    if name not in ("RelabelResult", "run"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.workflow"), name)
