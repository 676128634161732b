"""Hard and soft preferences: per-pair negative log-likelihoods in nats, and reductions."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from hidden_context.errors import ConfigError
from hidden_context.heads import Head

Reduction = Literal["mean", "sum", "none"]


def negative_log_likelihood(
    head: Head,
    raw_chosen: Tensor,
    raw_rejected: Tensor,
    preference: Tensor | None = None,
    reduction: Reduction = "none",
) -> Tensor:
    r"""Cross-entropy of each comparison under the head's likelihood, unreduced by default.

    .. math:: -w\log P(a \succ b) - (1-w)\log P(b \succ a)

    Args:
        head: The head that reads the raw outputs.
        raw_chosen: Raw outputs of shape ``(B, K)``.
        raw_rejected: Raw outputs of shape ``(B, K)``.
        preference: Share w of annotators for ``chosen``, of shape ``(B,)``: 1 for a hard label, ½
            for a tie, anything between for vote shares. None means 1 throughout.
        reduction: ``none``, ``mean`` or ``sum`` over the pairs.

    Returns:
        Losses in nats, of shape ``(B,)`` or a scalar.

    Source: DPL paper (arXiv 2312.08358), equation 1, with soft labels as cross-entropy.
    """
    loss = -head.log_prob_preferred(raw_chosen, raw_rejected)
    if preference is None:
        return reduce(loss, reduction)
    weight = preference.to(loss)
    against = -head.log_prob_preferred(raw_rejected, raw_chosen)
    # a zero weight must remove a side even where its loss is infinite
    loss = torch.where(weight > 0, weight * loss, 0.0)
    return reduce(loss + torch.where(weight < 1, (1 - weight) * against, 0.0), reduction)


def reduce(values: Tensor, reduction: Reduction) -> Tensor:
    """Reduce per-pair values of shape ``(B,)``: ``mean``, ``sum``, or ``none`` as they are.

    Raises:
        ConfigError: If the reduction is unknown.
    """
    if reduction == "mean":
        return values.mean()
    if reduction == "sum":
        return values.sum()
    if reduction == "none":
        return values
    raise ConfigError(f"reduction {reduction!r} is not known; choose mean, sum or none.")


def ranked_right(head: Head, raw_chosen: Tensor, raw_rejected: Tensor) -> Tensor:
    """Whether each pair is ranked as labelled: 1, 0, or ½ where both orders are equally likely.

    Compares log P(a ≻ b) with log P(b ≻ a), which are equal to the bit for equal raw outputs.

    Args:
        head: The head that reads the raw outputs.
        raw_chosen: Raw outputs of shape ``(B, K)``.
        raw_rejected: Raw outputs of shape ``(B, K)``.

    Returns:
        Values in {0, ½, 1} of shape ``(B,)``.
    """
    forward = head.log_prob_preferred(raw_chosen, raw_rejected)
    backward = head.log_prob_preferred(raw_rejected, raw_chosen)
    return 0.5 + 0.5 * torch.sign(forward - backward)
