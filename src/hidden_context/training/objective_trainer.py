"""Training what is learned beside the network: its optimiser group, its gradients, its files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import Trainer, TrainerCallback

from hidden_context.errors import CheckpointError, ConfigError
from hidden_context.heads import EnsembleHead, Head
from hidden_context.models.forward import classifier_of
from hidden_context.models.modules import final_linear
from hidden_context.models.objective_file import describe_objective, load_objective
from hidden_context.models.sequence import SequenceRewardModel
from hidden_context.objectives import Objective


class ObjectiveTrainer(Trainer):
    """A Trainer that also trains, stores and restores a reward model's objective.

    Thresholds, annotators and the noise of ratings are no part of the wrapped network, so that it
    is saved as stock libraries know it. What wrappers do for the network is done for them here.

    Args:
        reward_model: The model, with its objective.
        objective_learning_rate: Peak rate of what is learned beside the network.
        **options: As for ``transformers.Trainer``.
    """

    def __init__(
        self,
        reward_model: SequenceRewardModel,
        *,
        objective_learning_rate: float = 0.02,
        **options: Any,
    ) -> None:
        self.reward_model, self.objective = reward_model, reward_model.objective
        self.objective_learning_rate = objective_learning_rate
        super().__init__(model=reward_model.module, **options)
        self.objective.to(self.args.device)
        if self.is_deepspeed_enabled and any(p.numel() for p in self.objective.parameters()):
            raise ConfigError(
                "DeepSpeed trains the network alone: leave out --outcomes, --annotators and "
                "--anchor_weight, or launch without it."
            )

    @property
    def head(self) -> Head:
        """The reward model's head."""
        return self.reward_model.head

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Make the optimiser, with a group of its own for what is learned beside the network."""
        optimizer = super().create_optimizer(model)
        learned = [p for p in self.objective.parameters() if p.numel()]
        present = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if learned and id(learned[0]) not in present:
            optimizer.add_param_group(
                {"params": learned, "lr": self.objective_learning_rate, "weight_decay": 0.0}
            )
        return optimizer

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Leave an ensemble's output layer alone: its random start is a prior, not to be shrunk."""
        names: list[str] = super().get_decay_parameter_names(model)
        if not isinstance(self.head, EnsembleHead):
            return names
        layer = final_linear(classifier_of(self.reward_model.module))[0].split(".")[0]
        return [name for name in names if f".{layer}." not in f".{name}"]

    def share_gradients(self) -> None:
        """Average over processes the gradients of what is learned beside the wrapped network."""
        if self.args.world_size == 1:
            return
        for parameter in self.objective.parameters():
            if parameter.numel():
                own = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad = self.accelerator.reduce(own, "mean")

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            self.reward_model.write_head_file(output_dir or self.args.output_dir)

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self._load_objective(resume_from_checkpoint)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        self._load_objective(str(self.state.best_model_checkpoint))

    def _load_objective(self, folder: str) -> None:
        stored = load_objective(folder, self.head)
        if describe_objective(stored) != describe_objective(self.objective):
            raise CheckpointError(
                f"{folder} learned something else beside the network; go on from it with the "
                "options and annotators that it was begun with."
            )
        self.objective.load_state_dict(stored.state_dict())


class FiniteGradients(TrainerCallback):
    """Stops training before an optimiser step would write NaN into the weights.

    Args:
        stop: Called with the cause.
        objective: What is learned beside the network.
    """

    def __init__(self, stop: Callable[[str], None], objective: Objective) -> None:
        self._stop, self._learned = stop, list(objective.parameters())

    def on_pre_optimizer_step(
        self, args: Any, state: Any, control: Any, model: nn.Module | None = None, **_: Any
    ) -> None:
        """Look at the gradients once all of a step's are there."""
        learned = [*(model.parameters() if model else ()), *self._learned]
        gradients = [p.grad for p in learned if p.grad is not None]
        if gradients and not bool(torch.isfinite(nn.utils.get_total_norm(gradients))):
            self._stop("a gradient is not finite")
