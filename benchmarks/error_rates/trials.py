"""Data sets for the tests of hidden context and of paired models, with and without a finding.

A trial takes the number of a data set to the p-value of one test on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from hidden_context.statistics.interval import (
    cluster_sums,
    explained_moments,
    explained_variance_of_sums,
    ratio,
)
from hidden_context.statistics.significance import permutation
from hidden_context.statistics.significance.common_sigma import common_sigma_test
from hidden_context.worlds.dialogues import World
from hidden_context.worlds.utilities import KINDS

Floats = NDArray[np.float64]
Trial = Callable[[int], float]

PROMPT_SPREAD: Final = 0.4
NOISE: Final = 0.6
VOTES: Final = 5
PAIRS_PER_PROMPT: Final = 4


@dataclass(frozen=True, eq=False)
class Pairs:
    """Labelled pairs of responses with normal rewards, which the model knows exactly.

    Attributes:
        prompt: ``(N,)``, number of each pair's prompt.
        mean: ``(N, 2)``, mean rewards.
        stddev: ``(N, 2)``, standard deviations.
        label: ``(N,)``, 1 where the annotator prefers the first response, else 0.
        votes: ``(N,)``, share of five other annotators who do.
        gap: ``(N,)``, difference of the mean rewards.
        variance: ``(N,)``, variance of the difference of the rewards.
        z: ``(N,)``, the first is preferred with probability Φ(z).
    """

    prompt: NDArray[np.int64]
    mean: Floats
    stddev: Floats
    label: Floats
    votes: Floats
    gap: Floats
    variance: Floats
    z: Floats

    @property
    def features(self) -> Floats:
        """Mean reward and σ of the chosen minus the rejected response."""
        side = 2 * self.label - 1
        return np.stack([side * self.gap, side * (self.stddev[:, 0] - self.stddev[:, 1])], axis=1)


def draw_pairs(prompts: int, generator: np.random.Generator) -> Pairs:
    """Draw pairs: prompts differ in level, in how far responses differ, and in noise."""
    prompt = np.repeat(np.arange(prompts), 1 + generator.poisson(PAIRS_PER_PROMPT - 1, prompts))
    level = generator.normal(size=prompts)[prompt, None]
    spread, noise = np.exp(PROMPT_SPREAD * generator.normal(size=(2, prompts)))[:, prompt, None]
    shape = (len(prompt), 2)
    mean = level + spread * generator.normal(size=shape)
    stddev = NOISE * noise * np.exp(PROMPT_SPREAD * generator.normal(size=shape))
    gap, variance = mean[:, 0] - mean[:, 1], np.square(stddev).sum(1)
    z = gap / np.sqrt(variance)
    first = ndtr(z)
    label = (generator.random(len(prompt)) < first).astype(float)
    votes = generator.binomial(VOTES, first) / VOTES
    return Pairs(prompt, mean, stddev, label, votes, gap, variance, z)


@dataclass(frozen=True)
class Trials:
    """Data sets of one size, and the tests that are tried on them.

    Attributes:
        pairs: Pairs of each data set, about.
        resamples: Of each test.
    """

    pairs: int
    resamples: int

    def _permuted(
        self, number: int, features: Floats, who: Any, *strata: Any, **more: Any
    ) -> float:
        """The p-value of the test of annotators by permutation."""
        options = {"resamples": self.resamples, "seed": number, **more}
        return permutation.annotator_permutation_test(features, who, *strata, **options).p_value

    def _common_sigma(self, number: int, data: Pairs, label: Floats) -> float:
        """The p-value of the test of a common σ."""
        resamples = min(self.resamples, 199)
        found = common_sigma_test(data.gap, data.variance, label, resamples=resamples, seed=number)
        return found.p_value


class NullTrials(Trials):
    """Tests of data in which there is nothing to find."""

    @property
    def prompts(self) -> int:
        """Prompts of each data set."""
        return max(2, self.pairs // PAIRS_PER_PROMPT)

    def all(self) -> dict[str, Trial]:
        """Return every trial by its name."""
        few = self.pairs // 5
        return {
            "annotator permutation, 2 annotators": lambda n: self.permutation(n, 2),
            f"annotator permutation, {few} annotators of about 5": lambda n: self.permutation(
                n, few
            ),
            "annotator permutation, prompts as blocks": self.blocks,
            "annotator permutation, topics as strata": self.topics,
            "annotator permutation, strata are pairs": self.same_pair,
            "common σ": self.common_sigma,
            "McNemar, independent pairs": lambda n: self.mcnemar(n, False, False),
            "McNemar, by prompt": lambda n: self.mcnemar(n, True, True),
            "paired difference of accuracy": self.paired_accuracy,
            "paired difference of r²": self.paired_r2,
        }

    def beyond_limits(self) -> dict[str, Trial]:
        """Return trials that break what their test takes for granted, by name."""
        return {
            "annotator permutation, topics but no strata": lambda n: self.topics(n, False),
            "McNemar, by pair where prompts favour a model": lambda n: self.mcnemar(n, True, False),
        }

    def permutation(self, number: int, annotators: int) -> float:
        """Annotators alike get pairs at random."""
        data, generator = self._drawn(number)
        who = generator.integers(0, annotators, len(data.prompt))
        return self._permuted(number, data.features, who)

    def blocks(self, number: int) -> float:
        """Whoever gets a prompt judges all its pairs."""
        data, generator = self._drawn(number)
        who = generator.integers(0, 10, self.prompts)[data.prompt]
        return self._permuted(number, data.features, who, block=data.prompt)

    def topics(self, number: int, strata: bool = True) -> float:
        """Annotators keep to the pairs of one topic, which differ in how far responses do."""
        data, generator = self._drawn(number)
        topic = np.argsort(np.argsort(np.abs(data.gap))) * 3 // len(data.gap)
        who = 4 * topic + generator.integers(0, 4, len(topic))
        return self._permuted(number, data.features, who, topic if strata else None)

    def same_pair(self, number: int) -> float:
        """Three annotators judge each pair; who does goes by the pair's own gap."""
        data, generator = self._drawn(number)
        group = np.argsort(np.argsort(data.gap)) * 4 // len(data.gap)
        who = np.array([5 * g + generator.permutation(5)[:3] for g in group])
        label = (generator.random(who.shape) < ndtr(data.z)[:, None]).astype(float)
        pair = np.broadcast_to(np.arange(len(group))[:, None], who.shape).ravel()
        features = ((2 * label - 1) * data.gap[:, None]).ravel()
        return self._permuted(number, features, who.ravel(), pair)

    def common_sigma(self, number: int) -> float:
        """Labels follow one common σ, whatever variances the model has."""
        data, generator = self._drawn(number)
        p = ndtr(1.2 * data.gap / np.sqrt(data.variance.mean()))
        return self._common_sigma(number, data, (generator.random(len(p)) < p).astype(float))

    def mcnemar(self, number: int, favour: bool, by_prompt: bool) -> float:
        """Two models of equal error rank pairs; see ``_two_models``."""
        data, right = self._two_models(number, favour)
        return permutation.mcnemar_test(*right, data.prompt if by_prompt else None).p_value

    def paired_accuracy(self, number: int) -> float:
        """Each prompt suits one of two models that are equally accurate."""
        data, (first, second) = self._two_models(number, True)
        columns = np.stack([first, second, np.ones_like(first)], axis=1)
        return permutation.paired_difference(
            cluster_sums(columns, data.prompt),
            lambda totals: ratio(totals[..., [0, 2]]),
            lambda totals: ratio(totals[..., [1, 2]]),
            resamples=self.resamples,
            seed=number,
        ).p_value

    def paired_r2(self, number: int) -> float:
        """Two models in units of their own, equal in true r²."""
        data, generator = self._drawn(number)
        parts = []
        for unit in (1.0, 7.0):
            mean = unit * (data.mean + 0.5 * generator.normal(size=data.mean.shape))
            stddev = unit * data.stddev * np.exp(0.3 * generator.normal(size=data.mean.shape))
            moments = explained_moments(mean.ravel(), stddev.ravel() ** 2)
            parts.append(cluster_sums(moments, np.repeat(data.prompt, 2)))
        return permutation.paired_difference(
            np.concatenate(parts, axis=1),
            lambda totals: explained_variance_of_sums(totals[..., :4]),
            lambda totals: explained_variance_of_sums(totals[..., 4:]),
            resamples=self.resamples,
            seed=number,
        ).p_value

    def _drawn(self, number: int) -> tuple[Pairs, np.random.Generator]:
        generator = np.random.default_rng([self.pairs, number, 1])
        return draw_pairs(self.prompts, generator), generator

    def _two_models(self, number: int, favour: bool) -> tuple[Pairs, Sequence[Floats]]:
        """Draw two models of equal error; with ``favour`` each prompt suits one of them."""
        data, generator = self._drawn(number)
        error = generator.normal(size=(2, len(data.gap)))
        if favour:
            better = generator.random(self.prompts)[data.prompt] < 0.5
            error *= 3 * np.stack([better, ~better])
        right = ((data.gap + error > 0) == (data.label > 0)).astype(float)
        return data, (right[0], right[1])


