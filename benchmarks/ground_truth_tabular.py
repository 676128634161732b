"""Worlds of a few alternatives whose comparisons are known exactly: truth for reward heads.

An annotator has a hidden context ``z`` (who they are, what they judge by), which stays the same in
all of their judgements. Alternative ``x`` has the utility ``u(x, z) + noise`` for them, the noise
drawn anew for every judgement and each of its sides. Three families, in each of which
P(a ≻ b) over the population of annotators and all moments are exact:

* `GaussianWorld`: normal contexts that act through loadings, normal noise; without loadings there
  is nothing but noise, and the two sides of a comparison are independent.
* `GroupWorld`: finitely many groups of annotators, normal noise or none.
* `StudentWorld`: noise with heavy tails and no context.

Comparisons identify no utility's level or unit. What one annotator's judgements share is identified
relative to the other alternatives: ``u(x, z) − mean over x' of u(x', z)``. So quantiles and shared
variances are given of that.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from theory import PROPOSITION_3_3, THEOREM_3_4, StepUtility

from hidden_context.errors import ConfigError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Comparisons:
    """N judgements.

    Attributes:
        first: Index of one alternative, shape ``(N,)``.
        second: Index of the other, never the same, shape ``(N,)``.
        first_preferred: 1 where the first won, 0 where the second did, ½ where they tied, ``(N,)``.
        annotator: Whose judgement it is, from 0, shape ``(N,)``.
    """

    first: Integers
    second: Integers
    first_preferred: Floats
    annotator: Integers

    def __len__(self) -> int:
        return len(self.first)


class TabularWorld(abc.ABC):
    """n alternatives, a population of annotators, and the truth about both.

    Attributes:
        name: Its name in tables.
        mean: Mean utility over the population, shape ``(n,)``.
    """

    name: str
    mean: Floats

    @property
    def num_alternatives(self) -> int:
        """Number n of alternatives."""
        return len(self.mean)

    @property
    @abc.abstractmethod
    def probabilities(self) -> Floats:
        """P(a ≻ b) over the population, ties counted ½, shape ``(n, n)``, ½ on the diagonal."""

    @property
    @abc.abstractmethod
    def shared_context(self) -> bool:
        """Whether anything but noise tells annotators apart."""

    @property
    @abc.abstractmethod
    def shared_variance(self) -> Floats:
        """Variance of u(x, z) over contexts, without noise, shape ``(n,)``."""

    @property
    @abc.abstractmethod
    def shared_variance_centred(self) -> Floats:
        """Variance of u(x, z) − mean over x' of u(x', z) over contexts, shape ``(n,)``."""

    @property
    @abc.abstractmethod
    def noise_variance(self) -> Floats:
        """Variance of the noise of a judgement, shape ``(n,)``."""

    @property
    def variance(self) -> Floats:
        """Variance of the utility over the population, noise included, shape ``(n,)``."""
        return self.shared_variance + self.noise_variance

    @abc.abstractmethod
    def relative_quantile(self, alpha: float) -> Floats:
        """Return the α-quantile over annotators of u(x, z) − mean over x' of u(x', z), no noise.

        Where there is no context this is the centred mean, whatever α.

        Args:
            alpha: Level in (0, 1); the quantile is the least value at or below which a share α of
                annotators lies.

        Returns:
            Quantiles of shape ``(n,)``.

        Raises:
            ConfigError: If α lies outside (0, 1).
        """

    @abc.abstractmethod
    def context_utilities(self, num_annotators: int, rng: np.random.Generator) -> Floats:
        """Draw annotators and return their u(x, z) without noise, ``(num_annotators, n)``."""

    @abc.abstractmethod
    def noise(self, alternatives: Integers, rng: np.random.Generator) -> Floats:
        """Draw the noise of one side of judgements, of the shape of ``alternatives``."""

    def sample(
        self, num_annotators: int, pairs_per_annotator: int, rng: np.random.Generator
    ) -> Comparisons:
        """Let new annotators compare pairs of different alternatives, all pairs equally likely.

        Args:
            num_annotators: How many annotators; each keeps one context.
            pairs_per_annotator: How many pairs each of them judges.
            rng: Source of randomness.

        Returns:
            The judgements, those of one annotator next to each other.
        """
        n, size = self.num_alternatives, num_annotators * pairs_per_annotator
        utilities = self.context_utilities(num_annotators, rng)
        annotator = np.repeat(np.arange(num_annotators), pairs_per_annotator)
        first = rng.integers(n, size=size)
        second = (first + rng.integers(1, n, size=size)) % n
        left = utilities[annotator, first] + self.noise(first, rng)
        right = utilities[annotator, second] + self.noise(second, rng)
        return Comparisons(first, second, np.heaviside(left - right, 0.5), annotator)


@dataclass(frozen=True, eq=False)
class GaussianWorld(TabularWorld):
    """Normal utilities: u(x, z) = μ_x + L_x·z with z ~ N(0, I), noise N(0, s_x²).

    ``P(a ≻ b) = Φ((μ_a − μ_b) / √(‖L_a − L_b‖² + s_a² + s_b²))``.

    Attributes:
        name: Its name in tables.
        mean: μ, shape ``(n,)``.
        loadings: L, shape ``(n, F)``; with F = 0 the sides of a comparison are independent.
        noise_stddev: s, shape ``(n,)``, positive.
    """

    name: str
    mean: Floats
    loadings: Floats
    noise_stddev: Floats

    @property
    def probabilities(self) -> Floats:
        """P(a ≻ b), shape ``(n, n)`` (see the class)."""
        gap = self.loadings[:, None] - self.loadings[None, :]
        spread = (gap**2).sum(-1) + np.add.outer(self.noise_variance, self.noise_variance)
        return ndtr(np.subtract.outer(self.mean, self.mean) / np.sqrt(spread))

    @property
    def shared_context(self) -> bool:
        """Whether any loading is not zero."""
        return bool(np.any(self.loadings))

    @property
    def shared_variance(self) -> Floats:
        """‖L_x‖², shape ``(n,)``."""
        return (self.loadings**2).sum(1)

    @property
    def shared_variance_centred(self) -> Floats:
        """‖L_x − mean of L‖², shape ``(n,)``."""
        return ((self.loadings - self.loadings.mean(0)) ** 2).sum(1)

    @property
    def noise_variance(self) -> Floats:
        """s², shape ``(n,)``."""
        return self.noise_stddev**2

    def relative_quantile(self, alpha: float) -> Floats:
        """Return μ_x − mean of μ + Φ⁻¹(α)·‖L_x − mean of L‖ (see the base class)."""
        centred = self.mean - self.mean.mean()
        return centred + ndtri(_level(alpha)) * np.sqrt(self.shared_variance_centred)

    def context_utilities(self, num_annotators: int, rng: np.random.Generator) -> Floats:
        """Draw z and return μ + L·z (see the base class)."""
        contexts = rng.standard_normal((num_annotators, self.loadings.shape[1]))
        return self.mean + contexts @ self.loadings.T

    def noise(self, alternatives: Integers, rng: np.random.Generator) -> Floats:
        """Draw normal noise (see the base class)."""
        return self.noise_stddev[alternatives] * rng.standard_normal(alternatives.shape)


@dataclass(frozen=True, eq=False)
class GroupWorld(TabularWorld):
    """Groups of annotators, each with its own utilities; all share one normal noise, or none.

    ``P(a ≻ b) = Σ_g w_g Φ((u_g(a) − u_g(b)) / (√2·s))``; without noise, group g prefers the higher
    of its utilities, or is split by halves.

    Attributes:
        name: Its name in tables.
        weights: Shares w of the groups, shape ``(G,)``, summing to 1.
        utilities: u, shape ``(G, n)``.
        noise_stddev: s ≥ 0.
    """

    name: str
    weights: Floats
    utilities: Floats
    noise_stddev: float = 0.0

    @property
    def mean(self) -> Floats:  # type: ignore[override]
        """Σ_g w_g u_g(x), shape ``(n,)``."""
        return self.weights @ self.utilities

    @property
    def probabilities(self) -> Floats:
        """P(a ≻ b), shape ``(n, n)`` (see the class)."""
        gap = self.utilities[:, :, None] - self.utilities[:, None, :]
        if self.noise_stddev:
            by_group = ndtr(gap / (np.sqrt(2) * self.noise_stddev))
        else:
            by_group = np.heaviside(gap, 0.5)
        return np.tensordot(self.weights, by_group, axes=1)

    @property
    def shared_context(self) -> bool:
        """Whether groups differ in more than a level of their own."""
        return bool(np.any(self.shared_variance_centred > 0))

    @property
    def shared_variance(self) -> Floats:
        """Variance of u over groups, shape ``(n,)``."""
        return self.weights @ (self.utilities - self.mean) ** 2

    @property
    def shared_variance_centred(self) -> Floats:
        """Variance of u_g(x) − mean over x' of u_g(x') over groups, shape ``(n,)``."""
        return self.weights @ (self._relative - self.weights @ self._relative) ** 2

    @property
    def noise_variance(self) -> Floats:
        """s² for every alternative, shape ``(n,)``."""
        return np.full(self.num_alternatives, self.noise_stddev**2)

    @property
    def _relative(self) -> Floats:
        return self.utilities - self.utilities.mean(1, keepdims=True)

    def relative_quantile(self, alpha: float) -> Floats:
        """Return the exact quantile over groups (see the base class)."""
        return group_quantile(self._relative, self.weights, alpha)

    def context_utilities(self, num_annotators: int, rng: np.random.Generator) -> Floats:
        """Draw each annotator's group and return its utilities (see the base class)."""
        return self.utilities[rng.choice(len(self.weights), num_annotators, p=self.weights)]

    def noise(self, alternatives: Integers, rng: np.random.Generator) -> Floats:
        """Draw normal noise (see the base class)."""
        return self.noise_stddev * rng.standard_normal(alternatives.shape)


