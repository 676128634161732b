"""Metrics of raw outputs on labelled pairs: overall and by group."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from hidden_context.heads import Head
from hidden_context.objectives import negative_log_likelihood, ranked_right
from hidden_context.statistics.variance import explained_variance


def pair_metrics(
    head: Head, raw_chosen: Tensor, raw_rejected: Tensor, preference: Tensor | None = None
) -> dict[str, float]:
    """Compute loss, accuracy, mean reward, mean σ and r² over pairs.

    Args:
        head: The head.
        raw_chosen: Raw outputs of shape ``(N, K)``.
        raw_rejected: Raw outputs of shape ``(N, K)``.
        preference: Share of annotators for ``chosen``, of shape ``(N,)``; None for hard labels.

    Returns:
        ``loss`` in nats without penalties; ``accuracy`` against the majority (ties half);
        ``reward_mean`` and ``reward_stddev`` (mean σ) in reward units over all texts; and ``r2``,
        for heads that have a variance.
    """
    loss = negative_log_likelihood(head, raw_chosen, raw_rejected, preference)
    right = ranked_right(head, raw_chosen, raw_rejected)
    if preference is not None:
        sign = torch.sign(preference.to(right) - 0.5)  # a tied label is right by half either way
        right = 0.5 + sign * (right - 0.5)
    rewards = head.distribution(torch.cat([raw_chosen, raw_rejected]))
    metrics = {
        "loss": loss.mean().item(),
        "accuracy": right.mean().item(),
        "reward_mean": rewards.mean.mean().item(),
    }
    if bool((rewards.variance > 0).any()):
        metrics["reward_stddev"] = rewards.stddev.mean().item()
        metrics["r2"] = explained_variance(rewards.mean, rewards.variance)
    return metrics


def grouped_pair_metrics(
    head: Head,
    raw_chosen: Tensor,
    raw_rejected: Tensor,
    preference: Tensor | None,
    rows: Tensor,
    groups: Mapping[str, Mapping[int, str]],
) -> dict[str, float]:
    """Compute ``pair_metrics`` overall and for each value of each grouping column.

    Args:
        head: The head.
        raw_chosen: Raw outputs of shape ``(N, K)``.
        raw_rejected: Raw outputs of shape ``(N, K)``.
        preference: Shares of shape ``(N,)``, or None.
        rows: Row number of each pair, of shape ``(N,)``.
        groups: For each column the value of each row.

    Returns:
        Metrics; those of a group are named ``{column}_{value}_{metric}``.
    """
    metrics = pair_metrics(head, raw_chosen, raw_rejected, preference)
    for column, values in groups.items():
        labels = [values.get(int(row)) for row in rows]
        present = sorted({label for label in labels if label is not None})
        for value in present if len(present) > 1 else ():
            mask = torch.tensor([label == value for label in labels])
            part = pair_metrics(
                head,
                raw_chosen[mask],
                raw_rejected[mask],
                None if preference is None else preference[mask],
            )
            metrics.update({f"{column}_{value}_{name}": number for name, number in part.items()})
    return metrics
