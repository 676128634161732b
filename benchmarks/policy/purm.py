"""PURM's reward as a reward function of TRL: it depends on all rewards that a run has seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from policy.rewards import overlap

from hidden_context.data.dialogue import is_blank
from hidden_context.data.files import read_json, write_json
from hidden_context.distributions import NormalReward
from hidden_context.models import RewardModel

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
        """Penalised rewards of all completions, and the distributions of those that have one."""
        pairs = zip(prompts, completions, strict=True)
        texts = [prompt + text for prompt, text in pairs if not is_blank(text)]
        rewards = self.model.head.distribution(self.model.raw_outputs(texts).double())
        assert isinstance(rewards, NormalReward)
        values = rewards.mean
        if len(self.seen) >= UNPENALISED:
            mean, stddev = torch.tensor(self.seen, dtype=torch.float64).T
            values = values - self.factor * overlap(rewards, NormalReward(mean, stddev))
        left = iter(values.tolist())
        return [None if is_blank(text) else next(left) for text in completions], rewards


def _seen_at(step: int | str) -> str:
    return f"purm_seen_{step}.json"
