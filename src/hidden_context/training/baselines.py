"""Baselines on a probe's own features, held against the same votes as the probe."""

from __future__ import annotations

import numpy as np
import torch

from hidden_context.baselines import VotedPairs, baseline_metrics, fit_baselines, vote_metrics
from hidden_context.likelihood import Labels, Likelihood
from hidden_context.models.frozen import Probe
from hidden_context.training.features import FeatureSet

PROBE = "probe"


def compare_with_baselines(
    likelihood: Likelihood, probe: Probe, train: FeatureSet, test: FeatureSet
) -> dict[str, dict[str, float]]:
    """Fit the baselines on what a probe learned from, and measure both on test votes.

    Args:
        likelihood: The probe's; of annotators it takes somebody of the population.
        probe: The trained probe.
        train: What it learned from.
        test: What it is measured on.

    Returns:
        For each baseline and for ``probe`` the metrics of ``vote_metrics``; empty where one side
        has no comparisons.
    """
    pairs = [
        data.voted_pairs(probe.standardised(data.features), weight)
        for data, weight in ((train, train.labels.weight), (test, test.labels.votes))
    ]
    learned, tested = pairs
    if learned is None or tested is None:
        return {}
    metrics = baseline_metrics(fit_baselines(learned), tested)
    return {**metrics, PROBE: vote_metrics(*_population(likelihood, probe, tested), tested)}


def _population(
    likelihood: Likelihood, probe: Probe, pairs: VotedPairs
) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities that somebody of the population prefers either side, ``(C,)`` each."""
    rows = np.stack([pairs.first, pairs.second], axis=1).reshape(-1)
    labels = Labels.of_pairs(torch.ones(len(pairs)))
    with torch.no_grad():
        features = torch.from_numpy(pairs.features).float()
        raw = probe.raw_of_standardised(features)[torch.from_numpy(rows)]
        first = likelihood.log_prob_first(raw, labels)
        second = likelihood.log_prob_first(raw, labels.swapped())
    return first.double().numpy(), second.double().numpy()
