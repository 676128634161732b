"""Reward models: backbones with heads, adapters, checkpoints and forward passes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hidden_context.models.reward_model import RewardModel

__all__ = ["RewardModel"]


def __getattr__(name: str) -> Any:
    if name == "RewardModel":
        from hidden_context.models.reward_model import RewardModel

        return RewardModel
    raise AttributeError(f"module 'hidden_context.models' has no attribute {name!r}")
