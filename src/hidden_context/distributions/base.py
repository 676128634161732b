"""The interface of every reward distribution."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from hidden_context.distributions.difference import RewardDifference
from hidden_context.distributions.log_space import logsumexp
from hidden_context.errors import ConfigError

QuantileMethod = Literal["step", "bins"]
_Reward = TypeVar("_Reward", bound="RewardDistribution")


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
        r"""Return the log-density of a noisy observation of the reward.

        .. math:: \log \sum_c w_c\, N(y; m_c, s_c^2 + \tau^2)

        Args:
            value: Observed y in reward units, broadcasting against ``batch_shape``.
            noise: Its standard deviation τ in reward units, > 0 where a component is a point.

        Returns:
            Log-densities in nats, of the broadcast batch shape.
        """
        noise = torch.as_tensor(noise, dtype=self.scale.dtype, device=self.scale.device)
        scale = torch.hypot(self.scale, noise)
        z = (value.unsqueeze(-1) - self.location) / scale
        log_normal = -0.5 * z.square() - scale.log() - 0.5 * math.log(2 * math.pi)
        return logsumexp(self.log_weights + log_normal)


class RewardDistribution(Distribution, abc.ABC):
    r"""Reward distribution of each text in a batch, in reward units.

    ``batch_shape`` is the shape of the batch of texts; the event is one number. Besides the
    moments, a distribution gives what cautious use needs: quantiles, the mean of the worst share
    (:meth:`cvar`), and the probability of exceeding another reward (:meth:`log_prob_greater`).
    This probability is the comparison that the head was trained with.
    """

    # Shapes and options are checked in the constructors, with errors that say what to do; values
    # are not, because looking at them would wait for the device.
    _validate_args = False

    arg_constraints: ClassVar[dict[str, Any]] = {}
    _alike: ClassVar[tuple[str, ...]] = ()  # options that two rewards compared have in common

    @abc.abstractmethod
    def _map_parameters(self, function: Callable[[Tensor], Tensor]) -> RewardDistribution:
        """Rebuild with ``function`` applied to each parameter of shape ``batch_shape + …``."""

    def expand(self, batch_shape: Any, _instance: Any = None) -> RewardDistribution:
        """Broadcast to a larger batch shape."""
        return self._map_parameters(lambda parameter: parameter.expand(batch_shape))

    @abc.abstractmethod
    def quantile(self, q: float | Tensor, method: QuantileMethod = "step") -> Tensor:
        r"""Return a quantile, the generalised inverse :math:`\inf\{x : F(x) \ge q\}`.

        Args:
            q: Level in (0, 1); a number, or a tensor that broadcasts against ``batch_shape``.
            method: Only discrete distributions have two readings; others give the same for both.

        Returns:
            Rewards, of shape ``batch_shape``.
        """

    @abc.abstractmethod
    def cvar(self, alpha: float) -> Tensor:
        r"""Return the CVaR (conditional value at risk): the mean of the worst ``alpha`` share.

        .. math:: \frac{1}{\alpha}\int_0^\alpha F^{-1}(q)\,dq

        Args:
            alpha: Share in (0, 1]; 1 gives the mean.

        Returns:
            Rewards, of shape ``batch_shape``.
        """

    @abc.abstractmethod
    def entropic(self, theta: float) -> Tensor:
        r"""Compute the entropic risk :math:`-\frac{1}{\theta}\log E\,e^{-\theta u}`, ``theta`` > 0.

        Args:
            theta: Aversion to risk, per reward unit; towards 0 this tends to the mean.

        Returns:
            Rewards, of shape ``batch_shape``.
        """

    @abc.abstractmethod
    def log_prob_greater(self, other: RewardDistribution) -> Tensor:
        """Return the log-probability that this reward beats ``other``'s; ties count half.

        It uses the likelihood that the head was trained with, so it equals the head's
        ``log_prob_preferred``.

        Args:
            other: A distribution of the same kind, whose batch shape broadcasts.

        Returns:
            Log-probabilities in nats, of the broadcast batch shape.

        Raises:
            ConfigError: If the two are of different kinds.
        """

    @abc.abstractmethod
    def difference(self, other: RewardDistribution) -> RewardDifference:
        """Return the distribution of this reward minus ``other``'s, with a comparison's noise.

        At the threshold 0 it agrees with ``log_prob_greater``; at others it gives the
        probabilities of ties, strengths and margins.

        Args:
            other: A distribution of the same kind, whose batch shape broadcasts.

        Returns:
            The difference, of the broadcast batch shape, in reward units.

        Raises:
            ConfigError: If the two are of different kinds.
        """

    @abc.abstractmethod
    def components(self) -> Components:
        """Read the reward as a mixture of normals and points, for absolute ratings."""

    @property
    def variance_parts(self) -> dict[str, Tensor]:
        """Variance split by cause, each part of shape ``batch_shape``; they sum to ``variance``.

        ``shared_context``: the context that one annotator brings to all responses of a prompt;
        ``noise`` of one person's judgement; ``ignorance``: what the model does not know. A
        distribution that cannot tell the first two apart gives ``unsplit``. No part says how often
        two people answer differently: see ``statistics.evaluation.expected_answers``.
        """
        return {"unsplit": self.variance}

    def difference_parts(self, other: RewardDistribution) -> dict[str, Tensor]:
        """Return the variance of the difference to ``other``, split as in ``variance_parts``.

        Comparisons identify these parts, but not the parts of a single reward, because everything
        that all responses to a prompt share cancels.

        Args:
            other: A distribution of the same kind, whose batch shape broadcasts.

        Returns:
            Variances in squared reward units, of the broadcast batch shape.
        """
        return {"unsplit": self.difference(other).variance}

    def relative(
        self, dim: int = -1, *, baseline: int | None = None, noise: bool = False
    ) -> RewardDistribution:
        """Return rewards relative to the prompt's other candidates (see ``FactorReward.relative``).

        Raises:
            ConfigError: Unless the rewards have a context that the candidates share.
        """
        raise ConfigError(
            f"{type(self).__name__} has no shared context, so the rewards of a prompt's responses "
            "have no joint distribution; relative rewards need a factor head."
        )

    def given(self, location: Tensor, scale: Tensor | None = None) -> RewardDistribution:
        """Return rewards of annotators who are known in part (see ``FactorReward.given``).

        Raises:
            ConfigError: Unless the rewards have a context that annotators share.
        """
        raise self._no_context()

    def context_spread(self, other: RewardDistribution | None, scale: Tensor) -> Tensor:
        """Return the deviation that an unknown context adds to a difference (see ``FactorReward``).

        Raises:
            ConfigError: Unless the rewards have a context that annotators share.
        """
        raise self._no_context()

    def _no_context(self) -> ConfigError:
        return ConfigError(f"{type(self).__name__} has no annotator context; use a factor head.")

    def __getitem__(self, index: Any) -> RewardDistribution:
        """Select from the batch: ``rewards[0]``, ``rewards[2:5]``, ``rewards[mask]``."""
        return self._map_parameters(lambda parameter: parameter[index])

    def __repr__(self) -> str:
        """Show the kind and the shape of the batch."""
        return f"{type(self).__name__}(batch_shape={tuple(self.batch_shape)})"

    def __len__(self) -> int:
        """Return the length of the first batch dimension."""
        if not self.batch_shape:
            raise TypeError("a single reward has no length")
        return int(self.batch_shape[0])

    def _same(self: _Reward, other: RewardDistribution) -> _Reward:
        """Return ``other`` if it is of the same kind and options, else raise an error."""
        if not isinstance(other, type(self)):
            raise self._refuse(f"{type(other).__name__} is another kind of reward distribution")
        for name in self._alike:
            own, theirs = getattr(self, name), getattr(other, name)
            if own != theirs:
                raise self._refuse(f"its {name} is {own}, the other's {theirs}")
        return other

    def _refuse(self, reason: str) -> ConfigError:
        return ConfigError(
            f"{type(self).__name__} cannot be compared: {reason}. "
            "Both sides must come from heads of the same type and options."
        )

    @staticmethod
    def _level(q: float | Tensor, like: Tensor) -> Tensor:
        """Check a quantile level; return it in the dtype and on the device of ``like``."""
        if isinstance(q, Tensor):
            if not bool(((q > 0) & (q < 1)).all()):
                raise ConfigError("every quantile level must lie in (0, 1).")
            return q.to(like)
        if not 0.0 < q < 1.0:
            raise ConfigError(f"the quantile level is {q}; it must lie in (0, 1).")
        return torch.as_tensor(q, dtype=like.dtype, device=like.device)

    @staticmethod
    def _check_share(alpha: float) -> None:
        if not 0.0 < alpha <= 1.0:
            raise ConfigError(f"alpha is {alpha}; it must lie in (0, 1].")

    @staticmethod
    def _check_aversion(theta: float) -> None:
        if not theta > 0:
            raise ConfigError(f"theta is {theta}; it must be positive.")

    @staticmethod
    def _by_column(function: Callable[[Tensor], Tensor], parameter: Tensor) -> Tensor:
        """Apply a function of the batch to a parameter of shape ``batch_shape + (C,)``, C ≥ 1."""
        return torch.stack([function(column) for column in parameter.unbind(-1)], dim=-1)

    def _candidates(self, dim: int) -> int:
        """Return the batch dimension of a prompt's candidates, counted from the front."""
        if not -len(self.batch_shape) <= dim < len(self.batch_shape):
            raise ConfigError(
                f"dimension {dim} of rewards of batch shape {tuple(self.batch_shape)} holds no "
                "candidates; score several responses together."
            )
        return dim % len(self.batch_shape)
