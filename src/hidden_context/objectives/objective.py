"""The one objective: per-pair negative log-likelihoods of every head and every kind of label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from hidden_context.distributions import (
    EnsembleReward,
    FactorReward,
    RewardDifference,
    RewardDistribution,
)
from hidden_context.distributions.log_space import logsumexp
from hidden_context.errors import ConfigError
from hidden_context.heads import FactorHead, Head
from hidden_context.objectives.annotators import AnnotatorEmbeddings
from hidden_context.objectives.labels import Labels
from hidden_context.objectives.outcomes import Intervals, Outcomes
from hidden_context.objectives.pairs import negative_log_likelihood

_NODES: Final = 16


class Objective(nn.Module):
    r"""A head, the answers its annotators could give, and what is known of the annotators.

    It holds what is learned beside the network: thresholds between answers, annotators'
    embeddings, and the noise of absolute ratings. A pair's likelihood is the mean over its
    annotations of :math:`-\log P(l < u_a - u_b \le r)` (see ``Outcomes``). An annotator who is
    known has a context of his own, one who is not is drawn from the population.

    Ratings y of single texts, where there are some, add
    :math:`-\log p(y)` with :math:`y \sim u(x) + N(0, \tau^2)`: they pin the level and unit of
    rewards, which comparisons leave open.

    Args:
        head: The head; an ensemble's members each have their own thresholds and embeddings.
        outcomes: The answers; None for preferences without margin.
        annotators: Embeddings, for factor heads; None where annotators play no part.
        anchor_weight: Weight of the ratings' log-densities; 0 leaves ratings out.

    Raises:
        ConfigError: If head, outcomes and annotators do not fit together.
    """

    def __init__(
        self,
        head: Head,
        outcomes: Outcomes | None = None,
        annotators: AnnotatorEmbeddings | None = None,
        anchor_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.head = head
        self.member, self.num_members = head.members
        self.outcomes = Outcomes(num_members=self.num_members) if outcomes is None else outcomes
        self.annotators = annotators
        if not 0 <= anchor_weight < math.inf:
            raise ConfigError(f"anchor_weight is {anchor_weight}; it must be ≥ 0.")
        self.anchor_weight = anchor_weight
        self.log_rating_noise = nn.Parameter(torch.zeros(self.num_members, int(anchor_weight > 0)))
        if self.outcomes.num_members != self.num_members:
            raise ConfigError("the outcomes are those of another number of members.")
        if annotators is not None:
            factors = self.member.num_factors if isinstance(self.member, FactorHead) else 0
            if (self.num_members, factors) != tuple(annotators.location.shape[1:]):
                raise ConfigError(
                    "annotators need a factor head with as many factors as their embeddings "
                    f"({annotators.num_factors}), not {self.member}."
                )

    @property
    def is_plain(self) -> bool:
        """Whether nothing is learned beside the network, and labels are shares alone."""
        return not any(parameter.numel() for parameter in self.parameters()) and not (
            self.outcomes.margin_scale
        )

    def negative_log_likelihood(
        self, raw_chosen: Tensor, raw_rejected: Tensor, labels: Labels
    ) -> Tensor:
        """Loss of each pair by the prediction that the model would make, without penalties.

        What is not known of an annotator, and which member is right, is averaged over within the
        logarithm.

        Args:
            raw_chosen: Raw outputs of shape ``(B, M K)``.
            raw_rejected: Raw outputs of that shape.
            labels: Labels of the B pairs.

        Returns:
            Losses in nats, of shape ``(B,)``.
        """
        if self.is_plain:
            return negative_log_likelihood(self.head, raw_chosen, raw_rejected, labels.vote_share)
        intervals = self.outcomes.intervals(labels)
        difference = self._difference(raw_chosen, raw_rejected, labels)
        forward, backward = (_log_mean_exp(part) for part in _log_probs(difference, intervals))
        return labels.mean_by_pair(_cross_entropy(forward, backward, intervals.weight.squeeze(-1)))

    def log_prob_preferred(
        self, raw_chosen: Tensor, raw_rejected: Tensor, labels: Labels
    ) -> Tensor:
        """Log-probability that each annotation's own annotator prefers the chosen side.

        Args:
            raw_chosen: Raw outputs of shape ``(B, M K)``.
            raw_rejected: Raw outputs of that shape.
            labels: Of which only the annotators matter.

        Returns:
            In nats, of shape ``(A,)``.
        """
        difference = self._difference(raw_chosen, raw_rejected, labels)
        return _log_mean_exp(difference.log_prob_greater())

    def population_log_prob_preferred(self, raw_chosen: Tensor, raw_rejected: Tensor) -> Tensor:
        """Log of the share of the annotators who are known that prefers the chosen side.

        Unlike the prior's prediction it is right where opinions have several modes.

        Args:
            raw_chosen: Raw outputs of shape ``(B, M K)``.
            raw_rejected: Raw outputs of that shape.

        Returns:
            In nats, of shape ``(B,)``.

        Raises:
            ConfigError: If the objective has no annotators.
        """
        if self.annotators is None or not self.annotators.names:
            raise ConfigError("this model knows no annotators, so it has no population of them.")
        everyone = range(len(self.annotators.names))
        like = raw_chosen.new_ones(len(raw_chosen))
        each = [
            self.log_prob_preferred(
                raw_chosen,
                raw_rejected,
                Labels.of_preferences(like, torch.full(like.shape, number, device=like.device)),
            )
            for number in everyone
        ]
        return torch.logsumexp(torch.stack(each), dim=0) - math.log(len(each))

    def training_loss(
        self,
        raw_chosen: Tensor,
        raw_rejected: Tensor,
        labels: Labels,
        member_weight: Tensor | None = None,
    ) -> Tensor:
        r"""Loss of each pair for training: every member by itself, annotators by their bound.

        The variational bound takes :math:`E_{q(z_u)}[-\log P]` outside the logarithm, in one
        dimension by Gauss-Hermite quadrature, since only :math:`(L_a - L_b)\cdot z_u` matters; the
        divergence from the prior is ``prior``.

        Args:
            raw_chosen: Raw outputs of shape ``(B, M K)``.
            raw_rejected: Raw outputs of that shape.
            labels: Labels of the B pairs.
            member_weight: How often each member sees each pair, of shape ``(B, M)``; None for once.

        Returns:
            Losses in nats, of shape ``(B,)``: weighted by the pair, averaged over the members.
        """
        if self.is_plain:
            a, b = (self.head.by_member(raw) for raw in (raw_chosen, raw_rejected))
            loss = negative_log_likelihood(self.member, a, b, labels.vote_share.unsqueeze(-1))
        else:
            chosen, rejected = self._sides(raw_chosen, raw_rejected)
            loss = labels.mean_by_pair(self._expected_loss(chosen, rejected, labels))
            if self.anchor_weight:
                loss = loss + self.anchor_weight * self._rating_loss(chosen, rejected, labels)
        if member_weight is not None:
            loss = loss * member_weight
        return labels.weight * loss.mean(-1)

    def of_member(self, number: int) -> Objective:
        """Make the objective of one member alone, to be trained apart; others share none of it.

        Args:
            number: Which member; where the head has one only, each call gives another copy.

        Returns:
            An objective of the member's head.
        """
        place = number if self.num_members > 1 else 0
        known = self.annotators
        part = Objective(
            self.member,
            Outcomes(self.outcomes.levels, 1, self.outcomes.margin_scale),
            known
            and AnnotatorEmbeddings(
                known.names, known.num_factors, 1, known.inference, column=known.column
            ),
            self.anchor_weight,
        )
        own = dict(self.named_parameters())
        with torch.no_grad():
            for name, value in part.named_parameters():
                dim = _member_dim(name)
                value.copy_(own[name].narrow(dim, place, 1))
        return part

    def take_members(self, parts: Sequence[Objective]) -> None:
        """Take over what members learned apart; for one head, whose outputs are averaged, the mean.

        Args:
            parts: Objectives of the members, as ``of_member`` made them.
        """
        learned = [dict(part.named_parameters()) for part in parts]
        with torch.no_grad():
            for name, value in self.named_parameters():
                dim = _member_dim(name)
                stacked = torch.cat([part[name] for part in learned], dim)
                value.copy_(stacked if self.num_members > 1 else stacked.mean(dim, keepdim=True))

    def prior(self) -> Tensor:
        """Cost of what is learned of the annotators, in nats over the whole data set, a scalar."""
        if self.annotators is None:
            return self.log_rating_noise.new_zeros(())
        return self.annotators.prior()

    def rewards_of(
        self, rewards: RewardDistribution, annotator: str | int | None
    ) -> RewardDistribution:
        """Rewards as one annotator would give them; one never seen is drawn from the population.

        Args:
            rewards: What the head's ``distribution`` gave.
            annotator: The name.

        Returns:
            Rewards of the same batch shape.

        Raises:
            ConfigError: If the model has learned no annotators.
        """
        if self.annotators is None or not isinstance(rewards, (FactorReward, EnsembleReward)):
            raise ConfigError(
                "this model knows no annotators; train a factor head with --annotators on data "
                "that name them."
            )
        index = torch.tensor([self.annotators.index(annotator)])
        with torch.no_grad():
            location, scale = (
                part[0].to(rewards.mean) for part in self.annotators.posterior(index)
            )
        if isinstance(rewards, FactorReward):
            location, scale = location[0], scale[0]
        return rewards.given(location, scale)

    def _sides(self, raw_chosen: Tensor, raw_rejected: Tensor) -> tuple[RewardDistribution, ...]:
        """Members' rewards of batch shape ``(B, M)``."""
        return tuple(
            self.member.distribution(self.head.by_member(raw)) for raw in (raw_chosen, raw_rejected)
        )

    def _difference(
        self, raw_chosen: Tensor, raw_rejected: Tensor, labels: Labels
    ) -> RewardDifference:
        """Differences of batch shape ``(A, M)``, of what is known about each annotator."""
        chosen, rejected = (side[labels.pair] for side in self._sides(raw_chosen, raw_rejected))
        if self.annotators is not None:
            assert isinstance(chosen, FactorReward)
            assert isinstance(rejected, FactorReward)
            location, scale = self.annotators.posterior(labels.annotator)
            chosen, rejected = chosen.given(location, scale), rejected.given(location, scale)
        return chosen.difference(rejected)

    def _expected_loss(
        self, chosen: RewardDistribution, rejected: RewardDistribution, labels: Labels
    ) -> Tensor:
        """Expected loss of each annotation and member, ``(A, M)``."""
        intervals = self.outcomes.intervals(labels)
        chosen, rejected = chosen[labels.pair], rejected[labels.pair]
        known = labels.annotator >= 0
        if self.annotators is None or not bool(known.any()):
            return _loss(chosen.difference(rejected), intervals)
        assert isinstance(chosen, FactorReward)
        assert isinstance(rejected, FactorReward)
        location, scale = self.annotators.posterior(labels.annotator)
        difference = chosen.given(location).difference(rejected.given(location))
        spread = torch.linalg.vector_norm((chosen.loadings - rejected.loadings) * scale, dim=-1)
        nodes, node_weights = (values.to(spread) for values in _gauss_hermite())
        at_nodes = RewardDifference(
            difference.log_weights.unsqueeze(-2),
            difference.location.unsqueeze(-2) + (spread.unsqueeze(-1) * nodes).unsqueeze(-1),
            difference.scale.unsqueeze(-2),
        )
        each = Intervals(*(part.unsqueeze(-1) for part in intervals))
        expected = _loss(at_nodes, each) @ node_weights
        if bool(known.all()):
            return expected
        unknown = _loss(chosen.difference(rejected), intervals)
        return torch.where(known.unsqueeze(-1), expected, unknown)

    def _rating_loss(
        self, chosen: RewardDistribution, rejected: RewardDistribution, labels: Labels
    ) -> Tensor:
        """Negative log-densities of the ratings of both texts of each pair, ``(B, M)``."""
        noise = self.log_rating_noise.exp()  # (M, 1), against (B, M, C)
        total = torch.zeros_like(chosen.mean)
        for side, rating in ((chosen, labels.rating_chosen), (rejected, labels.rating_rejected)):
            rated = ~rating.isnan().unsqueeze(-1)
            value = torch.nan_to_num(rating).to(total).unsqueeze(-1)
            total = total - torch.where(rated, side.components().log_density(value, noise), 0.0)
        return total


