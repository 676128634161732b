r"""Expected answers of annotators: how often two differ, and how far their preferences diverge.

Annotator z answers a comparison first, equal or second with probabilities :math:`p_z`. Three
quantities are often confused, and only votes show which of them a model gets right:

- *expected disagreement*: two different annotators answer differently with probability
  :math:`1 - \sum_k \bar p_k^2`. Votes show it: the share of pairs of an item's votes that differ.
- *conflict*: :math:`\operatorname{Var}_z(p_z)` of the two-way share :math:`p_z` = P(first) + ½
  P(equal). People have different preferences, and each would answer the same way again.
- *variation of one person's answers*: :math:`E_z[p_z(1 - p_z)]`. It can be large even if nobody has
  a clear preference.

The second and third sum to :math:`\bar p(1 - \bar p)`. The variance of rewards by shared context is
a different quantity: it can be large even where everybody prefers the same response.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hidden_context.distributions import RewardDistribution
from hidden_context.likelihood import EnsembleLikelihood, HeadLikelihood, Labels, Likelihood
from hidden_context.likelihood.labels import UNKNOWN


@dataclass(frozen=True)
class ExpectedAnswers:
    r"""Expected answers of randomly drawn annotators to each of C comparisons.

    The identity :math:`\bar p(1-\bar p)` = ``same_person`` + ``conflict`` + ``ignorance`` holds for
    the two-way share :math:`\bar p`.

    Attributes:
        mean: Probabilities of first, equal and second, averaged over annotators, ``(C, 3)``.
        disagreement: Probability that two different annotators answer differently, ``(C,)``.
        conflict: :math:`\operatorname{Var}_z(p_z)`, in [0, ¼], ``(C,)``; 0 if the head has no
            context that annotators share and no annotator's habits were learned, because people
            then cannot be told from chance.
        same_person: :math:`E_z[p_z(1-p_z)]`, in [0, ¼], ``(C,)``.
        ignorance: Variance of the members' averages, ``(C,)``; 0 for a single model.
        has_context: Whether the head has a context that annotators share, or their habits were
            learned.
    """

    mean: Tensor
    disagreement: Tensor
    conflict: Tensor
    same_person: Tensor
    ignorance: Tensor
    has_context: bool

    @property
    def probability(self) -> Tensor:
        """Expected two-way share for the first response, a tie counting one half, ``(C,)``."""
        return two_way(self.mean)


def two_way(answers: Tensor) -> Tensor:
    """Return P(first) + ½ P(equal) from probabilities ``(…, 3)``."""
    return answers[..., 0] + 0.5 * answers[..., 1]


def expected_answers(likelihood: Likelihood, raw: Tensor, labels: Labels) -> ExpectedAnswers:
    """Average the answers to comparisons over unknown annotators, each with a context.

    Args:
        likelihood: The likelihood. Members of an ensemble are averaged; two annotators are compared
            within one member.
        raw: Raw outputs of shape ``(R, K)``.
        labels: Labels of these responses; only the responses of their C comparisons matter.

    Returns:
        The expected answers, with the dtype of ``raw``.
    """
    has_context = likelihood.head.has_context or bool(likelihood.options.habits)
    if not isinstance(likelihood, EnsembleLikelihood):
        return _joined([_of_head(likelihood, raw, labels)], has_context)
    each = raw.unflatten(-1, (len(likelihood.members), -1)).unbind(-2)
    members = zip(likelihood.members, each, strict=True)
    return _joined([_of_head(member, own, labels) for member, own in members], has_context)


def spread_of(answers: Tensor, weights: Tensor) -> ExpectedAnswers:
    """Average the answers of N annotators, such as quadrature nodes or known people.

    Args:
        answers: Probabilities of first, equal and second, of shape ``(C, N, 3)``.
        weights: Weight of each annotator, summing to 1, of shape ``(N,)``.

    Returns:
        The expected answers of an annotator drawn from these N.
    """
    mean = torch.einsum("n,cnk->ck", weights, answers)
    share = two_way(answers)
    centred = share - two_way(mean).unsqueeze(-1)
    same_person = (share * (1 - share)) @ weights
    return _of_one_world(mean, centred.square() @ weights, same_person, answers.shape[-2] > 1)


def _of_one_world(
    mean: Tensor, conflict: Tensor, same_person: Tensor, has_context: bool
) -> ExpectedAnswers:
    """Return the expected answers of a single model, whose ignorance is 0."""
    differ, none = 1 - mean.square().sum(-1), torch.zeros_like(conflict)
    return ExpectedAnswers(mean, differ, conflict, same_person, none, has_context)


def _of_head(likelihood: torch.nn.Module, raw: Tensor, labels: Labels) -> ExpectedAnswers:
    """Average over the annotators of one head, in whatever way they differ."""
    assert isinstance(likelihood, HeadLikelihood)
    if likelihood.habits is not None:
        # the context of a factor head without tastes stays in the noise
        log_answers, weights = likelihood.answer_nodes(raw, labels.judged_by(None))
        return spread_of(log_answers.exp(), weights.to(log_answers))
    first, second = (
        likelihood.head.distribution(raw[side])
        for side in (labels.comparisons.first, labels.comparisons.second)
    )
    if likelihood.head.num_factors:
        return _of_contexts(likelihood, first, second)
    difference = first.difference(second)
    width = _width(likelihood, difference.location)
    above, below = (difference.log_prob_greater(edge).exp() for edge in (width, -width))
    return spread_of(_answers(above, below).unsqueeze(-2), torch.ones(1).to(above))


def _of_contexts(
    likelihood: HeadLikelihood, first: RewardDistribution, second: RewardDistribution
) -> ExpectedAnswers:
    r"""Average over contexts in closed form.

    Only the direction :math:`L_a - L_b` of the context matters. With noise :math:`s`, a context of
    deviation :math:`c` and :math:`\rho = c^2 / (c^2 + s^2)`, the probability that D exceeds an edge
    is a normal probability in t, and

    .. math:: \operatorname{Cov}_t\bigl(\Phi_h, \Phi_k\bigr) = \Phi_2(h, k; \rho) -
        \Phi(h)\Phi(k)

    for edges at the standardised heights h and k.
    """
    nobody, spread = _of_nobody_known(likelihood, first.mean)
    noise = first.given(nobody).difference(second.given(nobody))
    location, stddev = noise.location[..., 0], noise.scale[..., 0]
    context = first.context_spread(second, spread)
    total = torch.hypot(stddev, context)
    correlation = (context / total).square()
    width = _width(likelihood, location)
    heights = [(location - edge) / total for edge in (width, -width)]
    above, below = (torch.special.ndtr(height) for height in heights)
    mean = _answers(above, below)
    share = two_way(mean)
    pairs = itertools.product(heights, heights)
    conflict = torch.stack([_covariance(h, k, correlation) for h, k in pairs]).mean(0)
    same_person = (share * (1 - share) - conflict).clamp(min=0)
    return _of_one_world(mean, conflict, same_person, True)


def _covariance(height: Tensor, other: Tensor, correlation: Tensor) -> Tensor:
    r"""Return a bivariate normal minus an independent probability, by Gauss–Legendre quadrature.

    .. math:: \frac{1}{2\pi}\int_0^{\arcsin\rho} \exp\Bigl(-\frac{(h-k)^2}{2\cos^2\theta} -
        \frac{hk}{1 + \sin\theta}\Bigr)\, d\theta

    Source: Plackett (1954).
    """
    legendre = np.polynomial.legendre.leggauss(32)
    nodes, weights = (torch.from_numpy(part).to(height) for part in legendre)
    end = torch.asin(correlation).unsqueeze(-1) / 2
    angle = end * (nodes + 1)
    apart = (height - other).square().unsqueeze(-1)
    cosine = torch.cos(angle).square().clamp(min=torch.finfo(height.dtype).tiny)
    exponent = apart / (2 * cosine) + (height * other).unsqueeze(-1) / (1 + torch.sin(angle))
    return (torch.exp(-exponent) * end) @ weights / (2 * math.pi)


def _width(likelihood: HeadLikelihood, like: Tensor) -> Tensor:
    """Return half the width of the answer "equal" in reward units, a scalar; 0 without it."""
    thresholds = likelihood.outcomes.thresholds.to(like)
    return thresholds[0] if len(thresholds) else like.new_zeros(())


def _answers(above: Tensor, below: Tensor) -> Tensor:
    """Return P(first), P(equal) and P(second) from P(D > δ) and P(D > −δ), ``(…, 3)``."""
    equal = (below - above).clamp(min=0)
    return torch.stack([above, equal, (1 - above - equal).clamp(min=0)], dim=-1)


def _of_nobody_known(likelihood: HeadLikelihood, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return the location and scale of an unknown annotator's context, ``(F,)`` each."""
    if likelihood.annotators is None:
        zero = like.new_zeros(likelihood.head.num_factors)
        return zero, torch.ones_like(zero)
    nobody = torch.full((1,), UNKNOWN, device=like.device)
    location, scale = (part[0].to(like) for part in likelihood.posterior(nobody))
    return location, scale


def _joined(parts: list[ExpectedAnswers], has_context: bool) -> ExpectedAnswers:
    """Average the members; the variance of their averages is the model's ignorance."""
    mean = torch.stack([part.mean for part in parts])
    others = {
        name: torch.stack([getattr(part, name) for part in parts]).mean(0)
        for name in ("disagreement", "conflict", "same_person")
    }
    ignorance = two_way(mean).var(0, correction=0)
    return ExpectedAnswers(mean.mean(0), **others, ignorance=ignorance, has_context=has_context)
