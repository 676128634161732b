"""Preference labels by a language model: which of two responses is better, by each objective."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hidden_context.lazy import lazy_names
from hidden_context.relabel.config import RelabelConfig

if TYPE_CHECKING:
    from hidden_context.relabel.workflow import RelabelResult, run

__all__ = ["RelabelConfig", "RelabelResult", "run"]

__getattr__ = lazy_names(__name__, dict.fromkeys(["RelabelResult", "run"], "workflow"))
