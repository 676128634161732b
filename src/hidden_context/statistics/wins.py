"""How often one reward is at least as high as another."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from hidden_context.errors import ConfigError


def win_rate(first: Tensor, second: Tensor, ties: Literal["win", "half"] = "half") -> float:
    """Share of rows in which ``first`` beats ``second``.

    Args:
        first: Rewards of shape ``(n,)``.
        second: Rewards of shape ``(n,)``.
        ties: Whether an exact tie counts one half (the default) or as a win (the paper's ≥).

    Returns:
        A share in [0, 1].

    Raises:
        ConfigError: If the shapes differ, there are no rows, or ``ties`` is unknown.
    """
    first, second = torch.as_tensor(first), torch.as_tensor(second)
    if first.shape != second.shape or first.numel() == 0:
        raise ConfigError(
            "two equally long, non-empty lists of rewards are needed; got shapes "
            f"{tuple(first.shape)} and {tuple(second.shape)}."
        )
    if ties not in ("win", "half"):
        raise ConfigError(f"ties is {ties!r}; choose win or half.")
    value = 1.0 if ties == "win" else 0.5
    wins, tied = int((first > second).sum()), int((first == second).sum())
    return (wins + value * tied) / first.numel()
