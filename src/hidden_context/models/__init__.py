"""Reward models: backbones with heads, adapters, checkpoints and forward passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hidden_context.lazy import lazy_names

if TYPE_CHECKING:
    from hidden_context.models.reward_model import RewardModel

__all__ = ["RewardModel"]

__getattr__ = lazy_names(__name__, {"RewardModel": "reward_model"})
