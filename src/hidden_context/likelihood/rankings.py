"""Rankings of several responses to one prompt."""

from __future__ import annotations

import torch
from torch import Tensor

from hidden_context.errors import ConfigError
from hidden_context.heads import Head, ScalarHead


def ranking_negative_log_likelihood(head: Head, raw: Tensor, ranks: Tensor) -> Tensor:
    r"""Negative log-likelihood of rankings of n responses.

    A scalar head has the Plackett-Luce likelihood in closed form,

    .. math:: -\sum_{k<n} \log \frac{e^{r_{(k)}}}{\sum_{j \ge k} e^{r_{(j)}}}

    For other heads the probability of a ranking is an integral in n − 1 dimensions; they, and
    rankings with ties, get the composite likelihood of all pairs, weighted by 2/n so that a ranking
    counts like n − 1 comparisons. With n = 2 both are the pair's own likelihood.

    Args:
        head: The head.
        raw: Raw outputs of shape ``(B, n, K)``, n at least 2.
        ranks: Ranks of shape ``(B, n)``, 1 the best; equal ranks are ties.

    Returns:
        Losses in nats, of shape ``(B,)``.

    Raises:
        ConfigError: If the shapes do not fit, or there are fewer than two responses.

    Source: Plackett (1975), Luce (1959); Varin, Reid and Firth (2011) for composite likelihoods.
    """
    if raw.dim() != 3 or raw.shape[:2] != ranks.shape or raw.shape[1] < 2:
        raise ConfigError(
            f"raw outputs (B, n, K) and ranks (B, n) of n ≥ 2 responses are needed, not "
            f"{tuple(raw.shape)} and {tuple(ranks.shape)}."
        )
    if isinstance(head, ScalarHead) and not _has_ties(ranks):
        rewards = head.distribution(raw).value
        ordered = rewards.gather(1, ranks.argsort(dim=1))
        rest = ordered.flip(1).logcumsumexp(1).flip(1)
        return (rest - ordered).sum(1)
    count = raw.shape[1]
    first, second = torch.triu_indices(count, count, offset=1, device=raw.device)
    forward = head.log_prob_preferred(raw[:, first], raw[:, second])
    backward = head.log_prob_preferred(raw[:, second], raw[:, first])
    order = torch.sign(ranks[:, second] - ranks[:, first])  # 1 where the first is better
    tie = 0.5 * (forward + backward)
    log_probs = torch.where(order > 0, forward, torch.where(order < 0, backward, tie))
    return -log_probs.sum(1) * 2 / count


def _has_ties(ranks: Tensor) -> bool:
    return bool((ranks.sort(dim=1).values.diff(dim=1) == 0).any())
