"""Simple models of votes on pairs, as baselines for every other model."""

from hidden_context.baselines.fit import (
    Baseline,
    baseline_metrics,
    contested_auroc,
    fit_baselines,
    fit_linear,
    vote_metrics,
)
from hidden_context.baselines.linear import LogisticRegression, RidgeRegression
from hidden_context.baselines.pairs import VotedPairs

__all__ = [
    "Baseline",
    "LogisticRegression",
    "RidgeRegression",
    "VotedPairs",
    "baseline_metrics",
    "contested_auroc",
    "fit_baselines",
    "fit_linear",
    "vote_metrics",
]
