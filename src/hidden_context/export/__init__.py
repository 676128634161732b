"""Exports: reward models as folders that other libraries and servers load without this one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hidden_context.export.config import ExportConfig
    from hidden_context.export.workflow import Exported, export_model

__all__ = ["ExportConfig", "Exported", "export_model"]


def __getattr__(name: str) -> Any:
    if name == "ExportConfig":
        from hidden_context.export.config import ExportConfig

        return ExportConfig
    if name in __all__:
        from hidden_context.export import workflow

        return getattr(workflow, name)
    raise AttributeError(f"module 'hidden_context.export' has no attribute {name!r}")
