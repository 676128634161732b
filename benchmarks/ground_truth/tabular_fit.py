"""Maximum-likelihood fit of a head to a table of exact comparison probabilities."""

from __future__ import annotations

import torch
from torch import Tensor

from hidden_context.errors import ConfigError
from hidden_context.heads import Head


def fit_tabular(
    head: Head,
    probabilities: Tensor,
    *,
    max_iterations: int = 2000,
    ridge: float = 0.0,
    seed: int = 0,
) -> Tensor:
    r"""Fit one raw output per alternative to pairwise probabilities, without any network.

    Minimises the cross-entropy per ordered pair of the fitted probabilities against the given
    ones,

    .. math:: -\frac{1}{n(n-1)}\sum_{a \ne b} p(a,b) \log \hat P(a \succ b)
        + \frac{\rho}{n}\,\|\text{raw}\|^2

    by L-BFGS in float64 from a small random start: what a head would learn from unlimited data
    about n alternatives. It tells what a likelihood can and cannot express apart from what a
    network can.

    Args:
        head: The head to fit.
        probabilities: Matrix of shape ``(n, n)``, entry (a, b) the probability that a is preferred
            to b; the diagonal plays no part.
        max_iterations: Upper bound on L-BFGS iterations.
        ridge: Weight ρ of the squared raw outputs; 0 for plain maximum likelihood.
        seed: Seed of the start.

    Returns:
        Raw outputs of shape ``(n, K)`` in float64.

    Raises:
        ConfigError: If the matrix is not square, or has entries outside [0, 1].
    """
    p = torch.as_tensor(probabilities).double()
    if p.dim() != 2 or p.shape[0] != p.shape[1] or p.shape[0] < 2:
        raise ConfigError(f"a square matrix of probabilities is needed, not {tuple(p.shape)}.")
    if not bool(((p >= 0) & (p <= 1)).all()):
        raise ConfigError("probabilities must lie in [0, 1].")
    n = p.shape[0]
    first, second = (~torch.eye(n, dtype=torch.bool)).nonzero(as_tuple=True)
    weight = p[first, second]
    start = torch.randn(n, head.num_outputs, generator=torch.Generator().manual_seed(seed))
    raw = (0.1 * start.double()).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [raw],
        max_iter=max_iterations,
        history_size=50,
        tolerance_grad=1e-11,
        tolerance_change=1e-15,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        log_likelihood = weight * head.log_prob_preferred(raw[first], raw[second])
        value = -log_likelihood.mean() + ridge * raw.square().sum() / n
        value.backward()
        return value

    optimizer.step(loss)
    return raw.detach()
