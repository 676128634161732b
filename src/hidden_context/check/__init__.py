"""Check a data set: do its people disagree, where, about what, and who?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hidden_context.check.config import CheckConfig
from hidden_context.lazy import lazy_names

if TYPE_CHECKING:
    from hidden_context.check.results import Found
    from hidden_context.check.workflow import check, run

__all__ = ["CheckConfig", "Found", "check", "run"]

__getattr__ = lazy_names(__name__, {"Found": "results", "check": "workflow", "run": "workflow"})
