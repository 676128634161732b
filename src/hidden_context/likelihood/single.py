"""The likelihood of one head."""

from __future__ import annotations

import torch
from torch import Tensor

from hidden_context.distributions import Components, RewardDifference, RewardDistribution
from hidden_context.errors import ConfigError
from hidden_context.heads import Head
from hidden_context.likelihood.annotators import AnnotatorEmbeddings
from hidden_context.likelihood.base import Likelihood, LikelihoodOptions, Predictions, cross_entropy
from hidden_context.likelihood.covariates import CovariateEffects
from hidden_context.likelihood.habits import AnnotatorHabits, Nodes, nodes_of
from hidden_context.likelihood.labels import Labels
from hidden_context.likelihood.outcomes import Intervals, Outcomes
from hidden_context.likelihood.ratings import Ratings


class HeadLikelihood(Likelihood):
    r"""Likelihood of one head: comparisons are intervals, ratings are noisy readings of a reward.

    .. math:: -\log P(l < u_a - u_b \le r \mid z_u, h_u) \qquad\text{and}\qquad
        -\log p(y \mid u, z_u)

    A known annotator has their own context and habits. An unknown annotator is drawn from the
    population.

    Args:
        head: The head.
        options: Answers and annotators; None for preferences of unknown annotators.
        design: Coded covariates of the annotators, of shape ``(U, P)``; None for zeros.

    Raises:
        ConfigError: If head and options do not fit together.
    """

    def __init__(
        self, head: Head, options: LikelihoodOptions | None = None, design: Tensor | None = None
    ) -> None:
        super().__init__(head, options)
        options = self.options
        self.outcomes = Outcomes(options.levels, options.margin_scale)
        self.annotators: AnnotatorEmbeddings | None = None
        self.habits: AnnotatorHabits | None = None
        self.covariates: CovariateEffects | None = None
        count = len(self.names)
        if options.inference is not None and options.taste:
            if not head.num_factors:
                raise ConfigError(
                    f"annotators need a factor head with at least one factor, not a {head.type} "
                    "head."
                )
            self.annotators = AnnotatorEmbeddings(
                count, head.num_factors, options.inference, options.seed
            )
        if options.habits:
            self._check_habits()
            self.habits = AnnotatorHabits(count, options.habits, options.inference or "variational")
        if options.covariates is not None and (self.annotators or self.habits):
            columns = len(options.covariates.columns)
            rows = torch.zeros((count, columns)) if design is None else design
            if rows.shape != (count, columns):
                raise ConfigError(
                    f"covariates of shape ({count}, {columns}) are needed, not {tuple(rows.shape)}."
                )
            self.covariates = CovariateEffects(rows, self._tastes + len(options.habits))
        self.ratings: Ratings | None = None
        if options.rating_weight:
            styles = len(self.names) if options.styles else None
            unit = (options.rating_location, options.rating_scale)
            self.ratings = Ratings(options.ratings, options.grades, styles, unit)

    def forward(self, raw: Tensor, labels: Labels) -> Tensor:
        """Return the loss of each judgement for training (see the base class)."""
        known = labels.comparisons.annotator >= 0
        if not self.knows_annotators or not bool(known.any()):
            compared = self._comparison_loss(raw, labels)
        else:
            at_nodes, nodes = self._at_nodes(raw, labels)
            intervals = _stretched(self.outcomes.intervals(labels.comparisons), nodes)
            compared = _loss(at_nodes, intervals) @ nodes.weight  # averaged over q(z, h)
            if not bool(known.all()):
                others = self._comparison_loss(raw, labels.judged_by(None))
                compared = torch.where(known, compared, others)
        return torch.cat([compared, self._rating_loss(raw, labels).to(compared)])

    def predict(self, raw: Tensor, labels: Labels) -> Predictions:
        """Return the log-probability of each judgement (see the base class)."""
        rating = self._rating_log_probs(raw, labels)
        intervals = self.outcomes.intervals(labels.comparisons)
        if self.habits is not None:
            at_nodes, nodes = self._at_nodes(raw, labels, fold=True)
            forward, backward = (
                nodes.average(part) for part in _log_probs(at_nodes, _stretched(intervals, nodes))
            )
            return Predictions(forward, backward, intervals.weight, rating)
        first, second = self._sides(raw, labels)
        if self.outcomes.are_sides_alone and self.annotators is None:
            forward, backward = first.log_prob_greater(second), second.log_prob_greater(first)
            return Predictions(forward, backward, labels.comparisons.preference, rating)
        forward, backward = _log_probs(self._difference(first, second, labels), intervals)
        return Predictions(forward, backward, intervals.weight, rating)

    def log_prob_first(self, raw: Tensor, labels: Labels) -> Tensor:
        """Return the log-probability that the first response is preferred (see the base class)."""
        if self.habits is not None and "sharpness" in self.habits.habits:
            at_nodes, nodes = self._at_nodes(raw, labels, position=False, fold=True)
            return nodes.average(at_nodes.log_prob_greater())
        first, second = self._sides(raw, labels)
        if self.annotators is None:
            return first.log_prob_greater(second)
        return self._difference(first, second, labels).log_prob_greater()

    def answer_nodes(self, raw: Tensor, labels: Labels) -> tuple[Tensor, Tensor]:
        """Return log-probabilities of first, equal and second at nodes (see the base class)."""
        at_nodes, nodes = self._at_nodes(raw, labels)
        inner = self.outcomes.thresholds[:1].to(at_nodes.mean)  # none with two levels
        edge = inner.sum() * nodes.log_readiness.exp()
        first = at_nodes.log_prob_greater(edge)
        second = at_nodes.log_prob_between(-torch.inf, -edge)
        equal = torch.full_like(first, -torch.inf)
        if len(inner):
            equal = at_nodes.log_prob_between(-edge, edge)
        return torch.stack([first, equal, second], dim=-1), nodes.weight

    def rating_means(self, raw: Tensor, labels: Labels) -> Tensor:
        """Return the rating that each annotator is expected to give (see the base class)."""
        if self.ratings is None:
            raise ConfigError("this model was trained without ratings.")
        return self.ratings.mean(self._rated(raw, labels).mean, labels.ratings)

    def posterior(self, annotator: Tensor) -> tuple[Tensor, Tensor]:
        """Return location and scale of contexts, each ``(A, F)`` (see the base class)."""
        if self.annotators is None:
            raise ConfigError("this model has learned no contexts of annotators.")
        location, scale = self.annotators.posterior(annotator)
        if self.covariates is not None:
            location = location + self.covariates.means(annotator)[:, : self._tastes]
        return location, scale

    def habit_posterior(self, annotator: Tensor) -> tuple[Tensor, Tensor]:
        """Return location and scale of habits, each ``(A, H)`` (see the base class)."""
        if self.habits is None:
            raise ConfigError("this model has learned no habits of annotators.")
        location, scale = self.habits.posterior(annotator)
        if self.covariates is not None:
            location = location + self.covariates.means(annotator)[:, self._tastes :]
        return location, scale

    def prior(self) -> Tensor:
        """Return the cost of what is learned about annotators (see the base class)."""
        total = torch.zeros(())
        for part in (self.annotators, self.habits, self.covariates, self.ratings):
            if part is not None:
                total = part.prior() + total.to(part.prior())
        return total

    @property
    def _tastes(self) -> int:
        """Number F of factors that annotators have tastes in."""
        return 0 if self.annotators is None else self.annotators.num_factors

    def _check_habits(self) -> None:
        """Refuse habits that the answers or the head cannot show."""
        options = self.options
        if options.inference is None:
            raise ConfigError(
                "habits of annotators need the inference variational or map, but it is None."
            )
        if "readiness" in options.habits and options.levels == 2:
            raise ConfigError("the habit readiness needs ties; use 3, 5 or 7 levels (--outcomes).")
        nothing = self.head.distribution(torch.zeros((1, self.head.num_outputs)))
        if "sharpness" in options.habits and nothing.difference(nothing).kernel == "uniform":
            raise ConfigError(
                f"the habit sharpness divides a head's noise, but a {self.head.type} head has no "
                "noise."
            )

    def _sides(self, raw: Tensor, labels: Labels) -> tuple[RewardDistribution, RewardDistribution]:
        """Return rewards of the two responses of each comparison, of batch shape ``(C,)``."""
        first, second = labels.comparisons.first, labels.comparisons.second
        return self.head.distribution(raw[first]), self.head.distribution(raw[second])

    def _difference(
        self, first: RewardDistribution, second: RewardDistribution, labels: Labels
    ) -> RewardDifference:
        """Return differences of batch shape ``(C,)``, given what is known about each annotator."""
        if self.annotators is not None:
            location, scale = self.posterior(labels.comparisons.annotator)
            first, second = first.given(location, scale), second.given(location, scale)
        return first.difference(second)

    def _at_nodes(
        self, raw: Tensor, labels: Labels, *, position: bool = True, fold: bool = False
    ) -> tuple[RewardDifference, Nodes]:
        """Return differences given taste and habits, ``(C, N)``, and the nodes over them.

        Only one dimension of a taste z matters, the direction of L_a − L_b. ``fold`` adds tastes
        and positions to the noise where the noise is normal too.
        """
        annotator = labels.comparisons.annotator
        first, second = self._sides(raw, labels)
        if self.annotators is None:
            difference = first.difference(second)
            spread = torch.zeros_like(difference.mean)
        else:
            location, scale = self.posterior(annotator)
            difference = first.given(location).difference(second.given(location))
            spread = first.context_spread(second, scale)
        habits = None if self.habits is None else self.habit_posterior(annotator)
        fold = fold and difference.kernel == "normal"
        nodes = nodes_of(spread, self.habits, habits, position=position, fold=fold)
        at_nodes = RewardDifference(
            difference.log_weights.unsqueeze(-2),
            difference.location.unsqueeze(-2) + nodes.shift.unsqueeze(-1),
            torch.hypot(
                difference.scale.unsqueeze(-2) * torch.exp(-nodes.log_sharpness).unsqueeze(-1),
                nodes.spread.unsqueeze(-1),
            ),
            difference.kernel,
        )
        return at_nodes, nodes

    def _comparison_loss(self, raw: Tensor, labels: Labels) -> Tensor:
        """Return the loss of each comparison by an unknown annotator, ``(C,)``."""
        if self.habits is not None:
            said = self.predict(raw, labels.without_ratings())
            return cross_entropy(said.forward, said.backward, said.share)
        first, second = self._sides(raw, labels)
        share = labels.comparisons.preference
        if not self.outcomes.are_sides_alone:
            return _loss(first.difference(second), self.outcomes.intervals(labels.comparisons))
        forward = first.log_prob_greater(second)
        if bool((share == 1).all()):  # the usual case, at half the cost
            return -forward
        return cross_entropy(forward, second.log_prob_greater(first), share)

    def _rating_loss(self, raw: Tensor, labels: Labels) -> Tensor:
        """Return each rating's training loss, ``(D,)``: expected over q(z) as for comparisons."""
        said = labels.ratings
        known = said.annotator >= 0
        log_probs = self._rating_log_probs(raw, labels)
        if self.annotators is None or self.ratings is None or not bool(known.any()):
            return -log_probs
        rewards = self.head.distribution(raw[said.response])
        location, scale = self.posterior(said.annotator)
        parts, spread = rewards.given(location).components(), rewards.context_spread(None, scale)
        nodes = nodes_of(spread, None, None)
        shift = nodes.shift.T.unsqueeze(-1)  # (N, D, 1)
        at_nodes = Components(parts.log_weights, parts.location + shift, parts.scale)
        expected = nodes.weight @ self.ratings.log_prob(at_nodes, said)
        return -torch.where(known, expected, log_probs)

    def _rating_log_probs(self, raw: Tensor, labels: Labels) -> Tensor:
        """Return the log-probability of each rating, ``(D,)``; zero where ratings play no part."""
        said = labels.ratings
        if self.ratings is None or not len(said):
            return raw.new_zeros(len(said))
        return self.ratings.log_prob(self._rated(raw, labels).components(), said)

    def _rated(self, raw: Tensor, labels: Labels) -> RewardDistribution:
        """Return rewards of the rated responses for their annotators, ``(D,)``."""
        rewards = self.head.distribution(raw[labels.ratings.response])
        if self.annotators is None:
            return rewards
        return rewards.given(*self.posterior(labels.ratings.annotator))