def _member_dim(name: str) -> int:
    """Dimension of the members in a learned tensor."""
    return 1 if name.startswith("annotators.") else 0


def _log_probs(difference: RewardDifference, intervals: Intervals) -> tuple[Tensor, Tensor]:
    """Log-probabilities of intervals and of their mirror images."""
    forward = difference.log_prob_between(intervals.lower, intervals.upper)
    return forward, difference.log_prob_between(-intervals.upper, -intervals.lower)


def _loss(difference: RewardDifference, intervals: Intervals) -> Tensor:
    """Cross-entropy of each annotation under one difference, of its batch shape."""
    if bool((intervals.weight == 1).all()):  # the usual case, at half the cost
        return -difference.log_prob_between(intervals.lower, intervals.upper)
    return _cross_entropy(*_log_probs(difference, intervals), intervals.weight)


def _cross_entropy(forward: Tensor, backward: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy −w·forward − (1−w)·backward, of the shape of ``forward``."""
    weight = weight.to(forward)
    # a zero weight must remove a side even where its loss is infinite
    loss = torch.where(weight > 0, -weight * forward, 0.0)
    return loss + torch.where(weight < 1, -(1 - weight) * backward, 0.0)


def _log_mean_exp(values: Tensor) -> Tensor:
    """Average probabilities over the members, ``(A, M)`` to ``(A,)``."""
    return logsumexp(values) - math.log(values.shape[-1])


@cache
def _gauss_hermite() -> tuple[Tensor, Tensor]:
    """Nodes and weights that integrate against the standard normal density."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    return torch.from_numpy(nodes), torch.from_numpy(weights / weights.sum())
