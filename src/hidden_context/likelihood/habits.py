"""Habits of each annotator: sharpness, readiness to tie, preference for a position."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import cache
from typing import Final, Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor, nn

from hidden_context.distributions.log_space import logsumexp
from hidden_context.errors import ConfigError
from hidden_context.likelihood.annotators import AnnotatorPosterior, Inference

Habit = Literal["sharpness", "readiness", "position"]
HABITS: Final[tuple[str, ...]] = get_args(Habit)
_START_SCALE: Final = 0.5
_ALONE: Final = 16
_TOGETHER: Final = {"shift": 7, "sharpness": 3, "readiness": 3}


class AnnotatorHabits(AnnotatorPosterior):
    r"""Posterior of each annotator's habits, whose prior scales are learned.

    .. math:: D = (u_a - u_b \mid z) + p, \quad \text{noise} \cdot e^{-s}, \quad
        \text{thresholds} \cdot e^{t}, \qquad h_u \sim N(0, \tau_h^2), \; h \in \{s, t, p\}

    ``sharpness`` s divides the noise of an annotator's judgements; how well they agree with the
    model's rewards identifies it. ``readiness`` t widens the thresholds between answers; how often
    an annotator says "equal" identifies it, so the answers need a tie. ``position`` p favours the
    response that was shown first; it is identified where the order of the responses was not chosen
    by the answer, and has a mean over annotators, which is learned too.

    The scales τ are learned with the rest (empirical Bayes): where annotators do not differ, τ
    falls towards 0 and nobody has a habit. With ``map`` they stay at their start, ½: a point has no
    spread to learn them from.

    Args:
        count: Number U of annotators.
        habits: Which of the three, in any order.
        inference: ``variational`` or ``map``.

    Raises:
        ConfigError: If a habit is unknown or named twice.

    Source: Glickman and Jones (1999) for ratings with ties and order effects; random effects of
    annotators as in Dawid and Skene (1979).
    """

    def __init__(self, count: int, habits: Sequence[str], inference: Inference) -> None:
        super().__init__()
        strange = [habit for habit in habits if habit not in HABITS]
        if strange or len(set(habits)) < len(habits):
            raise ConfigError(
                f"habits {', '.join(habits)} cannot be learned; choose among {', '.join(HABITS)}, "
                "each once."
            )
        self.habits: tuple[str, ...] = tuple(habit for habit in HABITS if habit in habits)
        size, start = (count, len(self.habits)), math.log(_START_SCALE)
        self.location = nn.Parameter(torch.zeros(size))
        varies = inference == "variational"
        self.log_scale = nn.Parameter(torch.full(size, start)) if varies else None
        self.log_prior_scale = nn.Parameter(
            torch.full(size[1:], start), requires_grad=inference == "variational"
        )
        self.position_mean = nn.Parameter(torch.zeros(())) if "position" in habits else None

    def log_prior_scales(self) -> Tensor:
        """Return the logarithms of the learned scales τ, of shape ``(H,)``."""
        return self.log_prior_scale


class Nodes(NamedTuple):
    """Quadrature nodes over what is unknown about each annotator.

    Attributes:
        shift: Added to the difference of rewards, in reward units, of shape ``(C, N)``.
        log_sharpness: Of that shape, or ``(1, 1)`` where nobody has any.
        log_readiness: Likewise.
        spread: Deviation of the shift that is left to the noise, in reward units, ``(C, 1)``; 0
            where nodes stand for all of it.
        weight: Weights that sum to 1, of shape ``(N,)``.
    """

    shift: Tensor
    log_sharpness: Tensor
    log_readiness: Tensor
    spread: Tensor
    weight: Tensor

    def average(self, log_probs: Tensor) -> Tensor:
        """Average probabilities over the nodes, ``(C, N)`` to ``(C,)``, in nats."""
        return logsumexp(log_probs + self.weight.log().to(log_probs))


def nodes_of(
    spread: Tensor,
    habits: AnnotatorHabits | None,
    posterior: tuple[Tensor, Tensor] | None,
    *,
    position: bool = True,
    fold: bool = False,
) -> Nodes:
    r"""Place the nodes of a product of Gauss–Hermite rules.

    Taste and position both shift the difference, so they are one dimension of the rule.

    Args:
        spread: Deviation of the difference by taste, in reward units, of shape ``(C,)``.
        habits: The habits; None for none.
        posterior: Their location and scale for the annotator of each comparison, ``(C, H)`` each.
        position: Whether the response shown first is favoured.
        fold: Whether the shift is one node, and its spread is left to normal noise: exact for
            probabilities, not for expected logarithms.

    Returns:
        The nodes.
    """
    zero = spread.new_zeros((1, 1))
    location, variance = torch.zeros_like(spread), spread.square()
    others: dict[str, tuple[Tensor, Tensor]] = {}
    if habits is not None and posterior is not None:
        for column, name in enumerate(habits.habits):
            mean, scale = (part[:, column].to(spread) for part in posterior)
            if name != "position":
                others[name] = (mean, scale)
            elif position:
                assert habits.position_mean is not None
                location = mean + habits.position_mean.to(mean)
                variance = variance + scale.square()
    # a root has no gradient at zero
    deviation = torch.where(variance > 0, variance, 1.0).sqrt()
    deviation = torch.where(variance > 0, deviation, 0.0)
    shifts = 1 if fold else _TOGETHER["shift"] if others else _ALONE
    sizes = (shifts, *(_TOGETHER[name] for name in others))
    points, weight = (part.to(spread) for part in _product(sizes))
    found = {"sharpness": zero, "readiness": zero}
    for number, (name, (mean, scale)) in enumerate(others.items(), start=1):
        found[name] = mean.unsqueeze(-1) + scale.unsqueeze(-1) * points[number]
    shift = location.unsqueeze(-1) + deviation.unsqueeze(-1) * points[0]
    left = deviation.unsqueeze(-1) if fold else zero
    return Nodes(shift, found["sharpness"], found["readiness"], left, weight)


@cache
def _product(sizes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return nodes ``(dimensions, N)`` and weights ``(N,)`` for independent standard normals."""
    rules = [np.polynomial.hermite_e.hermegauss(size) for size in sizes]
    points = np.array(list(itertools.product(*(rule[0] for rule in rules)))).T
    weights = np.array([math.prod(each) for each in itertools.product(*(r[1] for r in rules))])
    return torch.from_numpy(points), torch.from_numpy(weights / weights.sum())
