"""Shared parts of every way to fit a model: the check before the fit, and the result."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Mapping, Sequence, Sized
from typing import Any, Final

import torch
from torch import Tensor

from hidden_context.data.example import Example, Rating
from hidden_context.data.splits.held_out import Splits
from hidden_context.errors import DataError, HiddenContextWarning
from hidden_context.heads import Head
from hidden_context.likelihood import Labels, Likelihood
from hidden_context.models.checkpoint.head_file import RewardScale
from hidden_context.models.reward_model import RewardModel
from hidden_context.statistics.evaluation.judgement_metrics import grouped_judgement_metrics
from hidden_context.training.config import TrainConfig
from hidden_context.training.dataset import groups_of


def is_first_process() -> bool:
    """Tell whether this is a launcher's first process, the only one that writes and prints."""
    return int(os.environ.get("RANK", "0")) == 0


def num_processes() -> int:
    """Return the number of processes that a launcher started, or 1."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@dataclasses.dataclass
class Fitted:
    """A fitted model and the record of its fit.

    Attributes:
        model: The trained reward model.
        metrics: Metrics on the test examples; empty if there are none.
        history: Log lines or epochs.
        examples: Number of examples used, by split.
        baselines: Metrics of baselines on the same features by name, beside those of the
            ``probe``; empty without a frozen backbone.
    """

    model: RewardModel
    metrics: dict[str, float]
    history: list[dict[str, Any]]
    examples: dict[str, int]
    baselines: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)


def reward_scale(head: Head, raw: Tensor) -> RewardScale:
    """Return location and scale of mean rewards, from raw outputs of shape ``(N, K)``."""
    rewards = head.distribution(raw).mean
    return RewardScale(
        float(rewards.mean()), float(rewards.std(correction=0)), int(rewards.numel())
    )


def test_metrics(
    model: RewardModel, raw: Tensor, labels: Labels, examples: Sequence[Example]
) -> dict[str, float]:
    """Return metrics on test examples from raw outputs ``(R, K)``; the model gets its scale."""
    model.reward_scale = reward_scale(model.head, raw)
    with torch.no_grad():
        return grouped_judgement_metrics(model.likelihood, raw, labels, groups_of(examples))


def bring_to_one_unit(likelihood: Likelihood, raw: Tensor, labels: Labels) -> None:
    """Bring an ensemble's members to one unit, measured on raw outputs ``(R, K)`` of pairs."""
    compared = labels.comparisons
    if likelihood.head.num_members and len(compared):
        likelihood.head = likelihood.head.in_one_unit(raw[compared.first], raw[compared.second])


FEW_JUDGEMENTS: Final = 20


def check_trainable(splits: Splits, left: Mapping[str, Sized]) -> None:
    """Stop if no training example is left.

    Args:
        splits: The sets as they were read.
        left: Remaining examples by split; a missing split is empty.

    Raises:
        DataError: If none is left, with what was dropped and why.
    """
    if not left.get("train"):
        report = splits.reports.get("train")
        raise DataError(
            "no training examples are left" + (f": {report}" if report else ""),
            remedy="Raise --max_length, or look at what was dropped and why",
        )


def check_remaining(
    config: TrainConfig,
    likelihood: Likelihood,
    splits: Splits,
    left: Mapping[str, Sequence[Example]],
) -> None:
    """Warn if many judgements are lost or few are left; stop below ``config.min_judgements``.

    Args:
        config: The options.
        likelihood: Whether ratings are read.
        splits: The sets as they were read.
        left: Remaining examples by split; a missing split is empty.

    Raises:
        DataError: If fewer judgements are left to train on than the configuration asks for.
    """
    ratings = bool(likelihood.options.rating_weight or config.max_comparisons)
    for name, report in splits.reports.items():
        before, after = getattr(splits, name), left.get(name, ())
        share = _judgements(after, ratings) / max(_judgements(before, ratings), 1)
        report.warn_of_losses(len(before) - len(after), share)
    count, read = _judgements(left["train"], ratings), splits.reports.get("train")
    if count < config.min_judgements:
        raise DataError(
            f"{count} judgements are left to train on, fewer than --min_judgements "
            f"{config.min_judgements}: {str(read).rstrip('.')}",
            remedy="Give more data, look at what was dropped and why, or take --min_judgements 0",
        )
    if count < FEW_JUDGEMENTS:
        warnings.warn(
            f"only {count} judgements are left to train on: {read}",
            HiddenContextWarning,
            stacklevel=2,
        )


def _judgements(examples: Sequence[Example], ratings: bool) -> int:
    """Count the judgements that a reward is learned from."""
    return sum(
        not judgement.abstains and (ratings or not isinstance(judgement.answer, Rating))
        for example in examples
        for judgement in example.judgements
    )
