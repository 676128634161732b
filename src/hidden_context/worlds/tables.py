"""Worlds of a few alternatives with exactly known comparisons, as a truth for reward heads.

An annotator has a hidden context ``z`` (who they are, what they judge by), which stays the same in
all their judgements. For this annotator, alternative ``x`` has the utility ``u(x, z) + noise``. The
noise is drawn anew for every judgement and each side. In all three families, P(a ≻ b) over the
population of annotators and all moments are exact:

* `gaussian`: normal contexts that act through loadings, and normal noise. Without loadings there is
  only noise, and the two sides of a comparison are independent.
* `grouped`: finitely many groups of annotators, normal noise or none.
* `student`: noise with heavy tails and no context.

Comparisons do not identify the level or the unit of a utility. The part that one annotator's
judgements share is identified relative to the other alternatives:
``u(x, z) − mean over x' of u(x', z)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from hidden_context.worlds.steps import PROPOSITION_3_3, THEOREM_3_4, StepUtility

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Generator = np.random.Generator


@dataclass(frozen=True, eq=False)
class Comparisons:
    """N comparisons of two alternatives, with their annotators.

    Attributes:
        first: Index of one alternative, shape ``(N,)``.
        second: Index of the other alternative, never the same as ``first``, shape ``(N,)``.
        first_preferred: 1 where the first won, 0 where the second did, ½ where they tied, ``(N,)``.
        annotator: Index of the annotator, from 0, shape ``(N,)``.
    """

    first: Integers
    second: Integers
    first_preferred: Floats
    annotator: Integers


@dataclass(frozen=True, eq=False)
class TabularWorld:
    """A world of n alternatives and a population of annotators, with the truth about both.

    Attributes:
        name: Its name in tables.
        mean: Mean utility over the population, shape ``(n,)``.
        probabilities: P(a ≻ b) over the population, ties counted ½, shape ``(n, n)``, ½ on the
            diagonal.
        shared_variance: Variance of u(x, z) over contexts, without noise, shape ``(n,)``.
        shared_variance_centred: The same variance of u(x, z) − mean over x' of u(x', z).
        noise_variance: Variance of the noise of a judgement, shape ``(n,)``.
        contexts: Draws u(x, z) without noise for a number of annotators, ``(annotators, n)``.
        noise: Draws the noise of each side of a judgement, in the shape of the given alternatives.
    """

    name: str
    mean: Floats
    probabilities: Floats
    shared_variance: Floats
    shared_variance_centred: Floats
    noise_variance: Floats
    contexts: Callable[[int, Generator], Floats]
    noise: Callable[[Integers, Generator], Floats]

    @property
    def variance(self) -> Floats:
        """Variance of the utility over the population, noise included, shape ``(n,)``."""
        return self.shared_variance + self.noise_variance

    def sample(self, num_annotators: int, pairs_per_annotator: int, rng: Generator) -> Comparisons:
        """Let new annotators compare pairs of different alternatives, all pairs equally likely.

        Args:
            num_annotators: The number of annotators; each keeps one context.
            pairs_per_annotator: The number of pairs that each annotator judges.
            rng: Source of randomness.

        Returns:
            The judgements, grouped by annotator.
        """
        n, size = len(self.mean), num_annotators * pairs_per_annotator
        utilities = self.contexts(num_annotators, rng)
        annotator = np.repeat(np.arange(num_annotators), pairs_per_annotator)
        first = rng.integers(n, size=size)
        second = (first + rng.integers(1, n, size=size)) % n
        noise = self.noise(np.stack([first, second], axis=1), rng)
        gap = utilities[annotator, first] - utilities[annotator, second] + noise @ [1.0, -1.0]
        return Comparisons(first, second, np.heaviside(gap, 0.5), annotator)


def gaussian(name: str, mean: Floats, loadings: Floats, noise_stddev: Floats) -> TabularWorld:
    """Make normal utilities: u(x, z) = μ_x + L_x·z with z ~ N(0, I), noise N(0, s_x²).

    ``P(a ≻ b) = Φ((μ_a − μ_b) / √(‖L_a − L_b‖² + s_a² + s_b²))``.

    Args:
        name: Its name in tables.
        mean: μ, shape ``(n,)``.
        loadings: L, shape ``(n, F)``; with F = 0 the sides of a comparison are independent.
        noise_stddev: s, shape ``(n,)``, positive.
    """
    variance = noise_stddev**2
    spread = ((loadings[:, None] - loadings) ** 2).sum(-1) + np.add.outer(variance, variance)
    return TabularWorld(
        name,
        mean,
        ndtr(np.subtract.outer(mean, mean) / np.sqrt(spread)),
        (loadings**2).sum(1),
        ((loadings - loadings.mean(0)) ** 2).sum(1),
        variance,
        lambda count, rng: mean + rng.standard_normal((count, loadings.shape[1])) @ loadings.T,
        lambda places, rng: noise_stddev[places] * rng.standard_normal(places.shape),
    )


def grouped(name: str, weights: Floats, utilities: Floats, noise_stddev: float) -> TabularWorld:
    """Make groups of annotators, each with its own utilities, and one normal noise or none.

    ``P(a ≻ b) = Σ_g w_g Φ((u_g(a) − u_g(b)) / (√2·s))``; without noise, group g prefers the
    alternative with the higher utility, and equal utilities split the group in half.

    Args:
        name: Its name in tables.
        weights: Shares w of the groups, shape ``(G,)``, summing to 1.
        utilities: u, shape ``(G, n)``.
        noise_stddev: s ≥ 0.
    """
    gap = utilities[:, :, None] - utilities[:, None, :]
    scale = np.sqrt(2) * noise_stddev
    by_group = ndtr(gap / scale) if noise_stddev else np.heaviside(gap, 0.5)
    mean, relative = weights @ utilities, utilities - utilities.mean(1, keepdims=True)
    return TabularWorld(
        name,
        mean,
        np.tensordot(weights, by_group, axes=1),
        weights @ (utilities - mean) ** 2,
        weights @ (relative - weights @ relative) ** 2,
        np.full(len(mean), noise_stddev**2),
        lambda count, rng: utilities[rng.choice(len(weights), count, p=weights)],
        lambda places, rng: noise_stddev * rng.standard_normal(places.shape),
    )


def student(name: str, mean: Floats, scale: Floats) -> TabularWorld:
    """Make utilities without context, μ_x + s_x·T, T Student's t with 3 degrees of freedom.

    P(a ≻ b) is ``∫ f(t) F((μ_a + s_a t − μ_b)/s_b) dt`` by Gauss-Legendre. With ``t = √3 tan θ``
    the density becomes ``(2/π) cos² θ`` and the integrand is smooth up to the ends, so that 256
    nodes leave an error far below 1e-6 for scales within a factor of ten.

    Args:
        name: Its name in tables.
        mean: μ, shape ``(n,)``.
        scale: s, shape ``(n,)``, positive; the standard deviation is √3·s.
    """
    nodes, weights = np.polynomial.legendre.leggauss(256)
    angle = np.pi / 2 * nodes
    weights = weights * np.cos(angle) ** 2  # (π/2) dx · (2/π) cos² θ
    draws = mean[:, None] + scale[:, None] * np.sqrt(3) * np.tan(angle)
    x = (draws[:, None, :] - mean[None, :, None]) / (scale[None, :, None] * np.sqrt(3))
    p = (0.5 + (x / (1 + x**2) + np.arctan(x)) / np.pi) @ weights  # Student's cdf
    return TabularWorld(
        name,
        mean,
        (p + 1 - p.T) / 2,  # exactly antisymmetric about ½
        np.zeros_like(mean),
        np.zeros_like(mean),
        3 * scale**2,
        lambda count, rng: np.tile(mean, (count, 1)),
        lambda places, rng: scale[places] * rng.standard_t(3, places.shape),
    )


def gaussian_independent(seed: int, num_alternatives: int = 20) -> TabularWorld:
    """Make normal utilities with independent sides of a comparison, as DPL assumes."""
    rng = np.random.default_rng([seed, 1])
    mean = rng.standard_normal(num_alternatives)
    stddev = rng.uniform(0.2, 1.4, num_alternatives)
    return gaussian("gaussian_independent", mean, np.zeros((num_alternatives, 0)), stddev)


def shared_factor(seed: int, num_alternatives: int = 20, num_factors: int = 2) -> TabularWorld:
    """Make normal utilities whose variance is mostly shared by the sides of a comparison."""
    rng = np.random.default_rng([seed, 2])
    mean = rng.standard_normal(num_alternatives)
    loadings = 0.7 * rng.standard_normal((num_alternatives, num_factors))
    stddev = rng.uniform(0.2, 0.8, num_alternatives)
    return gaussian("shared_factor", mean, loadings, stddev)


def two_objectives(
    seed: int, weight: float = 0.65, num_alternatives: int = 20, noise: float = 0.3
) -> TabularWorld:
    """Make two groups of annotators with unrelated utilities and shares ``weight`` and the rest."""
    # the same utilities for every weight
    utilities = np.random.default_rng([seed, 3]).standard_normal((2, num_alternatives))
    return grouped(f"two_objectives_{weight:g}", np.array([weight, 1 - weight]), utilities, noise)


def heavy_tailed(seed: int, num_alternatives: int = 20) -> TabularWorld:
    """Make independent utilities with heavier tails than a normal distribution."""
    rng = np.random.default_rng([seed, 4])
    mean = rng.standard_normal(num_alternatives)
    return student("heavy_tailed", mean, rng.uniform(0.15, 0.8, num_alternatives))


def prop_3_3() -> TabularWorld:
    """Return Proposition 3.3, where Borda count and expected utility have different winners."""
    return _from_steps("prop_3_3", PROPOSITION_3_3)


def thm_3_4() -> tuple[TabularWorld, TabularWorld]:
    """Return Theorem 3.4, two worlds with the same comparisons and opposite expected utilities."""
    first, second = THEOREM_3_4
    return _from_steps("thm_3_4_a", first), _from_steps("thm_3_4_b", second)


def tabular_worlds(seed: int) -> tuple[TabularWorld, ...]:
    """Return the worlds of one seed; all their probabilities lie inside (0, 1)."""
    return (
        gaussian_independent(seed),
        shared_factor(seed),
        two_objectives(seed, 0.65),
        two_objectives(seed, 0.5),
        heavy_tailed(seed),
    )


def _from_steps(name: str, alternatives: Mapping[str, StepUtility]) -> TabularWorld:
    """Make one group for each interval of z with constant utilities."""
    ends = sorted({Fraction(end) for step in alternatives.values() for end in step.upper})
    weights = np.diff([0.0, *map(float, ends)])
    utilities = np.array([[float(step.at(z)) for step in alternatives.values()] for z in ends])
    return grouped(name, weights, utilities, 0.0)
