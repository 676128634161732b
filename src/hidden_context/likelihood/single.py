"""The likelihood of one head."""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
import torch
from torch import Tensor

from hidden_context.distributions import Components, RewardDifference, RewardDistribution
from hidden_context.errors import ConfigError
from hidden_context.heads import Head
from hidden_context.likelihood.annotators import AnnotatorEmbeddings
from hidden_context.likelihood.base import Likelihood, Predictions, cross_entropy
from hidden_context.likelihood.labels import Labels
from hidden_context.likelihood.options import LikelihoodOptions
from hidden_context.likelihood.outcomes import Intervals, Outcomes
from hidden_context.likelihood.ratings import Ratings

_NODES: Final = 16


class HeadLikelihood(Likelihood):
    r"""Comparisons are intervals of the reward difference, ratings noisy readings of a reward.

    .. math:: -\log P(l < u_a - u_b \le r \mid z_u) \qquad\text{and}\qquad -\log p(y \mid u, z_u)

    An annotator who is known has a context of their own, one who is not is drawn from the
    population.

    Args:
        head: The head.
        options: Answers and annotators; None for preferences of nobody known.

    Raises:
        ConfigError: If head and options do not fit together.
    """

    def __init__(self, head: Head, options: LikelihoodOptions | None = None) -> None:
        super().__init__(head, options)
        options = self.options
        self.outcomes = Outcomes(options.levels, options.margin_scale)
        self.annotators: AnnotatorEmbeddings | None = None
        if options.inference is not None:
            if not head.num_factors:
                raise ConfigError(
                    f"annotators need a factor head with at least one factor, not a {head.type} "
                    "head."
                )
            self.annotators = AnnotatorEmbeddings(
                len(self.names), head.num_factors, options.inference, options.seed
            )
        self.ratings: Ratings | None = None
        if options.rating_weight:
            styles = len(self.names) if options.styles else None
            unit = (options.rating_location, options.rating_scale)
            self.ratings = Ratings(options.ratings, options.grades, styles, unit)

    def forward(self, raw: Tensor, labels: Labels) -> Tensor:
        """Loss of each judgement for training (see the base class)."""
        known = labels.comparisons.annotator >= 0
        if self.annotators is None or not bool(known.any()):
            compared = self._comparison_loss(raw, labels)
        else:
            compared = self._expected_loss(raw, labels)
            if not bool(known.all()):
                others = self._comparison_loss(raw, labels.judged_by(None))
                compared = torch.where(known, compared, others)
        return torch.cat([compared, self._rating_loss(raw, labels).to(compared)])

    def predict(self, raw: Tensor, labels: Labels) -> Predictions:
        """Log-probability of each judgement (see the base class)."""
        rating = self._rating_log_probs(raw, labels)
        first, second = self._sides(raw, labels)
        if self.outcomes.are_sides_alone and self.annotators is None:
            forward, backward = first.log_prob_greater(second), second.log_prob_greater(first)
            return Predictions(forward, backward, labels.comparisons.preference, rating)
        intervals = self.outcomes.intervals(labels.comparisons)
        forward, backward = _log_probs(self._difference(first, second, labels), intervals)
        return Predictions(forward, backward, intervals.weight, rating)

    def log_prob_first(self, raw: Tensor, labels: Labels) -> Tensor:
        """Log-probability that the first response is preferred (see the base class)."""
        first, second = self._sides(raw, labels)
        if self.annotators is None:
            return first.log_prob_greater(second)
        return self._difference(first, second, labels).log_prob_greater()

    def rating_means(self, raw: Tensor, labels: Labels) -> Tensor:
        """Rating that each rating's own annotator is expected to give (see the base class)."""
        if self.ratings is None:
            raise ConfigError("this model reads no ratings.")
        return self.ratings.mean(self._rated(raw, labels).mean, labels.ratings)

    def posterior(self, annotator: Tensor) -> tuple[Tensor, Tensor]:
        """Location and scale of annotators' contexts, each ``(A, F)`` (see the base class)."""
        if self.annotators is None:
            raise ConfigError("this model has learned no contexts of annotators.")
        return self.annotators.posterior(annotator)

    def prior(self) -> Tensor:
        """Cost of what is learned of the annotators (see the base class)."""
        total = torch.zeros(())
        for part in (self.annotators, self.ratings):
            if part is not None:
                total = part.prior() + total.to(part.prior())
        return total

    def _sides(self, raw: Tensor, labels: Labels) -> tuple[RewardDistribution, RewardDistribution]:
        """Rewards of the two responses of each comparison, of batch shape ``(C,)``."""
        first, second = labels.comparisons.first, labels.comparisons.second
        return self.head.distribution(raw[first]), self.head.distribution(raw[second])

    def _difference(
        self, first: RewardDistribution, second: RewardDistribution, labels: Labels
    ) -> RewardDifference:
        """Differences of batch shape ``(C,)``, of what is known about each annotator."""
        if self.annotators is not None:
            location, scale = self.annotators.posterior(labels.comparisons.annotator)
            first, second = first.given(location, scale), second.given(location, scale)
        return first.difference(second)

    def _comparison_loss(self, raw: Tensor, labels: Labels) -> Tensor:
        """Loss of each comparison by somebody of the population, ``(C,)``."""
        first, second = self._sides(raw, labels)
        share = labels.comparisons.preference
        if not self.outcomes.are_sides_alone:
            return _loss(first.difference(second), self.outcomes.intervals(labels.comparisons))
        forward = first.log_prob_greater(second)
        if bool((share == 1).all()):  # the usual case, at half the cost
            return -forward
        return cross_entropy(forward, second.log_prob_greater(first), share)

    def _expected_loss(self, raw: Tensor, labels: Labels) -> Tensor:
        """Expected loss of each comparison over q(z), ``(C,)``, by Gauss-Hermite quadrature.

        Only one dimension of z matters, that of L_a − L_b.
        """
        assert self.annotators is not None
        intervals = self.outcomes.intervals(labels.comparisons)
        first, second = self._sides(raw, labels)
        location, scale = self.annotators.posterior(labels.comparisons.annotator)
        difference = first.given(location).difference(second.given(location))
        spread = first.context_spread(second, scale)
        nodes, node_weights = (values.to(spread) for values in _gauss_hermite())
        at_nodes = RewardDifference(
            difference.log_weights.unsqueeze(-2),
            difference.location.unsqueeze(-2) + (spread.unsqueeze(-1) * nodes).unsqueeze(-1),
            difference.scale.unsqueeze(-2),
        )
        each = Intervals(*(part.unsqueeze(-1) for part in intervals))
        return _loss(at_nodes, each) @ node_weights

    def _rating_loss(self, raw: Tensor, labels: Labels) -> Tensor:
        """Loss of each rating for training, ``(D,)``: expected over q(z) as for comparisons."""
        said = labels.ratings
        known = said.annotator >= 0
        log_probs = self._rating_log_probs(raw, labels)
        if self.annotators is None or self.ratings is None or not bool(known.any()):
            return -log_probs
        rewards = self.head.distribution(raw[said.response])
        location, scale = self.annotators.posterior(said.annotator)
        parts, spread = rewards.given(location).components(), rewards.context_spread(None, scale)
        nodes, node_weights = (values.to(spread) for values in _gauss_hermite())
        shift = (nodes.unsqueeze(-1) * spread).unsqueeze(-1)  # (N, D, 1)
        at_nodes = Components(parts.log_weights, parts.location + shift, parts.scale)
        expected = node_weights @ self.ratings.log_prob(at_nodes, said)
        return -torch.where(known, expected, log_probs)

    def _rating_log_probs(self, raw: Tensor, labels: Labels) -> Tensor:
        """Log-probability of each rating, ``(D,)``; zero where ratings play no part."""
        said = labels.ratings
        if self.ratings is None or not len(said):
            return raw.new_zeros(len(said))
        return self.ratings.log_prob(self._rated(raw, labels).components(), said)

    def _rated(self, raw: Tensor, labels: Labels) -> RewardDistribution:
        """Rewards of the responses rated, as far as their annotators are known, ``(D,)``."""
        rewards = self.head.distribution(raw[labels.ratings.response])
        if self.annotators is None:
            return rewards
        return rewards.given(*self.annotators.posterior(labels.ratings.annotator))


def _log_probs(difference: RewardDifference, intervals: Intervals) -> tuple[Tensor, Tensor]:
    """Log-probabilities of intervals and of their mirror images."""
    forward = difference.log_prob_between(intervals.lower, intervals.upper)
    return forward, difference.log_prob_between(-intervals.upper, -intervals.lower)


def _loss(difference: RewardDifference, intervals: Intervals) -> Tensor:
    """Cross-entropy of each comparison under one difference, of its batch shape."""
    if bool((intervals.weight == 1).all()):  # the usual case, at half the cost
        return -difference.log_prob_between(intervals.lower, intervals.upper)
    return cross_entropy(*_log_probs(difference, intervals), intervals.weight)


@cache
def _gauss_hermite() -> tuple[Tensor, Tensor]:
    """Nodes and weights that integrate against the standard normal density."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    return torch.from_numpy(nodes), torch.from_numpy(weights / weights.sum())