@dataclass(frozen=True, eq=False)
class StudentWorld(TabularWorld):
    """Utilities without context, μ_x + s_x·T, T Student's t with 3 degrees of freedom.

    Attributes:
        name: Its name in tables.
        mean: μ, shape ``(n,)``.
        scale: s, shape ``(n,)``, positive; the standard deviation is √3·s.
    """

    name: str
    mean: Floats
    scale: Floats

    @property
    def probabilities(self) -> Floats:
        """P(a ≻ b), shape ``(n, n)``.

        ``∫ f(t) F((μ_a + s_a t − μ_b)/s_b) dt`` by Gauss-Legendre. With ``t = √3 tan θ`` the
        density becomes ``(2/π) cos² θ`` and the integrand is smooth up to the ends, so that 256
        nodes leave an error far below 1e-6 for scales within a factor of ten.
        """
        nodes, weights = np.polynomial.legendre.leggauss(256)
        angle = np.pi / 2 * nodes
        weights = weights * np.cos(angle) ** 2  # (π/2) dx · (2/π) cos² θ
        draws = self.mean[:, None] + self.scale[:, None] * np.sqrt(3) * np.tan(angle)
        below = _student_cdf(
            (draws[:, None, :] - self.mean[None, :, None]) / self.scale[None, :, None]
        )
        p = below @ weights
        return (p + 1 - p.T) / 2  # exactly antisymmetric about ½

    @property
    def shared_context(self) -> bool:
        """False: all is noise."""
        return False

    @property
    def shared_variance(self) -> Floats:
        """Zero, shape ``(n,)``."""
        return np.zeros_like(self.mean)

    @property
    def shared_variance_centred(self) -> Floats:
        """Zero, shape ``(n,)``."""
        return np.zeros_like(self.mean)

    @property
    def noise_variance(self) -> Floats:
        """3 s², shape ``(n,)``."""
        return 3 * self.scale**2

    def relative_quantile(self, alpha: float) -> Floats:
        """Return the centred mean (see the base class)."""
        _level(alpha)
        return self.mean - self.mean.mean()

    def context_utilities(self, num_annotators: int, rng: np.random.Generator) -> Floats:
        """Return μ for everyone (see the base class)."""
        return np.tile(self.mean, (num_annotators, 1))

    def noise(self, alternatives: Integers, rng: np.random.Generator) -> Floats:
        """Draw Student's t, scaled (see the base class)."""
        return self.scale[alternatives] * rng.standard_t(3, alternatives.shape)


