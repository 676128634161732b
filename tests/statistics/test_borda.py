"""Borda counts and r²: by hand, in closed form, and as what fitted rewards recover."""

import numpy as np
import pytest
import torch
from ground_truth.tabular_fit import fit_tabular

from hidden_context import heads
from hidden_context.statistics.borda import borda_counts, pairwise_probabilities
from hidden_context.statistics.evaluation.judgement_metrics import explained_variance
from hidden_context.worlds.utilities import HARMFUL_PROMPT_KINDS, Annotators


def test_counts_by_hand_and_those_of_the_paper_which_take_in_the_response_itself():
    p = torch.tensor([[0.5, 0.9, 0.6], [0.1, 0.5, 0.3], [0.4, 0.7, 0.5]])
    np.testing.assert_allclose(borda_counts(p), [0.75, 0.2, 0.55], atol=1e-7)
    p.fill_diagonal_(0.0)  # plays no part
    np.testing.assert_allclose(borda_counts(p), [0.75, 0.2, 0.55], atol=1e-7)
    matrix = torch.from_numpy(Annotators(0.6).preference_matrix(HARMFUL_PROMPT_KINDS))
    np.testing.assert_allclose((3 * borda_counts(matrix) + 0.5) / 4, matrix.mean(1))


def test_probabilities_of_normal_rewards():
    head = heads.make("mean_and_variance")
    raw = torch.tensor([[0.3, 0.1], [-1.0, 0.7], [2.0, -1.2]], dtype=torch.float64)
    rewards = head.distribution(raw)
    gap = rewards.mean[:, None] - rewards.mean
    expected = torch.special.ndtr(gap / (rewards.variance[:, None] + rewards.variance).sqrt())
    torch.testing.assert_close(pairwise_probabilities(head, raw), expected)


@pytest.mark.parametrize("name", heads.types())
def test_every_head_is_antisymmetric(name):
    options = {"member": heads.make("mean_and_variance"), "num_members": 3}
    head = heads.make(name, **(options if name == "ensemble" else {}))
    torch.manual_seed(0)
    found = pairwise_probabilities(head, torch.randn(5, head.num_outputs).double())
    np.testing.assert_allclose(found + found.T, np.ones((5, 5)), atol=1e-6)
    np.testing.assert_array_equal(found.diagonal(), np.full(5, 0.5))


def fitted_r2(likelihood, probabilities):
    head = heads.make("mean_and_variance", likelihood=likelihood)
    rewards = head.distribution(fit_tabular(head, probabilities))
    return explained_variance(rewards.mean, rewards.variance)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_probit_returns_the_true_r2_and_logistic_is_biased_low(seed):
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(24, generator=generator).double()
    stddev = 0.2 + 1.2 * torch.rand(24, generator=generator).double()
    z = (mean[:, None] - mean) / torch.hypot(stddev[:, None], stddev.expand(24, 24))
    truth = explained_variance(mean, stddev.square())
    assert fitted_r2("probit", torch.special.ndtr(z)) == pytest.approx(truth, abs=1e-3)
    assert fitted_r2("logistic", torch.special.ndtr(z)) < truth - 0.1


def test_base_head_recovers_bradley_terry_rewards():
    rewards = torch.tensor([0.0, 0.5, 2.0, -1.0], dtype=torch.float64)
    raw = fit_tabular(heads.make("base"), torch.sigmoid(rewards[:, None] - rewards)).squeeze(-1)
    np.testing.assert_allclose(raw - raw.mean(), rewards - rewards.mean(), atol=1e-5)


def test_a_scalar_reward_model_ranks_by_borda_count_and_not_by_expected_utility():
    # Proposition 3.3 of the paper: expected utilities 6, 2.8, 2 but Borda counts .567, .6, .333
    p = torch.tensor([[0.5, 0.6, 0.6], [0.4, 0.5, 0.9], [0.4, 0.1, 0.5]], dtype=torch.float64)
    raw = fit_tabular(heads.make("base"), p, ridge=1e-4).squeeze(-1)
    assert raw.argsort(descending=True).tolist() == [1, 0, 2]
    # by expected utility a compliant answer would come first, by Borda count the safe alternative
    matrix = torch.from_numpy(Annotators(0.57).preference_matrix(HARMFUL_PROMPT_KINDS))
    raw = fit_tabular(heads.make("base"), matrix)
    assert raw[:, 0].argsort().tolist() == borda_counts(matrix).argsort().tolist()


def test_explained_variance_by_hand():
    mean, variance = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([1.0, 2.0, 3.0])
    expected = pytest.approx((2 / 3) / (2 / 3 + 2))
    assert explained_variance(mean, variance) == expected
    assert explained_variance(3 * mean + 7, 9 * variance) == expected  # whatever shift and scale
    assert explained_variance(np.array([0.0, 1.0]), np.zeros(2)) == 1.0
    assert explained_variance(torch.ones(3), torch.ones(3)) == 0.0
    assert np.isnan(explained_variance(torch.ones(3), torch.zeros(3)))
