"""Borda counts: by hand, of a closed form, and as what a scalar reward model learns to order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tabular_fit import fit_tabular

from hidden_context import heads
from hidden_context.errors import ConfigError
from hidden_context.quickstart.utilities import HARMFUL_PROMPT_KINDS, Annotators
from hidden_context.statistics.borda import borda_counts, pairwise_probabilities


def test_counts_by_hand():
    p = torch.tensor([[0.5, 0.9, 0.6], [0.1, 0.5, 0.3], [0.4, 0.7, 0.5]])
    np.testing.assert_allclose(borda_counts(p), [0.75, 0.2, 0.55], atol=1e-7)
    p.fill_diagonal_(0.0)  # plays no part
    np.testing.assert_allclose(borda_counts(p), [0.75, 0.2, 0.55], atol=1e-7)


def test_counts_of_the_paper_take_in_the_response_itself():
    annotators = Annotators(0.6)
    matrix = torch.from_numpy(annotators.preference_matrix(HARMFUL_PROMPT_KINDS))
    found = borda_counts(matrix)
    np.testing.assert_allclose((3 * found + 0.5) / 4, matrix.mean(1))
    assert found.mean().item() == pytest.approx(0.5)


def test_probabilities_of_normal_rewards():
    head = heads.make("mean_and_variance")
    raw = torch.tensor([[0.3, 0.1], [-1.0, 0.7], [2.0, -1.2]], dtype=torch.float64)
    rewards = head.distribution(raw)
    gap = rewards.mean[:, None] - rewards.mean
    expected = torch.special.ndtr(gap / (rewards.variance[:, None] + rewards.variance).sqrt())
    found = pairwise_probabilities(head, raw)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found + found.T, torch.ones(3, 3, dtype=torch.float64))


@pytest.mark.parametrize("name", heads.types())
def test_every_head_is_antisymmetric(name):
    if name == "ensemble":
        head = heads.EnsembleHead(heads.make("mean_and_variance"), 3)
    else:
        head = heads.make(name)
    torch.manual_seed(0)
    found = pairwise_probabilities(head, torch.randn(5, head.num_outputs).double())
    np.testing.assert_allclose(found + found.T, np.ones((5, 5)), atol=1e-6)
    np.testing.assert_array_equal(found.diagonal(), np.full(5, 0.5))


def test_a_scalar_reward_model_learns_the_order_of_borda_counts():
    # by expected utility a compliant answer would come first, by Borda count the safe alternative
    matrix = torch.from_numpy(Annotators(0.57).preference_matrix(HARMFUL_PROMPT_KINDS))
    raw = fit_tabular(heads.make("base"), matrix)
    assert raw[:, 0].argsort().tolist() == borda_counts(matrix).argsort().tolist()


@pytest.mark.parametrize(
    "call",
    [
        lambda: pairwise_probabilities(heads.make("base"), torch.zeros(3)),
        lambda: borda_counts(torch.zeros(2, 3)),
        lambda: borda_counts(torch.zeros(1, 1)),
        lambda: borda_counts(torch.full((2, 2), 1.5)),
    ],
)
def test_what_cannot_work_is_refused(call):
    with pytest.raises(ConfigError):
        call()
