"""The rewards that policies are optimised for: reward models, and how each is read as a number."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor

from hidden_context import risk
from hidden_context.distributions import EnsembleReward, NormalReward, RewardDistribution
from hidden_context.errors import ConfigError

REFERENCES: Final = 1024
"""Responses of the starting policy with which PURM's overlap is taken."""
_MEMBERS: Final = 5


@dataclasses.dataclass(frozen=True)
class Model:
    """A reward model.

    Attributes:
        head: Type of its head.
        options: Options of ``TrainConfig`` beside the type.
    """

    head: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


MODELS: Final[dict[str, Model]] = {
    "base": Model("base"),
    "mean_and_variance": Model("mean_and_variance"),
    "factor": Model("factor"),
    "ensemble": Model(
        "base", {"ensemble": "heads", "ensemble_members": _MEMBERS, "probe_members": _MEMBERS}
    ),
}


@dataclasses.dataclass(frozen=True)
class Reward:
    """A reward with at most one parameter.

    Attributes:
        title: Its name in tables.
        model: The reward model it reads.
        measure: A risk measure's name, or ``worst_member``, ``less_ignorance``, ``less_overlap``.
        tries: Values of its parameter that are tried; empty where it has none.
        cautious: Whether it is one of the three of the claim.
    """

    title: str
    model: str
    measure: str
    tries: tuple[float, ...] = ()
    cautious: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Each try's name, such as ``quantile:0.01``."""
        return tuple(f"{self.measure}:{value:g}" for value in self.tries) or (self.measure,)


REWARDS: Final[tuple[Reward, ...]] = (
    Reward("base", "base", "mean"),
    Reward("DPL mean", "mean_and_variance", "mean"),
    Reward("quantile", "mean_and_variance", "quantile", (0.01, 0.05, 0.1, 0.25), True),
    Reward("CVaR", "mean_and_variance", "cvar", (0.05, 0.1, 0.25, 0.5), True),
    Reward("mean − λ·σ", "mean_and_variance", "mean_minus_std", (0.5, 1, 2, 4)),
    Reward("entropic", "mean_and_variance", "entropic", (0.25, 0.5, 1, 2)),
    Reward("relative quantile", "factor", "relative_quantile", (0.01, 0.05, 0.1, 0.25), True),
    Reward("ensemble, worst member", "ensemble", "worst_member"),
    Reward("ensemble, mean − λ·variance", "ensemble", "less_ignorance", (0.5, 2, 8, 32)),
    Reward("PURM", "mean_and_variance", "less_overlap", (1, 3, 10, 30)),
)


def worst_member(rewards: RewardDistribution) -> Tensor:
    """Return the least of the members' mean rewards, in their one unit.

    Raises:
        ConfigError: If the rewards are not an ensemble's.
    """
    ensemble = _ensemble(rewards)
    return ((ensemble.members.mean - ensemble.location) / ensemble.scale).amin(-1)


def less_ignorance(rewards: RewardDistribution, factor: float) -> Tensor:
    """Return the members' mean reward less so many times the variance between members.

    Raises:
        ConfigError: If the rewards are not an ensemble's.
    """
    ensemble = _ensemble(rewards)
    return ensemble.mean - factor * ensemble.variance_parts["ignorance"]


def overlap(rewards: NormalReward, others: NormalReward) -> Tensor:
    r"""Return the mean Bhattacharyya coefficient with M other normal rewards.

    .. math:: \frac1M\sum_j \sqrt{\tfrac{2\sigma\sigma_j}{\sigma^2+\sigma_j^2}}
        \exp\Bigl(-\tfrac{(\mu-\mu_j)^2}{4(\sigma^2+\sigma_j^2)}\Bigr)

    Args:
        rewards: Of any batch shape.
        others: Of batch shape ``(M,)``.

    Returns:
        In (0, 1], of the batch shape of ``rewards``.

    Source: Sun et al. (2025), Probabilistic Uncertain Reward Model (arXiv 2503.22480).
    """
    mean, stddev = rewards.mean.flatten(), rewards.stddev.flatten()
    parts = []
    for some_mean, some_stddev in zip(mean.split(4096), stddev.split(4096), strict=True):
        square = some_stddev.square().unsqueeze(1) + others.variance
        root = (2 * some_stddev.unsqueeze(1) * others.stddev / square).sqrt()
        distance = (some_mean.unsqueeze(1) - others.mean).square() / (4 * square)
        parts.append((root * (-distance).exp()).mean(1))
    return torch.cat(parts).reshape(rewards.batch_shape)


def values(reward: Reward, rewards: RewardDistribution) -> dict[str, Tensor]:
    """Read reward distributions as numbers, once for each try of the parameter.

    Args:
        reward: The reward.
        rewards: Distributions of its model, of batch shape ``(P, S)``: the starting policy's
            responses to P prompts, equally likely within each.

    Returns:
        Values of shape ``(P, S)`` by the try's name, in the model's reward units.

    Raises:
        ConfigError: If the measure does not fit the distributions.
    """
    if reward.measure == "worst_member":
        return {reward.measure: worst_member(rewards)}
    if reward.measure == "less_overlap":
        return _penalised(reward, rewards, _overlap_of_policy(rewards))
    if reward.measure == "less_ignorance":
        return _by_try(reward, lambda factor: less_ignorance(rewards, factor))
    return {name: risk.parse(name)(rewards) for name in reward.names}


def _by_try(reward: Reward, evaluate: Callable[[float], Tensor]) -> dict[str, Tensor]:
    return {name: evaluate(value) for name, value in zip(reward.names, reward.tries, strict=True)}


def _penalised(reward: Reward, rewards: RewardDistribution, penalty: Tensor) -> dict[str, Tensor]:
    return _by_try(reward, lambda factor: rewards.mean - factor * penalty)


def _overlap_of_policy(rewards: RewardDistribution) -> Tensor:
    """Overlap of each response with responses spread evenly over all prompts."""
    if not isinstance(rewards, NormalReward):
        raise ConfigError(f"PURM's overlap is one of normal rewards, not {type(rewards).__name__}.")
    count = rewards.mean.numel()
    picked = (
        torch.linspace(0, count - 1, min(REFERENCES, count), dtype=torch.float64).round().long()
    )
    others = NormalReward(rewards.mean.flatten()[picked], rewards.stddev.flatten()[picked])
    return overlap(rewards, others)


def _ensemble(rewards: RewardDistribution) -> EnsembleReward:
    if not isinstance(rewards, EnsembleReward):
        raise ConfigError(f"an ensemble's rewards are needed, not {type(rewards).__name__}.")
    return rewards
