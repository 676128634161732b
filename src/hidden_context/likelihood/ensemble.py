"""The likelihood of an ensemble: its members' likelihoods, each trained by itself."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from hidden_context.distributions.log_space import logsumexp
from hidden_context.heads import Head
from hidden_context.likelihood.base import Likelihood, LikelihoodOptions, Predictions
from hidden_context.likelihood.labels import Labels
from hidden_context.likelihood.single import HeadLikelihood, members_of


class EnsembleLikelihood(Likelihood):
    """M likelihoods side by side; their predictions are averaged as probabilities.

    Args:
        head: The ensemble's head, which reads ``(…, M K)`` raw outputs.
        options: Answers and annotators; every member learns them anew.
        design: Coded covariates of the annotators (see ``HeadLikelihood``).
    """

    def __init__(
        self, head: Head, options: LikelihoodOptions | None = None, design: Tensor | None = None
    ) -> None:
        super().__init__(head, options)
        self.members = nn.ModuleList(
            HeadLikelihood(
                head.member,
                dataclasses.replace(self.options, seed=self.options.seed + number),
                design,
            )
            for number in range(head.num_members)
        )

    def forward(self, raw: Tensor, labels: Labels) -> Tensor:
        """Return the mean of the members' losses, weighted by their draws (see the base class)."""
        losses = self._each(raw, lambda member, own: member(own, labels))
        if labels.draws is not None:
            losses = losses * labels.draws.to(losses).T[:, labels.example]
        return losses.mean(0)

    def predict(self, raw: Tensor, labels: Labels) -> Predictions:
        """Average the members' probabilities (see the base class)."""
        found = [member.predict(own, labels) for member, own in self._pairs(raw)]
        forward, backward, _, ratings = (torch.stack(part) for part in zip(*found, strict=True))
        return Predictions(
            _log_mean_exp(forward), _log_mean_exp(backward), found[0].share, _log_mean_exp(ratings)
        )

    def log_prob_first(self, raw: Tensor, labels: Labels) -> Tensor:
        """Average the members' probabilities (see the base class)."""
        return _log_mean_exp(self._each(raw, lambda m, own: m.log_prob_first(own, labels)))

    def rating_means(self, raw: Tensor, labels: Labels) -> Tensor:
        """Return the mean of the members' expectations (see the base class)."""
        return self._each(raw, lambda member, own: member.rating_means(own, labels)).mean(0)

    def posterior(self, annotator: Tensor) -> tuple[Tensor, Tensor]:
        """Return each member's location and scale, each ``(A, M, F)`` (see the base class)."""
        location, scale = zip(*(m.posterior(annotator) for m in members_of(self)), strict=True)
        return torch.stack(location, 1), torch.stack(scale, 1)

    def habit_posterior(self, annotator: Tensor) -> tuple[Tensor, Tensor]:
        """Return each member's location and scale, each ``(A, M, H)`` (see the base class)."""
        location, scale = zip(
            *(m.habit_posterior(annotator) for m in members_of(self)), strict=True
        )
        return torch.stack(location, 1), torch.stack(scale, 1)

    def answer_nodes(self, raw: Tensor, labels: Labels) -> tuple[Tensor, Tensor]:
        """Return all members' nodes, M times as many (see the base class)."""
        each = (member.answer_nodes(own, labels) for member, own in self._pairs(raw))
        answers, weights = zip(*each, strict=True)
        return torch.cat(answers, dim=-2), torch.cat(weights) / len(self.members)

    def prior(self) -> Tensor:
        """Return the mean of the members' priors (see the base class)."""
        return torch.stack([member.prior() for member in members_of(self)]).mean()

    def _pairs(self, raw: Tensor) -> Iterator[tuple[HeadLikelihood, Tensor]]:
        """Return each member with its raw outputs."""
        own = raw.unflatten(-1, (len(self.members), -1)).unbind(-2)
        return zip(members_of(self), own, strict=True)

    def _each(self, raw: Tensor, function: Callable[[HeadLikelihood, Tensor], Tensor]) -> Tensor:
        """Apply a function to each member and its raw outputs: ``(M, …)``."""
        return torch.stack([function(member, own) for member, own in self._pairs(raw)])


def _log_mean_exp(values: Tensor) -> Tensor:
    """Average probabilities over the members, ``(M, N)`` to ``(N,)``."""
    return logsumexp(values, 0) - math.log(len(values))


def make_likelihood(
    head: Head, options: LikelihoodOptions | None = None, design: Tensor | None = None
) -> Likelihood:
    """Make the likelihood of a head or an ensemble.

    Args:
        head: The head.
        options: Answers and annotators; None for preferences of unknown annotators.
        design: Coded covariates of the annotators, of shape ``(U, P)``; None for zeros.

    Returns:
        The untrained likelihood, on the CPU.

    Raises:
        ConfigError: If head and options do not fit together.
    """
    return (EnsembleLikelihood if head.num_members else HeadLikelihood)(head, options, design)
