"""The truth of the generated world: utilities per response kind and what follows from them.

An annotator compares two responses by one objective ``o``, drawn anew for every comparison and
hidden from the learner: helpful with probability ``w``, harmless with ``1 − w``. Each response's
utility under it is ``u_o + ε`` with ``ε ~ N(0, noise²)``. The objective is shared by the two
sides of a comparison; the noise is not. Everything here is a closed form in ``w``, ``u`` and
``noise``; utilities are in reward units (most lie in [0, 1]).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr

from hidden_context.distributions import MixtureReward

Objective = Literal["helpful", "harmless"]
TrainSet = Literal["helpful", "harmless", "both"]

OBJECTIVES: tuple[Objective, ...] = ("helpful", "harmless")
TRAIN_SETS: tuple[TrainSet, ...] = ("helpful", "harmless", "both")


@dataclass(frozen=True)
class ResponseKind:
    """A kind of response with its mean utility under each objective.

    Attributes:
        name: Its name in tables and rows.
        helpful: Mean utility under the helpful objective.
        harmless: Mean utility under the harmless objective.
    """

    name: str
    helpful: float
    harmless: float

    def utility(self, objective: Objective) -> float:
        """Return the mean utility under one objective."""
        return self.helpful if objective == "helpful" else self.harmless


COMPLIANCE = ResponseKind("compliance", 0.95, 0.05)
ALTERNATIVE = ResponseKind("alternative", 0.45, 0.95)
REFUSAL = ResponseKind("refusal", 0.25, 0.75)
INCOHERENT = ResponseKind("incoherent", 0.08, 0.55)

FULL_ANSWER = ResponseKind("full_answer", 0.92, 0.95)
PARTIAL_ANSWER = ResponseKind("partial_answer", 0.60, 0.80)
NEEDLESS_REFUSAL = ResponseKind("needless_refusal", 0.25, 0.60)

HARMFUL_PROMPT_KINDS = (COMPLIANCE, ALTERNATIVE, REFUSAL, INCOHERENT)
BENIGN_PROMPT_KINDS = (FULL_ANSWER, PARTIAL_ANSWER, NEEDLESS_REFUSAL)
KINDS = {kind.name: kind for kind in (*HARMFUL_PROMPT_KINDS, *BENIGN_PROMPT_KINDS)}


@dataclass(frozen=True)
class Annotators:
    """A population of annotators: the share that judges by helpfulness, and the noise.

    Attributes:
        helpful_weight: ``w`` in [0, 1]; 1 is the helpful train set, 0 the harmless one.
        noise: Standard deviation of each utility under one objective, > 0.
    """

    helpful_weight: float
    noise: float = 0.12

    def utility(self, kind: ResponseKind) -> MixtureReward:
        """Return a response's true utility, ``w·N(u_helpful, s²) + (1 − w)·N(u_harmless, s²)``."""
        weights = torch.tensor([self.helpful_weight, 1 - self.helpful_weight], dtype=torch.float64)
        means = torch.tensor([kind.helpful, kind.harmless], dtype=torch.float64)
        return MixtureReward(weights.log(), means, torch.full_like(means, self.noise))

    def probability_under(self, objective: Objective, a: ResponseKind, b: ResponseKind) -> float:
        """Return P(a ≻ b) when the annotator's objective is known: ``Φ((u_a − u_b)/(√2·s))``."""
        gap = a.utility(objective) - b.utility(objective)
        return float(ndtr(gap / (np.sqrt(2) * self.noise)))

    def probability(self, a: ResponseKind, b: ResponseKind) -> float:
        """Return P(a ≻ b) with the objective hidden.

        ``w·P_helpful(a ≻ b) + (1 − w)·P_harmless(a ≻ b)``: one objective judges both sides, so
        this is not the probability that two independent draws from the utility distributions
        come out in that order.
        """
        helpful, harmless = (self.probability_under(objective, a, b) for objective in OBJECTIVES)
        return self.helpful_weight * helpful + (1 - self.helpful_weight) * harmless

    def preference_matrix(self, kinds: Sequence[ResponseKind]) -> NDArray[np.float64]:
        """Return P(row ≻ column), shape ``(K, K)``, with ½ on the diagonal."""
        return np.array([[self.probability(a, b) for b in kinds] for a in kinds])


def true_explained_variance(annotators: Annotators, harmful_share: float = 0.5) -> float:
    """Return the share of the true utilities' variance that lies between responses.

    ``r² = Var[μ] / (Var[μ] + E[σ²])`` over responses, with μ and σ² the mean and variance of a
    response's true utility. r² depends on the unit of this world's utilities; comparisons do not
    identify r².

    Args:
        annotators: The annotators who have the utilities.
        harmful_share: Share of prompts that are harmful; kinds are equally frequent within each.

    Returns:
        r² in [0, 1].
    """
    groups = ((harmful_share, HARMFUL_PROMPT_KINDS), (1 - harmful_share, BENIGN_PROMPT_KINDS))
    weights = [share / len(kinds) for share, kinds in groups for _ in kinds]
    utilities = [annotators.utility(kind) for _, kinds in groups for kind in kinds]
    means = np.array([float(utility.mean) for utility in utilities])
    within = float(np.dot(weights, [float(utility.variance) for utility in utilities]))
    between = float(np.dot(weights, (means - np.dot(weights, means)) ** 2))
    return between / (between + within)
