"""Shares of the variance of rewards."""

from __future__ import annotations

import torch
from torch import Tensor

from hidden_context.errors import ConfigError


def explained_variance(mean: Tensor, variance: Tensor) -> float:
    r"""Share of the variance of rewards that the text explains.

    .. math:: r^2 = \operatorname{Var}[\hat\mu] / (\operatorname{Var}[\hat\mu] + E[\hat\sigma^2])

    Near 1 the reward hardly varies between contexts; a low value shows hidden context. The variance
    of the means is the population's (divided by n), computed in float64.

    Args:
        mean: Mean reward of each text, any shape, at least one text.
        variance: Variance of the reward of each text, of the same shape.

    Returns:
        r² in [0, 1]; NaN where neither means nor variances vary at all.

    Raises:
        ConfigError: If the shapes differ or there is no text.

    Source: DPL paper (arXiv 2312.08358), section 5.
    """
    mean, variance = torch.as_tensor(mean).double(), torch.as_tensor(variance).double()
    if mean.shape != variance.shape or mean.numel() == 0:
        raise ConfigError(
            "means and variances of the same, non-empty set of texts are needed; got shapes "
            f"{tuple(mean.shape)} and {tuple(variance.shape)}."
        )
    explained = mean.var(correction=0)
    return float(explained / (explained + variance.mean()))
