"""Exports: reward models as folders that other libraries and servers load without this one."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hidden_context.export.config import ExportConfig
    from hidden_context.export.workflow import Exported, export_model

__all__ = ["ExportConfig", "Exported", "export_model"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        module = "config" if name == "ExportConfig" else "workflow"
        return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module 'hidden_context.export' has no attribute {name!r}")
