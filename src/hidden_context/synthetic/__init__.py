"""The synthetic experiments: preference learning where the hidden context is known exactly."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hidden_context.synthetic.config import SyntheticConfig
    from hidden_context.synthetic.curves import Curves
    from hidden_context.synthetic.environments import Environment, make_environment
    from hidden_context.synthetic.theory import StepUtility
    from hidden_context.synthetic.workflow import SyntheticResult, run

_HOMES = {
    "SyntheticConfig": "config",
    "Curves": "curves",
    "Environment": "environments",
    "make_environment": "environments",
    "SyntheticResult": "workflow",
    "run": "workflow",
    "StepUtility": "theory",
}

__all__ = [
    "Curves",
    "Environment",
    "StepUtility",
    "SyntheticConfig",
    "SyntheticResult",
    "make_environment",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