def group_quantile(values: Floats, weights: Floats, alpha: float) -> Floats:
    """Return the α-quantile over weighted groups: the least value that a share α does not exceed.

    Args:
        values: One value per group and alternative, shape ``(G, n)``.
        weights: Shares of the groups, shape ``(G,)``.
        alpha: Level in (0, 1).

    Returns:
        Quantiles of shape ``(n,)``.

    Raises:
        ConfigError: If α lies outside (0, 1).
    """
    order = np.argsort(values, axis=0, kind="stable")
    share = np.cumsum(np.asarray(weights)[order], axis=0)
    at = (share >= _level(alpha) - 1e-12).argmax(0)  # sums such as .6 + .3 round downwards
    return np.take_along_axis(np.take_along_axis(values, order, 0), at[None], 0)[0]


def gaussian_independent(seed: int, num_alternatives: int = 20) -> GaussianWorld:
    """Normal utilities, each side of a comparison drawn by itself: what DPL assumes."""
    rng = np.random.default_rng([seed, 1])
    mean = rng.standard_normal(num_alternatives)
    stddev = rng.uniform(0.2, 1.4, num_alternatives)
    no_loadings = np.zeros((num_alternatives, 0))
    return GaussianWorld("gaussian_independent", mean, no_loadings, stddev)


