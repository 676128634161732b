"""Likelihoods: log-probabilities of annotators' judgements, given raw outputs, in nats."""

from hidden_context.likelihood.adaptation import adapt
from hidden_context.likelihood.annotators import AnnotatorEmbeddings, AnnotatorNames
from hidden_context.likelihood.base import Likelihood, LikelihoodOptions, Predictions
from hidden_context.likelihood.covariates import CovariateCoding
from hidden_context.likelihood.ensemble import EnsembleLikelihood, make_likelihood
from hidden_context.likelihood.groups import check_groups, group_values, worst_group
from hidden_context.likelihood.habits import HABITS, AnnotatorHabits
from hidden_context.likelihood.labels import Comparisons, Labels, RatingLabels
from hidden_context.likelihood.outcomes import Outcomes
from hidden_context.likelihood.ratings import Ratings
from hidden_context.likelihood.single import HeadLikelihood

__all__ = [
    "HABITS",
    "AnnotatorEmbeddings",
    "AnnotatorHabits",
    "AnnotatorNames",
    "Comparisons",
    "CovariateCoding",
    "EnsembleLikelihood",
    "HeadLikelihood",
    "Labels",
    "Likelihood",
    "LikelihoodOptions",
    "Outcomes",
    "Predictions",
    "RatingLabels",
    "Ratings",
    "adapt",
    "check_groups",
    "group_values",
    "make_likelihood",
    "worst_group",
]
