"""Metrics of raw outputs on labelled pairs: overall and by group."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from hidden_context.heads import Head
from hidden_context.objectives import (
    Labels,
    Objective,
    negative_log_likelihood,
    ranked_right,
)
from hidden_context.statistics.variance import explained_variance


def pair_metrics(
    head: Head,
    raw_chosen: Tensor,
    raw_rejected: Tensor,
    preference: Tensor | None = None,
    objective: Objective | None = None,
    labels: Labels | None = None,
) -> dict[str, float]:
    """Compute loss, accuracy, mean reward, mean σ, r² and the causes of variance over pairs.

    Args:
        head: The head.
        raw_chosen: Raw outputs of shape ``(N, K)``.
        raw_rejected: Raw outputs of shape ``(N, K)``.
        preference: Share of annotators for ``chosen``, of shape ``(N,)``; None for hard labels.
        objective: What was learned beside the network, such as annotators and thresholds.
        labels: With an objective, the N pairs' labels; a known annotator is predicted as such.

    Returns:
        ``loss`` in nats without penalties; ``accuracy`` against the majority (ties half), or with
        an objective the mean over annotations; ``reward_mean`` and ``reward_stddev`` (mean σ) in
        reward units over all texts; ``r2``, for heads that have a variance; and for heads that
        tell causes apart, ``disagreement_share``, ``noise_share`` and ``epistemic_share`` of the
        variance of the difference between the two sides.
    """
    loss, right = pair_values(head, raw_chosen, raw_rejected, preference, objective, labels)
    rewards = head.distribution(torch.cat([raw_chosen, raw_rejected]))
    metrics = {
        "loss": loss.mean().item(),
        "accuracy": right.mean().item(),
        "reward_mean": rewards.mean.mean().item(),
    }
    if bool((rewards.variance > 0).any()):
        metrics["reward_stddev"] = rewards.stddev.mean().item()
        metrics["r2"] = explained_variance(rewards.mean, rewards.variance)
    return {**metrics, **variance_shares(head, raw_chosen, raw_rejected)}


def pair_values(
    head: Head,
    raw_chosen: Tensor,
    raw_rejected: Tensor,
    preference: Tensor | None = None,
    objective: Objective | None = None,
    labels: Labels | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute the loss of every pair, and whether it is ranked right.

    Args:
        head: The head.
        raw_chosen: Raw outputs of shape ``(N, K)``.
        raw_rejected: Raw outputs of shape ``(N, K)``.
        preference: Share of annotators for ``chosen``, of shape ``(N,)``; None for hard labels.
        objective: What was learned beside the network.
        labels: With an objective, the N pairs' labels.

    Returns:
        Losses in nats and shares of right rankings in [0, 1] (ties half), both of shape ``(N,)``;
        see ``pair_metrics``, which takes their means.
    """
    if objective is not None and labels is not None and not objective.is_plain:
        loss = objective.negative_log_likelihood(raw_chosen, raw_rejected, labels)
        return loss, _annotations_right(objective, raw_chosen, raw_rejected, labels)
    loss = negative_log_likelihood(head, raw_chosen, raw_rejected, preference)
    right = ranked_right(head, raw_chosen, raw_rejected)
    if preference is not None:
        sign = torch.sign(preference.to(right) - 0.5)  # a tied label is right by half anyway
        right = 0.5 + sign * (right - 0.5)
    return loss, right


def variance_shares(head: Head, raw_chosen: Tensor, raw_rejected: Tensor) -> dict[str, float]:
    """Shares of the variance of reward differences by cause, over pairs.

    Args:
        head: The head.
        raw_chosen: Raw outputs of shape ``(N, K)``.
        raw_rejected: Raw outputs of shape ``(N, K)``.

    Returns:
        ``{cause}_share`` in [0, 1], summing to 1; empty for heads that cannot tell causes apart.
    """
    chosen, rejected = head.distribution(raw_chosen), head.distribution(raw_rejected)
    parts = {name: part.mean() for name, part in chosen.difference_parts(rejected).items()}
    if len(parts) < 2:
        return {}
    total = torch.stack(list(parts.values())).sum()
    return {f"{name}_share": float(part / total) for name, part in parts.items()}


def _annotations_right(
    objective: Objective, raw_chosen: Tensor, raw_rejected: Tensor, labels: Labels
) -> Tensor:
    """Whether each annotation is ranked as labelled, averaged by pair, ``(N,)``."""
    forward = objective.log_prob_preferred(raw_chosen, raw_rejected, labels)
    backward = objective.log_prob_preferred(raw_rejected, raw_chosen, labels)
    sign = torch.sign(labels.preference.to(forward) - 0.5)
    return labels.mean_by_pair(0.5 + 0.5 * sign * torch.sign(forward - backward))


def grouped_pair_metrics(
    head: Head,
    raw_chosen: Tensor,
    raw_rejected: Tensor,
    preference: Tensor | None,
    rows: Tensor,
    groups: Mapping[str, Mapping[int, str]],
    objective: Objective | None = None,
    labels: Labels | None = None,
) -> dict[str, float]:
    """Compute ``pair_metrics`` overall and for each value of each grouping column.

    Args:
        head: The head.
        raw_chosen: Raw outputs of shape ``(N, K)``.
        raw_rejected: Raw outputs of shape ``(N, K)``.
        preference: Shares of shape ``(N,)``, or None.
        rows: Row number of each pair, of shape ``(N,)``.
        groups: For each column the value of each row.
        objective: What was learned beside the network (see ``pair_metrics``).
        labels: The N pairs' labels.

    Returns:
        Metrics; those of a group are named ``{column}_{value}_{metric}``.
    """
    metrics = pair_metrics(head, raw_chosen, raw_rejected, preference, objective, labels)
    for column, values in groups.items():
        group = [values.get(int(row)) for row in rows]
        present = sorted({name for name in group if name is not None})
        for value in present if len(present) > 1 else ():
            mask = torch.tensor([name == value for name in group])
            part = pair_metrics(
                head,
                raw_chosen[mask],
                raw_rejected[mask],
                None if preference is None else preference[mask],
                objective,
                None if labels is None else labels.select(mask),
            )
            metrics.update({f"{column}_{value}_{name}": number for name, number in part.items()})
    return metrics
