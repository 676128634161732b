"""The optimiser and schedule of a run, by Transformers' names."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer, TrainingArguments
from transformers.optimization import get_scheduler
from transformers.trainer_pt_utils import get_parameter_names

from hidden_context.errors import ConfigError
from hidden_context.models.engine.forward import classifier_of
from hidden_context.models.network.modules import final_linear
from hidden_context.training.module import PreferenceModule
from hidden_context.training.schedules import PAPER_SCHEDULES, cosine_factor, step_factor

_NOT_DECAYED: Final = [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]


def make_optimizer(
    module: PreferenceModule, arguments: TrainingArguments, likelihood_rate: float
) -> torch.optim.Optimizer:
    """Make the optimiser, with a separate group for the likelihood's parameters.

    Weight decay leaves out biases, norms, the likelihood, and an ensemble's output layer, whose
    random start is a prior.

    Args:
        module: Network and likelihood.
        arguments: Name, rate and options of the optimiser.
        likelihood_rate: Peak rate of the likelihood's parameters.

    Returns:
        The optimiser.

    Raises:
        ConfigError: If the optimiser is unknown, or takes charge of a model's layers itself.
    """
    network: Any = module.network
    decayed = set(get_parameter_names(network, [nn.LayerNorm], _NOT_DECAYED))
    if module.likelihood.head.num_members:
        layer = final_linear(classifier_of(network))[0].split(".")[0]
        decayed = {name for name in decayed if f".{layer}." not in f".{name}"}
    trained = {n: p for n, p in network.named_parameters() if p.requires_grad}
    groups: list[dict[str, Any]] = [
        {
            "params": [p for n, p in trained.items() if n in decayed],
            "weight_decay": arguments.weight_decay,
        },
        {"params": [p for n, p in trained.items() if n not in decayed], "weight_decay": 0.0},
    ]
    learned = list(module.likelihood.parameters())
    if learned:
        groups.append({"params": learned, "lr": likelihood_rate, "weight_decay": 0.0})
    name = getattr(arguments.optim, "value", arguments.optim)
    try:
        kind, options = Trainer.get_optimizer_cls_and_kwargs(arguments, network)
    except ValueError as error:
        raise ConfigError(f"--optim {name}: {error}") from error
    if {"params", "model", "optimizer_dict"} & set(options) or not isinstance(kind, type):
        raise ConfigError(f"--optim {name} picks the layers it trains by itself; choose another.")
    optimizer: torch.optim.Optimizer = kind(groups, **options)
    return optimizer


def make_scheduler(
    name: str, optimizer: torch.optim.Optimizer, arguments: TrainingArguments, steps: int
) -> Any:
    """Make a schedule of the paper if one was chosen, else a schedule of Transformers.

    Args:
        name: ``cosine`` or ``step`` for the paper's.
        optimizer: The optimiser.
        arguments: Name and options of Transformers' schedule.
        steps: Optimiser steps of the run.

    Returns:
        The schedule.
    """
    if name in PAPER_SCHEDULES:
        factor = cosine_factor if name == "cosine" else step_factor
        return LambdaLR(optimizer, lambda step: factor(step, steps))
    return get_scheduler(
        arguments.lr_scheduler_type,
        optimizer=optimizer,
        num_warmup_steps=arguments.get_warmup_steps(steps),
        num_training_steps=steps,
        scheduler_specific_kwargs=arguments.lr_scheduler_kwargs or {},
    )
