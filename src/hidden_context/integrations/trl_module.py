"""A reward network for trainers that read ``.logits[:, 0]``, and a check of reward functions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig
from transformers.modeling_outputs import SequenceClassifierOutput

from hidden_context import risk as risks
from hidden_context.data.tokens.chat import frame, special_tokens
from hidden_context.errors import CheckpointError, ConfigError
from hidden_context.integrations.guard import GuardLike, check_guard, observe_each
from hidden_context.integrations.reward import single_measure
from hidden_context.integrations.sources import LocalSource
from hidden_context.models.checkpoint.head_file import HEAD_FILE, HeadFile
from hidden_context.models.reward_model import RewardModel
from hidden_context.models.sequence import SequenceRewardModel
from hidden_context.scoring.config import ModelOptions
from hidden_context.scoring.loading import load_model
from hidden_context.scoring.prepare import TokenIds
from hidden_context.scoring.requests import Scorer


class RewardModule(nn.Module):
    """A network whose one logit is a risk measure of the reward, for ``reward_funcs`` of TRL.

    The tokenizer's own special tokens are added where the text does not have them (TRL adds none),
    so that rewards equal the result of ``RewardModel.score`` on the same text.

    Args:
        model: The reward model; it stays on its device.
        risk: Name of the risk measure.
        guard: What watches the texts (see ``reward_module``).

    Attributes:
        config: Says that there is one output; its name is the risk measure's.
        tokenizer: To be given to the trainer as ``reward_processing_classes``.
    """

    def __init__(
        self, model: SequenceRewardModel, risk: str = "mean", guard: GuardLike = None
    ) -> None:
        super().__init__()
        self.measure = risks.parse(single_measure(risk))
        self.config = PretrainedConfig(num_labels=1, name_or_path=str(self.measure))
        self.tokenizer = model.tokenizer
        self._scorer = Scorer(model)
        self.guard = check_guard(guard, LocalSource(self._scorer))
        self._special = special_tokens(model.tokenizer)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any
    ) -> SequenceClassifierOutput:
        """Score token ids.

        Args:
            input_ids: Token ids of B texts, shape ``(B, T)``.
            attention_mask: 1 where there is a token; None where there is no padding.

        Returns:
            ``logits`` of shape ``(B, 1)``: the risk measure's values, in reward units.

        Raises:
            DataError: If a text cannot be scored; the message names the item.
            OverOptimisedError: If the guard stops.
        """
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        rows = [ids[kept.bool()].tolist() for ids, kept in zip(input_ids, mask, strict=True)]
        answers = self._scorer.raw([TokenIds(tuple(frame(ids, self._special))) for ids in rows])
        values = self.measure(self._scorer.rewards(answers.complete("item")))
        observe_each(self.guard, list(map(str, rows)), self._scorer, answers)
        return SequenceClassifierOutput(logits=values[:, None].float().to(input_ids.device))


def reward_module(
    model: str | Path | RewardModel, risk: str = "mean", *, guard: GuardLike = None
) -> RewardModule:
    """Make a network whose ``logits[:, 0]`` is a risk measure of the reward.

    Args:
        model: A checkpoint, or a ``RewardModel``.
        risk: Name of the risk measure, such as ``cvar:0.05``.
        guard: Warns, or stops, where texts become more contested than the data: ``warn``, ``stop``,
            or a ``Guard``. A network is not told which texts answer one prompt, so it counts each
            text by itself, and watches σ and distance alone; ``reward_function`` knows more.

    Raises:
        ConfigError: If it is not a reward model that reads tokens, the measure is relative, or
            there is a guard, but the model has no reference.
    """
    if isinstance(model, (str, Path)):
        model = load_model(str(model), ModelOptions())
    if not isinstance(model, SequenceRewardModel):
        raise ConfigError(
            f"reward_module needs a reward model that reads tokens, not {type(model).__name__}. "
            "Use reward_function, which takes every kind of model."
        )
    return RewardModule(model, risk, guard)


def check_reward_functions(reward_funcs: Any) -> Any:
    """Refuse networks and checkpoints of several outputs, which a trainer would misread.

    TRL reads ``.logits[:, 0]`` of every network. For a reward distribution, this is one parameter
    among several, whatever the risk measure.

    Args:
        reward_funcs: What is to be given to the trainer, one or a list.

    Returns:
        The same.

    Raises:
        ConfigError: If one of them is such a network; the message says what to give instead.
    """
    many = isinstance(reward_funcs, Sequence) and not isinstance(reward_funcs, str)
    for function in reward_funcs if many else [reward_funcs]:
        outputs = _outputs(function)
        if outputs is not None and outputs != 1:
            raise ConfigError(
                f"a trainer reads the first of {outputs} outputs of "
                f"{function if isinstance(function, (str, Path)) else type(function).__name__} as "
                "the reward. Give reward_function(model, risk) or reward_module(model, risk), or "
                "the folder of hidden-context export --form scalar."
            )
    return reward_funcs


def _outputs(function: Any) -> int | None:
    """Return the number of outputs of a network or checkpoint, or None for a function."""
    if isinstance(function, RewardModel):
        return function.head.num_outputs
    if isinstance(function, nn.Module):
        return int(getattr(getattr(function, "config", None), "num_labels", 1))
    if isinstance(function, (str, Path)) and (Path(function) / HEAD_FILE).is_file():
        try:
            return HeadFile.load(Path(function) / HEAD_FILE).head.num_outputs
        except CheckpointError:  # the trainer reports the error when it loads the model
            return None
    return None