def members_of(likelihood: Likelihood) -> list[HeadLikelihood]:
    """List the likelihoods of an ensemble's members, or the single likelihood."""
    return [part for part in likelihood.modules() if isinstance(part, HeadLikelihood)]


def _log_probs(difference: RewardDifference, intervals: Intervals) -> tuple[Tensor, Tensor]:
    """Return log-probabilities of intervals and of their mirror images."""
    forward = difference.log_prob_between(intervals.lower, intervals.upper)
    return forward, difference.log_prob_between(-intervals.upper, -intervals.lower)


def _loss(difference: RewardDifference, intervals: Intervals) -> Tensor:
    """Return the cross-entropy of each comparison under one difference, of its batch shape."""
    lower, upper, weight = intervals
    # all or none of the votes, or a tie, whose mirror image is itself: one probability, not two
    if bool(((weight == 0) | (weight == 1) | (lower == -upper)).all()):
        mirrored = weight == 0
        low, high = torch.where(mirrored, -upper, lower), torch.where(mirrored, -lower, upper)
        return -difference.log_prob_between(low, high)
    return cross_entropy(*_log_probs(difference, intervals), weight)


def _stretched(intervals: Intervals, nodes: Nodes) -> Intervals:
    """Return intervals ``(C, N)`` between each annotator's own thresholds."""
    lower, upper, weight = (part.unsqueeze(-1) for part in intervals)
    width = nodes.log_readiness.exp()
    # an infinite end stays what it is, and out of the gradient
    finite = torch.isfinite(upper)
    stretched = torch.where(finite, torch.where(finite, upper, 0.0) * width, upper)
    return Intervals(lower * width, stretched, weight)
