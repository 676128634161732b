"""Training objectives: per-pair negative log-likelihoods in nats, for every kind of label."""

from hidden_context.objectives.annotators import AnnotatorEmbeddings
from hidden_context.objectives.groups import (
    check_groups,
    group_values,
    rewards_by_annotator,
    worst_group,
)
from hidden_context.objectives.labels import Labels
from hidden_context.objectives.objective import Objective
from hidden_context.objectives.outcomes import Outcomes
from hidden_context.objectives.pairs import (
    Reduction,
    negative_log_likelihood,
    ranked_right,
    reduce,
)
from hidden_context.objectives.rankings import ranking_negative_log_likelihood

__all__ = [
    "AnnotatorEmbeddings",
    "Labels",
    "Objective",
    "Outcomes",
    "Reduction",
    "check_groups",
    "group_values",
    "negative_log_likelihood",
    "ranked_right",
    "ranking_negative_log_likelihood",
    "reduce",
    "rewards_by_annotator",
    "worst_group",
]
