"""The interface every head has."""

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
class Head(abc.ABC):
    """Reads a network's raw outputs as reward distributions; it has options but no weights."""

    type: ClassVar[str]

    @property
    @abc.abstractmethod
    def num_outputs(self) -> int:
        """Number K of raw outputs per text."""

    @property
    def meaning(self) -> str:
        """What the raw outputs are, for people."""
        return f"{self.num_outputs} raw outputs of a {self.type} head"

    @property
    def output_scales(self) -> tuple[float, ...]:
        """Factor on the initial weights of each raw output, K numbers.

        Training starts from nearly equal rewards unless a head needs another start.
        """
        return (SMALL_START,) * self.num_outputs

    @property
    def members(self) -> tuple[Head, int]:
        """The head of one member and the number M of members: itself and 1, but for ensembles."""
        return self, 1

    @property
    def can_average(self) -> bool:
        """Whether raw outputs of networks trained apart mean the same and may be averaged."""
        return True

    @classmethod
    def options_for_width(cls, width: int) -> dict[str, Any]:
        """Options that make a head of this type read ``width`` outputs, where it has any."""
        return {}

    def by_member(self, raw: Tensor) -> Tensor:
        """Lay raw outputs ``(…, M K)`` out as ``(…, M, K)``."""
        return raw.unflatten(-1, (self.members[1], -1))

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
        r"""Log-probability that the chosen text is preferred, :math:`\log P(a \succ b)`.

        Args:
            raw_chosen: Raw outputs of shape ``(…, K)``.
            raw_rejected: Raw outputs of a shape that broadcasts against it.

        Returns:
            Log-probabilities in nats, of shape ``(…)``.
        """
        return self.distribution(raw_chosen).log_prob_greater(self.distribution(raw_rejected))

    def penalty(self, raw_chosen: Tensor, raw_rejected: Tensor) -> Tensor:
        """Regulariser of a batch, in nats, to be added to the mean loss in training only.

        Args:
            raw_chosen: Raw outputs of shape ``(…, K)``.
            raw_rejected: Raw outputs of the same shape.

        Returns:
            A scalar; zero unless the head has a penalty.
        """
        return raw_chosen.new_zeros(())

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
                f"the {self.type} head reads {self.num_outputs} outputs per text, but the raw "
                f"outputs have shape {tuple(raw.shape)}."
            )
        return raw
