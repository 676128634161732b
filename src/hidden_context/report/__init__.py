"""What a team looks at: one self-contained HTML file, and figures for papers."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hidden_context.report.config import ReportConfig
    from hidden_context.report.figures import FigureConfig

_HOMES = {
    "FigureConfig": "figures",
    "ReportConfig": "config",
}

__all__ = ["FigureConfig", "ReportConfig"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
