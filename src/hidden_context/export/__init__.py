"""Exports: reward models as folders that other libraries and servers load without this one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hidden_context.lazy import lazy_names

if TYPE_CHECKING:
    from hidden_context.export.config import ExportConfig
    from hidden_context.export.workflow import Exported, export_model

__all__ = ["ExportConfig", "Exported", "export_model"]

__getattr__ = lazy_names(
    __name__, {"ExportConfig": "config", "Exported": "workflow", "export_model": "workflow"}
)
