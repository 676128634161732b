"""The synthetic experiments: preference learning where the hidden context is known exactly."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hidden_context.synthetic.config import SyntheticConfig
    from hidden_context.synthetic.curves import Curves
    from hidden_context.synthetic.environments import Environment, make_environment
    from hidden_context.synthetic.run import SyntheticResult
    from hidden_context.synthetic.theory import StepUtility

_HOMES = {
    "SyntheticConfig": "config",
    "Curves": "curves",
    "Environment": "environments",
    "make_environment": "environments",
    "SyntheticResult": "run",
    "StepUtility": "theory",
}

__all__ = [
    "Curves",
    "Environment",
    "StepUtility",
    "SyntheticConfig",
    "SyntheticResult",
    "make_environment",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
