"""Environments whose hidden context, expected utility and Borda count are known exactly.

In both environments an alternative ``a`` has a utility of two values: ``u(a) = payoff(a)`` with
probability ``success(a)``, else 0. Annotators with different hidden contexts therefore disagree
about the alternative. Sources: Section 5 and Appendix B of the paper for the two environments; the
Borda counts are derived in ``docs/evidence/synthetic.md``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Environment(ABC):
    """Alternatives uniform on ``[0, 1]^d`` with a two-valued random utility.

    Attributes:
        name: The name on the command line.
        dimension: ``d``, the number of coordinates of an alternative.
        num_atoms: The number of atoms of the paper's categorical network in this environment.
    """

    name: str
    dimension: int
    num_atoms: int

    @abstractmethod
    def payoff(self, alternatives: Tensor) -> Tensor:
        """Return the utility in the favourable context, ``(..., d) -> (...)``, in utility units."""

    @abstractmethod
    def success(self, alternatives: Tensor) -> Tensor:
        """Return the probability of the favourable context, ``(..., d) -> (...)``."""

    @abstractmethod
    def expected_utility(self, alternatives: Tensor) -> Tensor:
        """``E_z u(a, z)``, ``(..., d) -> (...)``, in utility units."""

    @abstractmethod
    def borda_count(self, alternatives: Tensor) -> Tensor:
        """``E_b p(a, b)`` over ``b`` uniform on ``[0, 1]^d``, ``(..., d) -> (...)``.

        Where the payoff itself is 0 (a null set) successes tie with failures, and the continuous
        formulas below hold in the limit only.
        """

    def sample_alternatives(self, num: int, generator: torch.Generator) -> Tensor:
        """Draw alternatives uniformly.

        Args:
            num: The number of alternatives.
            generator: Source of randomness.

        Returns:
            Alternatives, ``(num, d)``, float32.
        """
        return torch.rand(num, self.dimension, generator=generator)

    def sample_utilities(self, alternatives: Tensor, generator: torch.Generator) -> Tensor:
        """Draw one utility per alternative, each under its own hidden context.

        Args:
            alternatives: ``(..., d)``.
            generator: Source of randomness.

        Returns:
            Utilities, ``(...)``.
        """
        draws = torch.rand(alternatives.shape[:-1], generator=generator, dtype=alternatives.dtype)
        favourable = draws < self.success(alternatives)
        return torch.where(favourable, self.payoff(alternatives), torch.zeros_like(draws))

    def sample_pairs(self, num: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw comparisons as an annotator would answer them.

        Args:
            num: The number of pairs.
            generator: Source of randomness.

        Returns:
            First and second alternatives, ``(num, d)`` each, and whether the second is preferred,
            ``(num,)`` bool: true where its utility is strictly larger; ties go to the first.
        """
        alternatives = self.sample_alternatives(2 * num, generator)
        utilities = self.sample_utilities(alternatives, generator)
        first, second = alternatives.split(num)
        return first, second, utilities[num:] > utilities[:num]

    def grid(self, resolution: int) -> Tensor:
        """Return the midpoints of a regular grid.

        Args:
            resolution: Points per coordinate.

        Returns:
            Alternatives, ``(resolution ** d, d)``, float32, the last coordinate running fastest.
        """
        axis = (torch.arange(resolution) + 0.5) / resolution
        return torch.cartesian_prod(*[axis] * self.dimension).reshape(-1, self.dimension)


class OneDimensional(Environment):
    """``u(a) = a`` below 0.8; from there on ``2a`` or 0 with probability ½ each."""

    name, dimension, num_atoms = "1d", 1, 20
    jump = 0.8
    """From here on annotators disagree, and the Borda count falls by 0.425."""

    def payoff(self, alternatives: Tensor) -> Tensor:
        """``a`` below the jump, ``2a`` from there on."""
        a = alternatives[..., 0]
        return torch.where(a < self.jump, a, 2 * a)

    def success(self, alternatives: Tensor) -> Tensor:
        """1 below the jump, ½ from there on."""
        a = alternatives[..., 0]
        return torch.where(a < self.jump, 1.0, 0.5).to(a.dtype)

    def expected_utility(self, alternatives: Tensor) -> Tensor:
        """``E u(a) = a``."""
        return alternatives[..., 0].clone()

    def borda_count(self, alternatives: Tensor) -> Tensor:
        """``BC(a) = a + 1/10`` below the jump, ``(11 + 10a) / 40`` from there on."""
        a = alternatives[..., 0]
        return torch.where(a < self.jump, a + 0.1, 0.275 + 0.25 * a)


class TwoDimensional(Environment):
    """``u(x, y) = y / (1 − xy)`` with probability ``1 − xy``, else 0: ``x`` is only risk."""

    name, dimension, num_atoms = "2d", 2, 8

    def payoff(self, alternatives: Tensor) -> Tensor:
        """``t = y / (1 − xy)``; infinite at (1, 1), where its probability is 0."""
        return alternatives[..., 1] / self.success(alternatives)

    def success(self, alternatives: Tensor) -> Tensor:
        """``1 − xy``."""
        return 1 - alternatives.prod(-1)

    def expected_utility(self, alternatives: Tensor) -> Tensor:
        """``E u(x, y) = y``."""
        return alternatives[..., 1].clone()

    def borda_count(self, alternatives: Tensor) -> Tensor:
        """``BC = ¼ − xy/8 + (1 − xy)·G(t)`` with ``G(t) = P(0 < u(b) < t)``.

        A success beats the quarter of all comparisons in which the other side fails, and every
        success worth less than ``t``; a failure ties with the other failures.
        """
        smaller = _share_of_smaller_successes(self.payoff(alternatives))
        return 0.25 - alternatives.prod(-1) / 8 + self.success(alternatives) * smaller

    def borda_count_as_drawn_in_the_paper(self, alternatives: Tensor) -> Tensor:
        """Return the polynomial behind the paper's 2d figure, which is not the Borda count.

        In it a success beats another success when ``y > y'``, instead of when
        ``y/(1−xy) > y'/(1−x'y')``. It is kept to show the difference (up to 0.15).
        """
        x, y = alternatives.unbind(-1)
        return 0.25 + y - 0.25 * y**2 - 0.125 * x * y - x * y**2 + 0.25 * x * y**3


def _share_of_smaller_successes(t: Tensor) -> Tensor:
    """``G(t) = E[(1 − xy) 1{y/(1−xy) < t}]`` for ``x, y`` uniform on [0, 1], ``t ≥ 0``."""
    low = t.clamp(max=1.0)
    below = 0.5 * low.log1p() + 0.5 * low / (1 + low)
    inverse = 1 / t.clamp(min=1.0)
    c = 1 - inverse
    above = c - c**2 / 4 + 0.5 * inverse.log1p() + 0.5 * (inverse - inverse / (1 + inverse))
    return torch.where(t <= 1, below, above)
