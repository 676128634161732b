"""The ensemble head: several heads on one network, whose spread shows the model's ignorance."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Final

import torch
from torch import Tensor

from hidden_context.distributions import EnsembleReward
from hidden_context.errors import ConfigError
from hidden_context.heads.base import Head, LinearMean
from hidden_context.heads.scalar import ScalarHead

_SCALAR: Final = ScalarHead()


@dataclasses.dataclass(frozen=True)
class EnsembleHead(Head):
    r"""M heads of one kind, trained on different shares of the pairs from different starts.

    Raw outputs of member 0 come first, then of member 1, and so on. Each member starts from random
    output weights of scale ``prior_scale`` and is not pulled back to zero, so the members keep
    differing far from the data. For a linear output layer, this start is a randomised prior.

    Args:
        member: The members' head.
        num_members: M, at least 1.
        prior_scale: Scale of the members' output weights at the start, relative to the layer's
            ordinary initial weights.
        location: Each member's :math:`l_m`; empty for 0. ``in_one_unit`` sets it after training.
        scale: Each member's :math:`c_m`; empty for 1.

    Raises:
        ConfigError: If there is no member, the member is an ensemble, or the numbers do not fit.

    Source: Osband et al. (2018) for randomised priors; Lakshminarayanan et al. (2017).
    """

    member: Head = _SCALAR
    num_members: int = 5
    prior_scale: float = 1.0
    location: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    type: ClassVar[str] = "ensemble"
    can_average = False  # members are meant to differ

    def __post_init__(self) -> None:
        for name in ("location", "scale"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
            if len(getattr(self, name)) not in (0, self.num_members):
                raise ConfigError(f"{name} must be empty or have one number per member.")
        if self.member.num_members:
            raise ConfigError("an ensemble's members cannot be ensembles.")
        if self.num_members < 1:
            raise ConfigError(f"num_members is {self.num_members}; at least 1 is needed.")
        if not self.prior_scale >= 0 or not all(c > 0 for c in self.scale):
            raise ConfigError("prior_scale cannot be negative, and scales must be positive.")

    @property
    def num_outputs(self) -> int:
        """Number of outputs of all M members."""
        return self.num_members * self.member.num_outputs

    @property
    def meaning(self) -> str:
        """Description of the raw outputs for readers."""
        return f"for each of {self.num_members} members: {self.member.meaning}"

    @property
    def output_scales(self) -> tuple[float, ...]:
        """The members' scales, at least ``prior_scale``."""
        return tuple(max(c, self.prior_scale) for c in self.member.output_scales) * self.num_members

    @property
    def has_context(self) -> bool:
        """Whether the members model a shared context."""
        return self.member.has_context

    @property
    def num_factors(self) -> int:
        """Number of factors of each member."""
        return self.member.num_factors

    @property
    def linear_mean(self) -> LinearMean | None:
        """The mean of the members' means in one unit; None if a member's mean is not linear."""
        mean, count = self.member.linear_mean, self.num_members
        if mean is None:
            return None
        location, scale = self.location or (0.0,) * count, self.scale or (1.0,) * count
        weights = tuple(weight / (unit * count) for unit in scale for weight in mean.weights)
        shifts = ((mean.constant - zero) / unit for zero, unit in zip(location, scale, strict=True))
        return LinearMean(weights, sum(shifts) / count)

    def distribution(self, raw: Tensor) -> EnsembleReward:
        """Read raw ``(…, M K)`` as ensemble rewards of batch shape ``(…)``."""
        members = self.member.distribution(self._by_member(self._check(raw)))
        like = members.mean
        location = like.new_tensor(self.location or (0.0,) * self.num_members)
        scale = like.new_tensor(self.scale or (1.0,) * self.num_members)
        return EnsembleReward(members, location, scale)

    def _by_member(self, raw: Tensor) -> Tensor:
        """Lay raw outputs ``(…, M K)`` out as ``(…, M, K)``."""
        return raw.unflatten(-1, (self.num_members, -1))

    def penalty(self, raw_chosen: Tensor, raw_rejected: Tensor) -> Tensor:
        """Return the mean of the members' penalties, a scalar."""
        sides = [self._by_member(raw).unbind(-2) for raw in (raw_chosen, raw_rejected)]
        parts = [self.member.penalty(a, b) for a, b in zip(*sides, strict=True)]
        return torch.stack(parts).mean()

    def in_one_unit(self, raw_chosen: Tensor, raw_rejected: Tensor) -> EnsembleHead:
        """Bring the members' rewards to one unit, measured on a set of pairs.

        Each member's unit becomes the root mean square of its reward difference between the two
        sides of a pair, including the noise. Its location becomes the mean reward of all texts.
        Comparisons do not change.

        Args:
            raw_chosen: Raw outputs of shape ``(N, M K)``.
            raw_rejected: Raw outputs of that shape.

        Returns:
            The head with ``location`` and ``scale``.
        """
        chosen, rejected = (
            self.member.distribution(self._by_member(raw.detach()).double())
            for raw in (raw_chosen, raw_rejected)
        )
        difference = chosen.difference(rejected)
        square = (difference.mean.square() + difference.variance).mean(0)
        location = (chosen.mean + rejected.mean).mean(0) / 2
        return dataclasses.replace(
            self, location=tuple(location.tolist()), scale=tuple(square.sqrt().tolist())
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, which contains the JSON form of the members' head."""
        values = super().to_dict()
        return {**values, "member": self.member.to_dict()}
