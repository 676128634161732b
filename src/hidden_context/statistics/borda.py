"""Probabilities of preference between all responses of a set, and their Borda counts."""

from __future__ import annotations

import torch
from torch import Tensor

from hidden_context.errors import ConfigError
from hidden_context.heads import Head


def pairwise_probabilities(head: Head, raw: Tensor) -> Tensor:
    """Return P(a ≻ b) of all ordered pairs of responses to one prompt.

    Args:
        head: The head.
        raw: Raw outputs of the n responses, of shape ``(n, K)``.

    Returns:
        Probabilities of shape ``(n, n)``, row a against column b, with ½ on the diagonal.

    Raises:
        ConfigError: If ``raw`` is not a matrix.
    """
    if raw.dim() != 2:
        raise ConfigError(f"raw outputs of shape (n, K) are needed, not {tuple(raw.shape)}.")
    n = len(raw)
    first, second = raw.unsqueeze(1).expand(n, n, -1), raw.unsqueeze(0).expand(n, n, -1)
    return head.log_prob_preferred(first, second).exp().fill_diagonal_(0.5)


def borda_counts(probability: Tensor) -> Tensor:
    r"""Return each response's mean probability of being preferred to another response.

    .. math:: \mathrm{BC}(a) = \frac{1}{n - 1} \sum_{b \ne a} P(a \succ b)

    With hidden context, a scalar reward model learns to order responses by their Borda count, not
    by expected utility. The paper also counts a response against itself, which moves all counts
    towards ½ and keeps the order: its count is ``((n − 1)·BC + ½) / n``.

    Args:
        probability: P(a ≻ b), of shape ``(n, n)`` with n ≥ 2; the diagonal is ignored.

    Returns:
        Counts in [0, 1], of shape ``(n,)``, in float64; their mean is ½.

    Raises:
        ConfigError: If the matrix is not square, has fewer than two rows, or has entries outside
            [0, 1].

    Source: DPL paper (arXiv 2312.08358), section 3.
    """
    p = torch.as_tensor(probability).double()
    if p.dim() != 2 or p.shape[0] != p.shape[1] or p.shape[0] < 2:
        raise ConfigError(f"a square matrix of probabilities is needed, not {tuple(p.shape)}.")
    if not bool(((p >= 0) & (p <= 1)).all()):
        raise ConfigError("probabilities must lie in [0, 1].")
    return (p.sum(1) - p.diagonal()) / (p.shape[0] - 1)
