"""The interface of every likelihood, its options, and its predictions in nats."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hidden_context.distributions import RewardDistribution
from hidden_context.distributions.log_space import logsumexp
from hidden_context.errors import ConfigError
from hidden_context.heads import Head
from hidden_context.likelihood.annotators import AnnotatorNames, Inference
from hidden_context.likelihood.covariates import CovariateCoding
from hidden_context.likelihood.labels import Labels
from hidden_context.likelihood.ratings import RatingKind


@dataclasses.dataclass(frozen=True)
class LikelihoodOptions:
    """Options of a likelihood: answers, annotators and ratings.

    Attributes:
        levels: Answers to a comparison: 2, 3, 5 or 7 (see ``Outcomes``).
        margin_scale: Reward units per unit of a comparison's margin; 0 leaves margins out.
        inference: How what differs between annotators is learned, or None for not at all.
        taste: Whether each annotator has a context; needs a head with factors.
        habits: Habits of annotators that are learned (see ``AnnotatorHabits``).
        covariates: How what is known of annotators becomes numbers; None where nothing is.
        names: The annotators' names; empty where they play no part.
        column: The column of the data that names them.
        rating_weight: How much a rating counts beside a comparison; 0 leaves ratings out.
        ratings: How ratings are read (see ``Ratings``).
        rating_location: What is taken off a rating before it is read as a reward.
        rating_scale: What is left is divided by this, > 0.
        grades: The different ratings in ascending order, for ordinal ones.
        styles: Whether each annotator has a level and unit of ratings.
        seed: Seed of the annotators' start.

    Raises:
        ConfigError: If the weight of ratings is negative, or their scale not positive.
    """

    levels: int = 2
    margin_scale: float = 0.0
    inference: Inference | None = None
    taste: bool = True
    habits: tuple[str, ...] = ()
    covariates: CovariateCoding | None = None
    names: tuple[str, ...] = ()
    column: str = "annotator"
    rating_weight: float = 0.0
    ratings: RatingKind = "gaussian"
    rating_location: float = 0.0
    rating_scale: float = 1.0
    grades: tuple[float, ...] = ()
    styles: bool = False
    seed: int = dataclasses.field(default=0, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.rating_weight < math.inf:
            raise ConfigError(f"rating_weight is {self.rating_weight}; it must be ≥ 0.")
        if not 0 < self.rating_scale < math.inf:
            raise ConfigError(f"rating_scale is {self.rating_scale}; it must be > 0.")
        if not math.isfinite(self.rating_location):
            raise ConfigError(f"rating_location is {self.rating_location}; it must be finite.")


class Predictions(NamedTuple):
    """Log-probabilities of annotators' judgements, in nats.

    Attributes:
        forward: Of each comparison as it was answered, of shape ``(C,)``.
        backward: Of its mirror image, of shape ``(C,)``.
        share: Share of votes for ``forward``, of shape ``(C,)``; the others said the mirror image.
        ratings: Of each rating, of shape ``(D,)``.
    """

    forward: Tensor
    backward: Tensor
    share: Tensor
    ratings: Tensor

    def negative_log_likelihood(self) -> Tensor:
        """Return the cross-entropy of each judgement, of shape ``(C + D,)``."""
        compared = cross_entropy(self.forward, self.backward, self.share)
        return torch.cat([compared, -self.ratings.to(compared)])


class Likelihood(nn.Module, abc.ABC):
    """A likelihood: a head, the possible answers, and what is known about the annotators.

    It owns everything that is learned beside the network: thresholds between answers, annotators'
    contexts, and the noise and styles of ratings. Raw outputs have shape ``(R, K)``, one row for
    each response, however many judgements name it.

    Attributes:
        head: How raw outputs are read.
        options: The answers and annotators it was made for.
        names: The annotators.
    """

    def __init__(self, head: Head, options: LikelihoodOptions | None = None) -> None:
        super().__init__()
        self.head, self.options = head, options or LikelihoodOptions()
        self.names = AnnotatorNames(self.options.names, self.options.column)

    @abc.abstractmethod
    def forward(self, raw: Tensor, labels: Labels) -> Tensor:
        r"""Return the training loss of each judgement, without weights and penalties.

        For a learned annotator, this is the part :math:`E_{q(z_u)}[-\log P]` of the variational
        bound; the other part is ``prior``. Each member of an ensemble is trained by itself.

        Args:
            raw: Raw outputs of shape ``(R, K)``.
            labels: Labels of the same responses, with J judgements.

        Returns:
            Losses in nats, of shape ``(J,)``: comparisons first, then ratings.
        """

    @abc.abstractmethod
    def predict(self, raw: Tensor, labels: Labels) -> Predictions:
        """Return the log-probability of each judgement, averaged over everything unknown.

        Args:
            raw: Raw outputs of shape ``(R, K)``.
            labels: Labels of the same responses.

        Returns:
            The predictions for C comparisons and D ratings.
        """

    @abc.abstractmethod
    def log_prob_first(self, raw: Tensor, labels: Labels) -> Tensor:
        """Return the log-probability that each comparison's annotator prefers its first response.

        Args:
            raw: Raw outputs of shape ``(R, K)``.
            labels: Of which responses and annotators matter.

        Returns:
            In nats, of shape ``(C,)``; ties count half.
        """

    @abc.abstractmethod
    def rating_means(self, raw: Tensor, labels: Labels) -> Tensor:
        """Return the rating that each rating's annotator is expected to give, if gaussian.

        Args:
            raw: Raw outputs of shape ``(R, K)``.
            labels: Of which responses and annotators of ratings matter.

        Returns:
            In the data's units, of shape ``(D,)``.
        """

    @abc.abstractmethod
    def posterior(self, annotator: Tensor) -> tuple[Tensor, Tensor]:
        """Return location and scale of annotators' contexts, each of shape ``(A, …, F)``.

        Args:
            annotator: Indices of shape ``(A,)``; −1 gives the prior.

        Raises:
            ConfigError: If no contexts were learned.
        """

    @abc.abstractmethod
    def habit_posterior(self, annotator: Tensor) -> tuple[Tensor, Tensor]:
        """Return location and scale of annotators' habits, each of shape ``(A, …, H)``.

        Args:
            annotator: Indices of shape ``(A,)``; −1 gives the prior.

        Raises:
            ConfigError: If no habits were learned.
        """

    @abc.abstractmethod
    def answer_nodes(self, raw: Tensor, labels: Labels) -> tuple[Tensor, Tensor]:
        """Return log-probabilities of the three answers at nodes over the unknown annotator.

        Args:
            raw: Raw outputs of shape ``(R, K)``.
            labels: Of which the responses compared and their annotators matter.

        Returns:
            Of first better, equal and second better, in nats, of shape ``(C, N, 3)``, at N nodes of
            a quadrature over the annotator's taste and habits (for an ensemble, over its members
            too); and the nodes' weights, of shape ``(N,)``, which sum to 1. With two levels
            "equal" has probability zero.
        """

    @abc.abstractmethod
    def prior(self) -> Tensor:
        """Return the cost of what is learned about annotators, in nats over all data, a scalar."""

    def read(self, labels: Labels) -> Labels:
        """Return the weighted judgements to learn from, without ratings if ratings are not read."""
        weight = self.options.rating_weight
        if not weight:
            return labels.without_ratings()
        ratings = dataclasses.replace(labels.ratings, weight=weight * labels.ratings.weight)
        return dataclasses.replace(labels, ratings=ratings)

    def negative_log_likelihood(self, raw: Tensor, labels: Labels) -> Tensor:
        """Return the loss of each judgement under the model's prediction.

        Args:
            raw: Raw outputs of shape ``(R, K)``.
            labels: Labels of the same responses.

        Returns:
            Losses in nats, of shape ``(J,)``, without weights and penalties.
        """
        return self.predict(raw, labels).negative_log_likelihood()

    def outcome_log_probs(self, raw: Tensor, labels: Labels) -> Tensor:
        """Return log-probabilities that each comparison's annotator says first, equal or second.

        Args:
            raw: Raw outputs of shape ``(R, K)``.
            labels: Of which the responses compared and their annotators matter.

        Returns:
            In nats, of shape ``(C, 3)``; −∞ for "equal" where the likelihood has two levels.
        """
        said, top = labels.comparisons, (self.options.levels - 1) // 2

        def predicted(**values: float) -> tuple[Tensor, Tensor]:
            usual = {"preference": 1.0, "strength": torch.nan, "margin": 0.0, **values}
            filled = {name: torch.full_like(said.margin, value) for name, value in usual.items()}
            found = self.predict(raw, labels.with_comparisons(**filled).without_ratings())
            return found.forward, found.backward

        if not top:
            first, second = predicted()
            return torch.stack([first, torch.full_like(first, -torch.inf), second], dim=-1)
        equal, _ = predicted(preference=0.5, strength=0.0)
        each = [predicted(strength=float(strength)) for strength in range(1, top + 1)]
        first, second = (logsumexp(torch.stack(part), 0) for part in zip(*each, strict=True))
        return torch.stack([first, equal, second], dim=-1)

    def penalty(self, raw: Tensor, labels: Labels) -> Tensor:
        """Return the head's penalty, a mean over comparisons in nats, a scalar.

        Each response counts as often as comparisons name it.
        """
        if not len(labels.comparisons):
            return raw.new_zeros(())
        return self.head.penalty(raw[labels.comparisons.first], raw[labels.comparisons.second])

    @property
    def knows_annotators(self) -> bool:
        """Whether the likelihood has learned contexts or habits of annotators."""
        return self.options.inference is not None

    @property
    def knows_tastes(self) -> bool:
        """Whether the likelihood has learned contexts of annotators: what each cares about."""
        return self.knows_annotators and self.options.taste

    def population_log_prob_first(self, raw: Tensor, labels: Labels) -> Tensor:
        """Return the log of the share of known annotators who prefer the first response.

        Unlike the prior's prediction, it holds where opinions have several modes.

        Args:
            raw: Raw outputs of shape ``(R, K)``.
            labels: Labels, of which only the responses compared matter.

        Returns:
            In nats, of shape ``(C,)``.

        Raises:
            ConfigError: If it knows no annotators.
        """
        self.check_annotators()
        each = [
            self.log_prob_first(raw, labels.judged_by(number)) for number in range(len(self.names))
        ]
        return torch.logsumexp(torch.stack(each), dim=0) - math.log(len(each))

    def check_annotators(self) -> None:
        """Check that the likelihood has learned contexts of annotators.

        Raises:
            ConfigError: If it has not.
        """
        if not self.knows_tastes or not len(self.names):
            raise ConfigError(
                "this model has not learned annotators; train a factor head with --annotators on "
                "data that name them."
            )

    def rewards_by_annotator(
        self, rewards: RewardDistribution, annotators: Sequence[object] | None = None
    ) -> RewardDistribution:
        """Return rewards as each of several annotators would give them.

        Quantiles over the first dimension describe the known annotators, whatever the shape of
        their opinions. The prior's normal distribution holds only for one mode of opinion.

        Args:
            rewards: What the head's ``distribution`` gave, of any batch shape.
            annotators: A names; None for all annotators known. One never seen gets the prior.

        Returns:
            Rewards of batch shape ``(A,) + rewards.batch_shape``.

        Raises:
            ConfigError: If the model has learned no annotators, or the rewards are not the model's.
        """
        self.check_annotators()
        index = torch.tensor([self.names.index(name) for name in annotators or self.names.names])
        with torch.no_grad():
            location, scale = (part.to(rewards.mean) for part in self.posterior(index))
        # (A, F) to (A, 1, …, F) against batch_shape + (F,); for ensembles (A, M, F) likewise
        shape = (len(index), *(1,) * len(rewards.batch_shape), *location.shape[1:])
        return rewards.given(location.reshape(shape), scale.reshape(shape))

    def rewards_of(
        self, rewards: RewardDistribution, annotator: str | int | None
    ) -> RewardDistribution:
        """Return rewards as one annotator would give them (see ``rewards_by_annotator``)."""
        return self.rewards_by_annotator(rewards, [annotator])[0]


def cross_entropy(forward: Tensor, backward: Tensor, share: Tensor) -> Tensor:
    """Return the cross-entropy −w·forward − (1−w)·backward, of the shape of ``forward``."""
    share = share.to(forward)
    # a zero weight must remove a side even where its loss is infinite
    loss = torch.where(share > 0, -share * forward, 0.0)
    return loss + torch.where(share < 1, -(1 - share) * backward, 0.0)
