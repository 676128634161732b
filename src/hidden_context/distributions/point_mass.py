"""The ordinary scalar reward as a distribution without spread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Size, Tensor
from torch.nn import functional

from hidden_context.distributions.base import Components, QuantileMethod, RewardDistribution
from hidden_context.distributions.difference import RewardDifference
from hidden_context.distributions.log_space import at_least_float32


class PointMassReward(RewardDistribution):
    r"""All probability on one reward; comparisons are logistic (Bradley-Terry-Luce).

    .. math:: P(a \succ b) = \operatorname{sigmoid}(r_a - r_b)

    The degenerate case that lets every tool work on ordinary reward models too: every quantile and
    every risk measure is the reward itself. The noise of a comparison lies in the likelihood, not
    in the distribution.

    Args:
        value: The rewards, any shape.
    """

    def __init__(self, value: Tensor) -> None:
        self.value = at_least_float32(value)
        super().__init__(self.value.shape)

    def _map_parameters(self, function: Callable[[Tensor], Tensor]) -> PointMassReward:
        return PointMassReward(function(self.value))

    @property
    def mean(self) -> Tensor:
        """The reward, of shape ``batch_shape``."""
        return self.value

    @property
    def variance(self) -> Tensor:
        """Zero, of shape ``batch_shape``."""
        return torch.zeros_like(self.value)

    def quantile(self, q: float | Tensor, method: QuantileMethod = "step") -> Tensor:
        """Return the reward, whatever the level (see the base class)."""
        level = self._level(q, self.value)
        return self.value.expand(torch.broadcast_shapes(self.value.shape, level.shape))

    def cdf(self, value: Tensor) -> Tensor:
        """Return the right-continuous step from 0 to 1 at the reward."""
        return (torch.as_tensor(value, device=self.value.device) >= self.value).to(self.value)

    def cvar(self, alpha: float) -> Tensor:
        """Return the reward, whatever the share (see the base class)."""
        self._check_share(alpha)
        return self.value

    def entropic(self, theta: float) -> Tensor:
        """Return the reward, whatever the aversion (see the base class)."""
        self._check_aversion(theta)
        return self.value

    def log_prob_greater(self, other: RewardDistribution) -> Tensor:
        r"""Return :math:`\log\operatorname{sigmoid}(r_a - r_b)`, in nats (see the base class)."""
        return functional.logsigmoid(self.value - self._same(other).value)

    def difference(self, other: RewardDistribution) -> RewardDifference:
        """Return the difference of rewards with standard logistic noise (see the base class)."""
        location = (self.value - self._same(other).value).unsqueeze(-1)
        zero = torch.zeros_like(location)
        return RewardDifference(zero, location, zero + 1, "logistic")

    def components(self) -> Components:
        """Return one point (see the base class)."""
        location = self.value.unsqueeze(-1)
        zero = torch.zeros_like(location)
        return Components(zero, location, zero)

    @property
    def variance_parts(self) -> dict[str, Tensor]:
        """No parts, because the reward does not vary (see the base class)."""
        return {}

    def difference_parts(self, other: RewardDistribution) -> dict[str, Tensor]:
        r"""Return only noise: the logistic likelihood's :math:`\pi^2/3` (see the base class)."""
        return {"noise": self.difference(other).variance}

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Return the reward itself, of shape ``sample_shape + batch_shape``, with its gradient."""
        return self.value.expand(Size(sample_shape) + self.batch_shape)
