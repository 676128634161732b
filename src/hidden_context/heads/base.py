"""The interface of every head."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar, Final

from torch import Tensor

from hidden_context.distributions import RewardDistribution
from hidden_context.errors import ConfigError

FORMAT_VERSION = 1
SMALL_START: Final = 0.01


@dataclasses.dataclass(frozen=True)
class LinearMean:
    r"""A mean reward that is linear in the raw outputs, :math:`E[u] = w\cdot\text{raw} + b`.

    Args:
        weights: w, K numbers.
        constant: b, in reward units.
    """

    weights: tuple[float, ...]
    constant: float = 0.0

    @classmethod
    def output(cls, number: int, num_outputs: int) -> LinearMean:
        """Return a mean that equals one of the K raw outputs."""
        return cls(tuple(float(place == number) for place in range(num_outputs)))


@dataclasses.dataclass(frozen=True)
class Head(abc.ABC):
    """A head reads raw outputs as reward distributions; it has options but no weights.

    Attributes:
        type: The name of the kind of head.
        mean_output: Which raw output is the mean reward itself; None if none is.
    """

    type: ClassVar[str]
    mean_output: ClassVar[int | None] = None

    @property
    @abc.abstractmethod
    def num_outputs(self) -> int:
        """Number K of raw outputs per text."""

    @property
    def meaning(self) -> str:
        """Description of the raw outputs for readers."""
        return f"{self.num_outputs} raw outputs of a {self.type} head"

    @property
    def output_scales(self) -> tuple[float, ...]:
        """Factor on the initial weights of each raw output, K numbers.

        Training starts from nearly equal rewards unless a head needs another start.
        """
        return (SMALL_START,) * self.num_outputs

    @property
    def num_members(self) -> int:
        """Number M of members of an ensemble; 0 for any other head."""
        return 0

    @property
    def member(self) -> Head:
        """The head of one member; any head but an ensemble is its own member."""
        return self

    @property
    def has_context(self) -> bool:
        """Whether the head models a context that the responses to a prompt share."""
        return False

    @property
    def num_factors(self) -> int:
        """Number F of factors of the shared context; 0 without one."""
        return 0

    @property
    def can_average(self) -> bool:
        """Whether raw outputs of separately trained networks may be averaged."""
        return True

    @property
    def linear_mean(self) -> LinearMean | None:
        """The mean reward as a linear function of the raw outputs; None if it is not linear."""
        if self.mean_output is None:
            return None
        return LinearMean.output(self.mean_output, self.num_outputs)

    @classmethod
    def options_for_width(cls, width: int) -> dict[str, Any]:
        """Return the options of a head of this type that reads ``width`` outputs."""
        return {}

    @abc.abstractmethod
    def distribution(self, raw: Tensor) -> RewardDistribution:
        """Read raw outputs as reward distributions.

        Args:
            raw: Raw outputs of shape ``(…, K)``; half precision is computed in float32.

        Returns:
            A distribution of batch shape ``(…)``, in reward units.

        Raises:
            ConfigError: If the last dimension is not K.
        """

    def log_prob_preferred(self, raw_chosen: Tensor, raw_rejected: Tensor) -> Tensor:
        r"""Return the log-probability that the chosen text is preferred, :math:`\log P(a \succ b)`.

        Args:
            raw_chosen: Raw outputs of shape ``(…, K)``.
            raw_rejected: Raw outputs of a shape that broadcasts against it.

        Returns:
            Log-probabilities in nats, of shape ``(…)``.
        """
        return self.distribution(raw_chosen).log_prob_greater(self.distribution(raw_rejected))

    def penalty(self, raw_chosen: Tensor, raw_rejected: Tensor) -> Tensor:
        """Return a batch's penalty in nats, which training adds to the mean loss.

        Args:
            raw_chosen: Raw outputs of shape ``(…, K)``.
            raw_rejected: Raw outputs of the same shape.

        Returns:
            A scalar; zero unless the head has a penalty.
        """
        return raw_chosen.new_zeros(())

    def in_one_unit(self, raw_chosen: Tensor, raw_rejected: Tensor) -> Head:
        """Return an ensemble with its members' rewards in one unit; other heads do not change.

        Args:
            raw_chosen: Raw outputs of shape ``(N, K)``.
            raw_rejected: Raw outputs of that shape.
        """
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; ``heads.from_dict`` reads it back."""
        return {
            "type": self.type,
            "num_outputs": self.num_outputs,
            **dataclasses.asdict(self),
            "version": FORMAT_VERSION,
        }

    def _check(self, raw: Tensor) -> Tensor:
        if raw.dim() == 0 or raw.shape[-1] != self.num_outputs:
            raise ConfigError(
                f"the {self.type} head needs raw outputs of shape (…, {self.num_outputs}), but "
                f"they have shape {tuple(raw.shape)}."
            )
        return raw
