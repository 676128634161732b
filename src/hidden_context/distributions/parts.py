"""The parts of a reward that is a mixture of normals and points."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from hidden_context.distributions.log_space import logsumexp


class Components(NamedTuple):
    """A mixture of C normals per text; a scale of 0 is a point.

    Attributes:
        log_weights: Normalised, of shape ``batch_shape + (C,)``.
        location: In reward units, of that shape.
        scale: Standard deviations ≥ 0 in reward units, of that shape.
    """

    log_weights: Tensor
    location: Tensor
    scale: Tensor

    def log_density(self, value: Tensor, noise: float | Tensor) -> Tensor:
        r"""Log-density of a noisy observation of the reward.

        .. math:: \log \sum_c w_c\, N(y; m_c, s_c^2 + \tau^2)

        Args:
            value: Observed y in reward units, broadcasting against ``batch_shape``.
            noise: Its standard deviation τ in reward units, > 0 where a component is a point.

        Returns:
            Log-densities in nats, of the broadcast batch shape.
        """
        own = self.scale
        noise = torch.as_tensor(noise, dtype=own.dtype, device=own.device)
        scale = torch.hypot(own, noise)
        z = (value.unsqueeze(-1) - self.location) / scale
        log_normal = -0.5 * z.square() - scale.log() - 0.5 * math.log(2 * math.pi)
        return logsumexp(self.log_weights + log_normal)
