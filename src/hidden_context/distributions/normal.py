"""The normal reward distribution of the mean-and-variance head."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Size, Tensor

from hidden_context.distributions.base import Components, QuantileMethod, RewardDistribution
from hidden_context.distributions.difference import RewardDifference
from hidden_context.distributions.log_space import (
    at_least_float32,
    check_likelihood,
    log_comparison,
)


class NormalReward(RewardDistribution):
    r"""Normally distributed reward :math:`u \sim N(\mu, \sigma^2)`.

    .. math:: P(a \succ b) = \Phi(z), \quad z = (\mu_a-\mu_b)/\sqrt{\sigma_a^2+\sigma_b^2}

    with ``likelihood="probit"``, the exact probability of independent normals; with ``"logistic"``
    it is :math:`\operatorname{sigmoid}(\sqrt{2\pi}\,z)`, as the paper's code has it.

    Args:
        mean: Means in reward units, any shape.
        stddev: Positive standard deviations that broadcast against ``mean``.
        likelihood: How comparisons are modelled, ``"probit"`` or ``"logistic"``.

    Raises:
        ConfigError: If the likelihood is unknown.

    Source: DPL paper (arXiv 2312.08358), section 4, mean-and-variance model.
    """

    has_rsample = True
    _alike = ("likelihood",)

    def __init__(self, mean: Tensor, stddev: Tensor, likelihood: str = "probit") -> None:
        check_likelihood(likelihood)
        self._mean, self._stddev = torch.broadcast_tensors(
            at_least_float32(mean), at_least_float32(stddev)
        )
        self.likelihood = likelihood
        super().__init__(self._mean.shape)

    def _map_parameters(self, function: Callable[[Tensor], Tensor]) -> NormalReward:
        return NormalReward(function(self._mean), function(self._stddev), self.likelihood)

    @property
    def mean(self) -> Tensor:
        """Means in reward units, of shape ``batch_shape``."""
        return self._mean

    @property
    def stddev(self) -> Tensor:
        """Standard deviations in reward units, of shape ``batch_shape``."""
        return self._stddev

    @property
    def variance(self) -> Tensor:
        """Variances in squared reward units, of shape ``batch_shape``."""
        return self._stddev.square()

    def quantile(self, q: float | Tensor, method: QuantileMethod = "step") -> Tensor:
        r"""Return the quantile :math:`\mu + \Phi^{-1}(q)\,\sigma` (see the base class)."""
        return self._mean + torch.special.ndtri(self._level(q, self._mean)) * self._stddev

    def cdf(self, value: Tensor) -> Tensor:
        r"""Return the distribution function :math:`\Phi((x-\mu)/\sigma)`."""
        return torch.special.ndtr((value - self._mean) / self._stddev)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density in nats."""
        z = (value - self._mean) / self._stddev
        return -0.5 * z.square() - self._stddev.log() - 0.5 * math.log(2 * math.pi)

    def cvar(self, alpha: float) -> Tensor:
        r"""Return the CVaR :math:`\mu - \sigma\,\varphi(\Phi^{-1}(\alpha))/\alpha`."""
        self._check_share(alpha)
        if alpha == 1.0:
            return self._mean
        z = torch.special.ndtri(torch.tensor(alpha, dtype=torch.float64)).item()
        density = math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
        return self._mean - self._stddev * (density / alpha)

    def entropic(self, theta: float) -> Tensor:
        r"""Return the entropic risk, in closed form :math:`\mu - \theta\sigma^2/2`."""
        self._check_aversion(theta)
        return self._mean - 0.5 * theta * self.variance

    def log_prob_greater(self, other: RewardDistribution) -> Tensor:
        """Return the log-probability of being preferred, with the chosen likelihood."""
        other = self._same(other)
        z = (self._mean - other._mean) / torch.hypot(self._stddev, other._stddev)
        return log_comparison(z, self.likelihood)

    def difference(self, other: RewardDistribution) -> RewardDifference:
        r"""Return a normal (``probit``) or logistic (``logistic``) difference (see the base class).

        Its scale is :math:`\sqrt{\sigma_a^2+\sigma_b^2}`, over :math:`\sqrt{2\pi}` if logistic.
        """
        other = self._same(other)
        location = (self._mean - other._mean).unsqueeze(-1)
        scale = torch.hypot(self._stddev, other._stddev).unsqueeze(-1)
        zero = torch.zeros_like(location)
        if self.likelihood == "probit":
            return RewardDifference(zero, location, scale)
        return RewardDifference(zero, location, scale / math.sqrt(2 * math.pi), "logistic")

    def components(self) -> Components:
        """Return one normal (see the base class)."""
        location = self._mean.unsqueeze(-1)
        return Components(torch.zeros_like(location), location, self._stddev.unsqueeze(-1))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draw rewards with gradient, of shape ``sample_shape + batch_shape``."""
        shape = Size(sample_shape) + self.batch_shape
        noise = torch.randn(shape, dtype=self._mean.dtype, device=self._mean.device)
        return self._mean + self._stddev * noise
