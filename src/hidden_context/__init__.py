"""Reward models that learn a reward distribution for each response.

>>> from hidden_context import heads, risk
>>> import torch
>>> rewards = heads.make("mean_and_variance").distribution(torch.tensor([[1.0, -1.0], [0.5, 2.0]]))
>>> bool(rewards[0].log_prob_greater(rewards[1]).exp() > 0.5)
True
>>> [round(x, 2) for x in risk.parse("quantile:0.01")(rewards).tolist()]
[0.27, -4.45]
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hidden_context import distributions, heads, likelihood, risk, statistics
    from hidden_context.models.reward_model import RewardModel
    from hidden_context.report.figures.notebook import plot

__all__ = ["RewardModel", "distributions", "heads", "likelihood", "plot", "risk", "statistics"]

_MODULES = {"distributions", "heads", "likelihood", "risk", "statistics"}
# what IPython calls for `%load_ext hidden_context` and `%unload_ext hidden_context`
_NOTEBOOK = {
    "plot": "plot",
    "load_ipython_extension": "register",
    "unload_ipython_extension": "unregister",
}


def __getattr__(name: str) -> Any:
    # public names load on first use, so that `hidden-context --help` needs no torch
    if name in _MODULES:
        return importlib.import_module(f"hidden_context.{name}")
    if name == "RewardModel":
        from hidden_context.models.reward_model import RewardModel

        return RewardModel
    if name in _NOTEBOOK:
        from hidden_context.report.figures import notebook

        return getattr(notebook, _NOTEBOOK[name])
    if name == "__version__":
        from importlib.metadata import version

        return version("hidden-context")
    raise AttributeError(f"module 'hidden_context' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
