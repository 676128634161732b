"""Learned curves on a grid of alternatives, and their agreement with the exact curves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hidden_context.data.storage.files import atomic_write, require_file
from hidden_context.distributions import CategoricalReward
from hidden_context.errors import DataError
from hidden_context.synthetic.networks import ClassifierLearner, Learner, RewardLearner
from hidden_context.worlds.grids import Environment

Array = NDArray[np.float32]

RESOLUTION = {"1d": 1000, "2d": 40}
"""Grid points per coordinate."""
OPPONENTS = {"1d": 25, "2d": 6}
"""Grid points per coordinate over which the classifier's probabilities are averaged."""


@dataclass(frozen=True)
class Curves:
    """Exact and learned curves over ``N`` alternatives of an environment with ``d`` coordinates.

    Attributes:
        env: The environment's name.
        alternatives: ``(N, d)``, midpoints of a regular grid.
        expected_utility: Exact, ``(N,)``, in utility units.
        borda_count: Exact, ``(N,)``.
        base: Reward of ordinary preference learning, ``(N,)``, in its reward units.
        mean: Mean reward of the mean-and-stddev network, ``(N,)``, in its reward units.
        stddev: Its standard deviation, ``(N,)``, in the same units.
        probabilities: ``p̂(u | a)`` of the categorical network, ``(N, K)``, on atoms of [0, 1].
        classifier_borda: Mean probability by the classifier of being preferred, ``(N,)``.
    """

    env: str
    alternatives: Array
    expected_utility: Array
    borda_count: Array
    base: Array
    mean: Array
    stddev: Array
    probabilities: Array
    classifier_borda: Array

    @property
    def atoms(self) -> Array:
        """Rewards of the categorical atoms, ``(K,)``, evenly spaced on [0, 1]."""
        return np.linspace(0, 1, self.probabilities.shape[1], dtype=np.float32)

    @property
    def categorical_mean(self) -> Array:
        """Mean reward of the categorical network, ``(N,)``."""
        return self.probabilities @ self.atoms

    def save(self, path: str | Path) -> None:
        """Write all arrays to one ``.npz`` file, whole or not at all."""
        with atomic_write(path, "wb") as file:
            np.savez_compressed(file, **{f.name: getattr(self, f.name) for f in fields(self)})

    @classmethod
    def load(cls, path: str | Path) -> Curves:
        """Read curves that ``save`` wrote.

        Raises:
            MissingFileError: If there is no such file.
            DataError: If it holds something else.
        """
        require_file(path, "Run `hidden-context synthetic` to write it")
        try:
            with np.load(path, allow_pickle=False) as arrays:
                values = {f.name: arrays[f.name] for f in fields(cls)}
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"not the curves of a synthetic experiment ({error})", file=path) from (
                error
            )
        return cls(**{**values, "env": str(values["env"])})


@torch.no_grad()
def evaluate(environment: Environment, learners: Mapping[str, Learner]) -> Curves:
    """Evaluate trained learners on the environment's grid.

    Args:
        environment: The environment of the training.
        learners: The four of ``networks.LEARNERS`` by name, in evaluation mode: batch norm uses
            its running statistics.

    Returns:
        The curves.
    """
    grid = environment.grid(RESOLUTION[environment.name])
    exact = grid.double()
    rewards = {
        name: learner.distribution(learner.network(grid))
        for name, learner in learners.items()
        if isinstance(learner, RewardLearner)
    }
    categorical, classifier = rewards["categorical"], learners["classifier"]
    assert isinstance(categorical, CategoricalReward)
    assert isinstance(classifier, ClassifierLearner)
    return Curves(
        env=environment.name,
        alternatives=_array(grid),
        expected_utility=_array(environment.expected_utility(exact)),
        borda_count=_array(environment.borda_count(exact)),
        base=_array(rewards["base"].mean),
        mean=_array(rewards["mean_and_stddev"].mean),
        stddev=_array(rewards["mean_and_stddev"].stddev),
        probabilities=_array(categorical.probs),
        classifier_borda=_array(
            classifier_borda_count(classifier, grid, environment.grid(OPPONENTS[environment.name]))
        ),
    )


@torch.no_grad()
def classifier_borda_count(
    classifier: ClassifierLearner, alternatives: Tensor, opponents: Tensor
) -> Tensor:
    """Return the mean probability that each alternative is preferred, averaged over both orders.

    ``mean_b [1 − c(a, b) + c(b, a)] / 2`` where ``c`` is the classifier's probability that the
    second is preferred. In a tie, the annotators prefer the first. The average over both orders
    counts ties half, as the Borda count does.

    Args:
        classifier: The trained classifier.
        alternatives: ``(N, d)``.
        opponents: ``(M, d)``.

    Returns:
        Learned Borda counts, ``(N,)``.
    """
    total = torch.zeros(len(alternatives))
    for opponent in opponents:
        other = opponent.expand_as(alternatives)
        total += 0.5 * (-classifier.logit(alternatives, other)).sigmoid()
        total += 0.5 * classifier.logit(other, alternatives).sigmoid()
    return total / len(opponents)


def _array(values: Tensor) -> Array:
    return values.to(torch.float32).numpy()


JUMP, JUMP_MARGIN = 0.8, 0.02
"""Within this distance of the jump of the 1d environment no continuous network can be right."""


@dataclass(frozen=True)
class Agreement:
    """Spearman rank correlations of one curve over the grid.

    Attributes:
        borda_count: With the exact Borda count.
        expected_utility: With the exact expected utility.
        borda_count_off_jump: ``borda_count`` without alternatives within 0.02 of the jump (1d).
        expected_utility_off_jump: ``expected_utility`` without the same alternatives (1d).
    """

    borda_count: float
    expected_utility: float
    borda_count_off_jump: float | None = None
    expected_utility_off_jump: float | None = None


def rank_agreements(curves: Curves) -> dict[str, Agreement]:
    """Compare the order of every curve with the orders of the two exact curves.

    Args:
        curves: Exact and learned curves.

    Returns:
        Agreements by curve: ``exact_borda_count`` (what a perfect learner of Borda counts would
        score), ``base``, ``mean_and_stddev``, ``categorical`` (both by their means) and
        ``classifier``.
    """
    learned = {
        "exact_borda_count": curves.borda_count,
        "base": curves.base,
        "mean_and_stddev": curves.mean,
        "categorical": curves.categorical_mean,
        "classifier": curves.classifier_borda,
    }
    places = [np.full(len(curves.alternatives), True)]
    if curves.env == "1d":
        places.append(np.abs(curves.alternatives[:, 0] - JUMP) > JUMP_MARGIN)
    exact = (curves.borda_count, curves.expected_utility)
    return {
        name: Agreement(*(spearman(curve[at], of[at]) for at in places for of in exact))
        for name, curve in learned.items()
    }


def spearman(first: Array, second: Array) -> float:
    """Return Spearman's rank correlation of two curves, ``(N,)`` each; NaN if one is constant."""
    from scipy.stats import rankdata

    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(np.corrcoef(rankdata(first), rankdata(second))[0, 1])