def shared_factor(seed: int, num_alternatives: int = 20, num_factors: int = 2) -> GaussianWorld:
    """Normal utilities most of whose variance is shared by the sides of a comparison."""
    rng = np.random.default_rng([seed, 2])
    mean = rng.standard_normal(num_alternatives)
    loadings = 0.7 * rng.standard_normal((num_alternatives, num_factors))
    stddev = rng.uniform(0.2, 0.8, num_alternatives)
    return GaussianWorld("shared_factor", mean, loadings, stddev)


def two_objectives(
    seed: int, weight: float = 0.65, num_alternatives: int = 20, noise: float = 0.3
) -> GroupWorld:
    """Two groups of annotators with unrelated utilities, of shares ``weight`` and the rest."""
    rng = np.random.default_rng([seed, 3])  # the same utilities for every weight
    utilities = rng.standard_normal((2, num_alternatives))
    weights = np.array([weight, 1 - weight])
    return GroupWorld(f"two_objectives_{weight:g}", weights, utilities, noise)


def heavy_tailed(seed: int, num_alternatives: int = 20) -> StudentWorld:
    """Independent utilities whose tails no normal distribution has."""
    rng = np.random.default_rng([seed, 4])
    mean = rng.standard_normal(num_alternatives)
    return StudentWorld("heavy_tailed", mean, rng.uniform(0.15, 0.8, num_alternatives))


def prop_3_3() -> GroupWorld:
    """Proposition 3.3: the highest Borda count is not the highest expected utility."""
    return _from_steps("prop_3_3", PROPOSITION_3_3)


def thm_3_4() -> tuple[GroupWorld, GroupWorld]:
    """Theorem 3.4: two worlds of the same comparisons whose expected utilities are opposite."""
    first, second = THEOREM_3_4
    return _from_steps("thm_3_4_a", first), _from_steps("thm_3_4_b", second)


def tabular_worlds(seed: int) -> dict[str, TabularWorld]:
    """Return every world by its name; those of the paper's theory are the same for every seed."""
    worlds: tuple[TabularWorld, ...] = (
        gaussian_independent(seed),
        shared_factor(seed),
        two_objectives(seed, 0.65),
        two_objectives(seed, 0.5),
        heavy_tailed(seed),
        prop_3_3(),
        *thm_3_4(),
    )
    return {world.name: world for world in worlds}


def _from_steps(name: str, alternatives: Mapping[str, StepUtility]) -> GroupWorld:
    """Make a group of each interval of z on which no utility changes."""
    ends = sorted({Fraction(end) for step in alternatives.values() for end in step.upper})
    weights = np.diff([0.0, *map(float, ends)])
    utilities = np.array([[float(step.at(z)) for step in alternatives.values()] for z in ends])
    return GroupWorld(name, weights, utilities)


def _student_cdf(t: Floats) -> Floats:
    """Cdf of Student's t with 3 degrees of freedom."""
    x = t / np.sqrt(3)
    return 0.5 + (x / (1 + x**2) + np.arctan(x)) / np.pi


def _level(alpha: float) -> float:
    if not 0 < alpha < 1:
        raise ConfigError(f"alpha is {alpha}; it must lie in (0, 1).")
    return alpha
