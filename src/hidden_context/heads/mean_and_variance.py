"""The mean-and-variance head: a normal reward per text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from torch import Tensor
from torch.nn import functional

from hidden_context.distributions import NormalReward
from hidden_context.distributions.log_space import at_least_float32, check_likelihood
from hidden_context.errors import ConfigError
from hidden_context.heads.base import Head

STDDEV_FLOOR: Final = 1e-6


@dataclass(frozen=True)
class MeanAndVarianceHead(Head):
    r"""A normal reward per text.

    .. math:: \mu = \text{raw}_0, \; \sigma = \max(\operatorname{softplus}(\text{raw}_1), 10^{-6})

    The floor keeps comparisons finite where softplus underflows; above raw₁ = −13.8 it plays no
    part.

    Args:
        variance_penalty: λ of the training penalty
            :math:`\lambda\,\text{mean}(\sigma_a^2+\sigma_b^2)`.
        likelihood: ``"probit"`` (exact) or ``"logistic"`` (the paper's code).

    Raises:
        ConfigError: If the likelihood is unknown or the penalty negative.

    Source: DPL paper (arXiv 2312.08358), section 4 and appendix B.
    """

    variance_penalty: float = 0.0
    likelihood: str = "probit"
    type: ClassVar[str] = "mean_and_variance"
    mean_output = 0
    num_outputs = 2
    meaning = "mean, and standard deviation before softplus, of a normal reward"

    def __post_init__(self) -> None:
        check_likelihood(self.likelihood)
        if not self.variance_penalty >= 0:
            raise ConfigError(f"variance_penalty is {self.variance_penalty}; it must be ≥ 0.")

    def distribution(self, raw: Tensor) -> NormalReward:
        """Read raw ``(…, 2)`` as normal rewards of batch shape ``(…)``."""
        mean, scale = at_least_float32(self._check(raw)).unbind(-1)
        return NormalReward(
            mean, functional.softplus(scale).clamp(min=STDDEV_FLOOR), self.likelihood
        )

    def penalty(self, raw_chosen: Tensor, raw_rejected: Tensor) -> Tensor:
        """Return the weighted mean of the two variances over the pairs, a scalar (see class)."""
        if self.variance_penalty == 0:
            return super().penalty(raw_chosen, raw_rejected)
        total = self.distribution(raw_chosen).variance + self.distribution(raw_rejected).variance
        return self.variance_penalty * total.mean()
