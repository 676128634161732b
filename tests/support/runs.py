"""What tests of trainings look at, and ways to disturb one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import TrainerCallback

from hidden_context.likelihood import Labels
from hidden_context.training.frozen.features import FeatureSet
from hidden_context.training.module import PreferenceModule
from support.builders import train_config


def frozen(backbones: Any, folder: Any, **options: Any) -> Any:
    """A configuration of a probe on a frozen backbone that learns what tiny data tell."""
    defaults: dict[str, Any] = {"freeze_backbone": True, "probe_learning_rate": 5e-3}
    defaults |= {"probe_members": 2, "probe_weight_decay": 0.01, "probe_batch_size": 32}
    defaults |= {"probe_dropout": 0.0, "objective_learning_rate": 0.05, "quiet": True}
    return train_config(backbones("gpt2"), folder, **(defaults | options))


def fine_tuned(backbones: Any, folder: Any, **options: Any) -> Any:
    """A configuration of fine-tuning that learns what tiny data tell."""
    defaults: dict[str, Any] = {"num_train_epochs": 6, "objective_learning_rate": 0.05}
    backbone = options.pop("backbone", None) or backbones("gpt2", spread=1.0)
    return train_config(backbone, folder, **(defaults | {"quiet": True} | options))


# What is learned beside the network, all of it.
EVERYTHING = {"ensemble": "heads", "ensemble_members": 2, "reward_model_type": "factor"}
EVERYTHING |= {"num_factors": 2, "annotators": "variational", "outcomes": "five_levels"}
EVERYTHING |= {"anchor_weight": 0.3, "quiet": True}


def logged(result: Any, name: str) -> list[float]:
    """A value in every log line that has it, of a result or its history."""
    lines = getattr(result, "history", result)
    return [line[name] for line in lines if name in line]


def losses(result: Any) -> list[float]:
    """The training losses that a run logged."""
    return logged(result, "loss")


def evaluations(result: Any) -> dict[int, float]:
    """The loss of every evaluation along the way, by step."""
    return {line["step"]: line["eval_loss"] for line in result.history if "eval_loss" in line}


def copied(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A copy of a module's parameters by name."""
    return {name: values.detach().clone() for name, values in module.named_parameters()}


def trained_parameters(result: Any) -> dict[str, torch.Tensor]:
    """A copy of all that was trained by name: the network's parameters and the likelihood's."""
    return copied(result.model.module) | copied(result.model.likelihood)


def largest_difference(first: dict[str, Any], second: dict[str, Any]) -> float:
    """The largest difference between parameters of the same names."""
    assert set(first) == set(second)
    return max(float((first[name] - second[name]).detach().abs().max()) for name in first)


def pair_features(chosen: Any, rejected: Any, preference: Any) -> FeatureSet:
    """Features of pairs, whose sides stand one after the other, with their labels."""
    features = torch.stack([chosen, rejected], 1).flatten(0, 1)
    return FeatureSet(features, Labels.of_pairs(preference))


def spied(monkeypatch: Any, owner: Any, name: str, note: Callable[..., Any]) -> list[Any]:
    """What ``note`` makes of the inputs of each call of a method, which still runs."""
    original, seen = getattr(owner, name), list[Any]()

    def called(*inputs, **options):
        seen.append(note(*inputs, **options))
        return original(*inputs, **options)

    monkeypatch.setattr(owner, name, called)
    return seen


class StopAfter(TrainerCallback):
    """Ends a run in the middle, as a killed process would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args, state, control, **_):
        if state.global_step == self.step:
            raise KeyboardInterrupt


class RuinWeights(TrainerCallback):
    """Makes the model bad from a step on, so that the best checkpoint is not the last."""

    def __init__(self, step: int, factor: float = -30, shift: float = 0) -> None:
        self.step, self.factor, self.shift = step, factor, shift

    def on_step_end(self, args, state, control, model=None, **_):
        if state.global_step == self.step:
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    if parameter.requires_grad and "score" in name:
                        parameter.mul_(self.factor).add_(self.shift)


def out_of_memory(*_: Any) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")


class SmallMemory:
    """Lets a forward or backward pass fail: above a number of examples, or at certain calls."""

    def __init__(self, monkeypatch, most=10**6, failing_calls=(), backward=False):
        self.calls, self.failed, self.finished = 0, 0, 0
        original = PreferenceModule.raw_outputs

        def limited(module, tokens):
            self.calls += 1
            if len(tokens) <= most and self.calls not in failing_calls:
                self.finished += 1
                return original(module, tokens)
            self.failed += 1
            if not backward:
                out_of_memory()
            found = original(module, tokens)
            if found.requires_grad:
                found.register_hook(out_of_memory)
            return found

        monkeypatch.setattr(PreferenceModule, "raw_outputs", limited)
