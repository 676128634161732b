"""Annotators' contexts: for each, a point or a distribution in the factors' space."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal, get_args

import torch
from torch import Tensor, nn

from hidden_context.errors import ConfigError
from hidden_context.likelihood.labels import UNKNOWN

Inference = Literal["variational", "map"]
INFERENCES: Final[tuple[str, ...]] = get_args(Inference)
_START: Final = 0.3
_START_SCALE: Final = 0.5


class AnnotatorNames:
    """Annotators' names by index, and the data column that holds them.

    Args:
        names: The U names, as the data spell them.
        column: The column.

    Raises:
        ConfigError: If names repeat.
    """

    def __init__(self, names: Sequence[str], column: str = "annotator") -> None:
        self.names, self.column = tuple(names), column
        self._index = {name: place for place, name in enumerate(self.names)}
        if len(self._index) != len(self.names):
            raise ConfigError("annotators' names must be distinct.")

    def __len__(self) -> int:
        """Return the number U of annotators."""
        return len(self.names)

    def index(self, name: object) -> int:
        """Return the index of an annotator by name; −1 for None and for unknown names."""
        return UNKNOWN if name is None else self._index.get(str(name), UNKNOWN)


def rows_of(table: Tensor, unknown: Tensor, annotator: Tensor) -> Tensor:
    """Select annotators' rows of a table ``(U, …)``; −1 gives the row ``unknown``."""
    return torch.cat([table, unknown.unsqueeze(0)])[annotator]


class AnnotatorPosterior(nn.Module):
    """Posterior of K quantities of each annotator, normals or points, with a normal prior.

    Attributes:
        location: Locations of the U annotators, of shape ``(U, K)``.
        log_scale: Logarithms of the scales, of that shape; None for points.
    """

    location: nn.Parameter
    log_scale: nn.Parameter | None

    def log_prior_scales(self) -> Tensor:
        """Return the logarithms of the prior's scales τ, of shape ``(K,)``."""
        return self.location.new_zeros(self.location.shape[-1])

    @property
    def prior_scale(self) -> Tensor:
        """Scales τ of the prior, of shape ``(K,)``."""
        return self.log_prior_scales().exp()

    def posterior(self, annotator: Tensor) -> tuple[Tensor, Tensor]:
        """Return the posterior of each annotator, or the prior.

        Args:
            annotator: Indices of shape ``(A,)``; −1 gives the prior.

        Returns:
            Location and scale, each of shape ``(A, K)``, no unit.
        """
        prior = self.prior_scale
        own = torch.zeros_like(self.location) if self.log_scale is None else self.log_scale.exp()
        location = rows_of(self.location, torch.zeros_like(prior), annotator)
        return location, rows_of(own, prior, annotator)

    def prior(self) -> Tensor:
        r"""Return the cost of leaving the prior, summed over annotators, in nats.

        .. math:: \sum_u \operatorname{KL}\bigl(q_u\,\|\,N(0, \tau^2)\bigr) \quad\text{or}\quad
            \sum_u \tfrac12\|m_u/\tau\|^2

        Returns:
            A scalar; for points the negative log prior without its constant.
        """
        log_prior = self.log_prior_scales()
        cost = 0.5 * self.location.square() * torch.exp(-2 * log_prior)
        if self.log_scale is not None:
            between = self.log_scale - log_prior
            cost = cost + 0.5 * torch.expm1(2 * between) - between
        return cost.sum()


class AnnotatorEmbeddings(AnnotatorPosterior):
    r"""Posterior of each annotator's context :math:`z_u`, with the prior :math:`N(0, I_F)`.

    ``variational``: :math:`q(z_u) = N(m_u, \operatorname{diag}\tau_u^2)`, with the prior as a KL
    divergence in the loss; the data set the unit of L. ``map``: one point :math:`m_u`, with the
    prior as :math:`\tfrac12\|m_u\|^2`; it is cheaper but has no uncertainty, and large L
    with small z can evade the prior. Use it where annotators have hundreds of labels each.

    Args:
        count: Number U of annotators.
        num_factors: F, at least 1.
        inference: ``variational`` or ``map``.
        seed: Seed of the start.

    Raises:
        ConfigError: If there is no factor, or the inference is unknown.
    """

    def __init__(
        self, count: int, num_factors: int, inference: Inference = "variational", seed: int = 0
    ) -> None:
        super().__init__()
        if inference not in INFERENCES:
            raise ConfigError(
                f"inference {inference!r} is not known; choose {' or '.join(INFERENCES)}."
            )
        if num_factors < 1:
            raise ConfigError("annotators need a factor head with at least one factor.")
        self.inference = inference
        generator = torch.Generator().manual_seed(seed)
        start = torch.randn((count, num_factors), generator=generator)
        self.location = nn.Parameter(_START * start)
        log_scale = torch.full((count, num_factors), math.log(_START_SCALE))
        self.log_scale = nn.Parameter(log_scale) if inference == "variational" else None

    @property
    def num_factors(self) -> int:
        """Number F of factors."""
        return int(self.location.shape[-1])
