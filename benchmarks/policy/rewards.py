"""The rewards that policies are optimised for: reward models, and how each is read as a number."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from hidden_context import risk
from hidden_context.data.dialogue import is_blank
from hidden_context.data.storage.files import read_json, write_json
from hidden_context.distributions import EnsembleReward, NormalReward
from hidden_context.models import RewardModel

REFERENCES: Final = 1024
"""Responses of the starting policy with which PURM's overlap is taken."""


MODELS: Final[dict[str, dict[str, Any]]] = {
    **{name: {"reward_model_type": name} for name in ("base", "mean_and_variance", "factor")},
    "ensemble": {
        "reward_model_type": "base",
        "ensemble": "heads",
        "ensemble_members": 5,
        "probe_members": 5,
    },
}
"""Options of ``TrainConfig`` that make each reward model."""


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
        """Each try's name, for example ``quantile:0.01``."""
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


def worst_member(ensemble: EnsembleReward) -> Tensor:
    """Return the least of the members' mean rewards, in their one unit."""
    return ((ensemble.members.mean - ensemble.location) / ensemble.scale).amin(-1)


def less_ignorance(ensemble: EnsembleReward, factor: float) -> Tensor:
    """Return the members' mean reward less so many times the variance between members."""
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


def values(reward: Reward, rewards: Any) -> dict[str, Tensor]:
    """Read reward distributions as numbers, once for each try of the parameter.

    Args:
        reward: The reward.
        rewards: Distributions of its model, of batch shape ``(P, S)``: the starting policy's
            responses to P prompts, equally likely within each.

    Returns:
        Values of shape ``(P, S)`` by the try's name, in the model's reward units.
    """
    if reward.measure == "worst_member":
        return {reward.measure: worst_member(rewards)}
    by_name = dict(zip(reward.names, reward.tries, strict=False))
    if reward.measure == "less_overlap":
        penalty = _overlap_of_policy(rewards)
        return {name: rewards.mean - factor * penalty for name, factor in by_name.items()}
    if reward.measure == "less_ignorance":
        return {name: less_ignorance(rewards, factor) for name, factor in by_name.items()}
    return {name: risk.parse(name)(rewards) for name in reward.names}


def _overlap_of_policy(rewards: NormalReward) -> Tensor:
    """Overlap of each response with responses spread evenly over all prompts."""
    count = rewards.mean.numel()
    picked = (
        torch.linspace(0, count - 1, min(REFERENCES, count), dtype=torch.float64).round().long()
    )
    others = NormalReward(rewards.mean.flatten()[picked], rewards.stddev.flatten()[picked])
    return overlap(rewards, others)


PURM: Final = "less_overlap"
UNPENALISED: Final = 100
"""PURM penalises a reward once it has seen so many others of the run."""


class PurmReward:
    """PURM's reward for TRL: the mean less its overlap with the rewards seen so far.

    Args:
        model: A reward model of normal rewards.
        factor: λ.
    """

    def __init__(self, model: RewardModel, factor: float) -> None:
        self.model, self.factor = model, factor
        self.seen: list[tuple[float, float]] = []
        self.__name__ = f"{PURM}:{factor:g}"

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **_: Any
    ) -> list[float | None]:
        """Return the completions' rewards, None of blank ones, and remember them for the next."""
        values, rewards = self._read(prompts, completions)
        self.seen += zip(rewards.mean.tolist(), rewards.stddev.tolist(), strict=True)
        return values

    def values(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float | None]:
        """Return the completions' rewards and remember nothing."""
        return self._read(prompts, completions)[0]

    def keeper(self, folder: Path, checkpoint: str | None) -> Any:
        """Return a callback that keeps what was seen beside each save, so that none lacks it.

        Args:
            folder: Where.
            checkpoint: The save that a run goes on from, whose memory is read; None for a new run.
        """
        from transformers import TrainerCallback

        reward = self
        if checkpoint is not None:
            kept = read_json(folder / _seen_at(checkpoint.rpartition("-")[2]))
            self.seen = [(mean, stddev) for mean, stddev in kept]

        class Keeper(TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                if control.should_save:
                    write_json(folder / _seen_at(state.global_step), reward.seen, indent=None)

        return Keeper()

    def _read(
        self, prompts: Sequence[str], completions: Sequence[str]
    ) -> tuple[list[float | None], NormalReward]:
        """Penalised rewards of completions, and the distributions of the completions with text."""
        pairs = zip(prompts, completions, strict=True)
        texts = [prompt + text for prompt, text in pairs if not is_blank(text)]
        rewards = self.model.head.distribution(self.model.raw_outputs(texts).double())
        values = rewards.mean
        if len(self.seen) >= UNPENALISED:
            mean, stddev = torch.tensor(self.seen, dtype=torch.float64).T
            values = values - self.factor * overlap(rewards, NormalReward(mean, stddev))
        left = iter(values.tolist())
        return [None if is_blank(text) else next(left) for text in completions], rewards


def _seen_at(step: int | str) -> str:
    return f"purm_seen_{step}.json"