class PowerTrials(Trials):
    """Tests of data with something to find: two objectives, or a different σ for each response."""

    def all(self) -> dict[str, Trial]:
        """Return every trial by its name."""
        name, many = "annotator permutation", f"{self.pairs // 5} annotators × 5 pairs"
        return {
            f"{name}, 2 objectives as annotators, {self.pairs} pairs": self.two,
            f"{name}, {many}": self.many,
            f"{name}, {many}, difference of σ alone": lambda n: self.many(n, slice(1, 2)),
            f"common σ, own σ of each response, {self.pairs} pairs": self.own_sigma,
        }

    def two(self, number: int) -> float:
        """Two annotators, each with an objective."""
        values, helpful, _ = self.features(number)
        return self._permuted(number, values, helpful.astype(np.int64))

    def many(self, number: int, columns: slice = slice(None)) -> float:
        """Each annotator keeps to one objective and judges five pairs, about."""
        values, helpful, generator = self.features(number)
        half = self.pairs // 10
        who = np.where(helpful, 0, half) + generator.permutation(self.pairs) % half
        return self._permuted(number, values[:, columns], who)

    def own_sigma(self, number: int) -> float:
        """Labels follow rewards whose σ differ, as the model knows."""
        generator = np.random.default_rng([self.pairs, number, 3])
        data = draw_pairs(self.pairs // PAIRS_PER_PROMPT, generator)
        return self._common_sigma(number, data, data.label)

    def features(self, number: int) -> tuple[Floats, NDArray[np.bool_], np.random.Generator]:
        """Judge pairs of the quickstart's world by one of two objectives.

        The model's rewards are the population's true mean and σ of each kind of response, plus
        noise of 0.1.

        Returns:
            Differences, chosen minus rejected, of mean reward, σ and length, ``(N, 3)``; who judged
            by helpfulness, ``(N,)``; and the generator.
        """
        world = World(number, helpful_share=0.5)
        generator = np.random.default_rng([number, 2])
        rewards = {name: world.annotators("both").utility(kind) for name, kind in KINDS.items()}
        rows = world.generate_comparisons(self.pairs)
        sides = []
        for side in ("chosen", "rejected"):
            kinds = [rewards[row[f"{side}_kind"]] for row in rows]
            known = np.array([[float(kind.mean), float(kind.stddev)] for kind in kinds])
            known += 0.1 * generator.normal(size=known.shape)
            sides.append(np.column_stack([known, [len(row[side]) for row in rows]]))
        helpful = np.array([row["objective"] == "helpful" for row in rows])
        return sides[0] - sides[1], helpful, generator
