"""The exact likelihood recovers the truth from exact probabilities; the paper's is biased."""

import numpy as np
import pytest
import torch
from tabular_fit import fit_tabular

from hidden_context import heads
from hidden_context.errors import ConfigError
from hidden_context.statistics.variance import explained_variance


def gaussian_alternatives(seed):
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(24, generator=generator).double()
    stddev = 0.2 + 1.2 * torch.rand(24, generator=generator).double()
    z = (mean[:, None] - mean) / torch.hypot(stddev[:, None], stddev.expand(24, 24))
    return mean, stddev, torch.special.ndtr(z)


def fitted_r2(likelihood, probabilities):
    head = heads.make("mean_and_variance", likelihood=likelihood)
    rewards = head.distribution(fit_tabular(head, probabilities))
    return explained_variance(rewards.mean, rewards.variance)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_probit_returns_the_true_r2_and_logistic_is_biased_low(seed):
    mean, stddev, probabilities = gaussian_alternatives(seed)
    truth = explained_variance(mean, stddev.square())
    assert fitted_r2("probit", probabilities) == pytest.approx(truth, abs=1e-3)
    assert fitted_r2("logistic", probabilities) < truth - 0.1


def test_base_head_recovers_bradley_terry_rewards():
    rewards = torch.tensor([0.0, 0.5, 2.0, -1.0], dtype=torch.float64)
    raw = fit_tabular(heads.make("base"), torch.sigmoid(rewards[:, None] - rewards)).squeeze(-1)
    np.testing.assert_allclose(raw - raw.mean(), rewards - rewards.mean(), atol=1e-5)


def test_base_head_ranks_by_borda_count_and_not_by_expected_utility():
    # Proposition 3.3 of the paper: expected utilities 6, 2.8, 2 but Borda counts .567, .6, .333
    p = torch.tensor([[0.5, 0.6, 0.6], [0.4, 0.5, 0.9], [0.4, 0.1, 0.5]], dtype=torch.float64)
    raw = fit_tabular(heads.make("base"), p, ridge=1e-4).squeeze(-1)
    assert raw.argsort(descending=True).tolist() == [1, 0, 2]
    np.testing.assert_allclose(p.mean(1), [0.5667, 0.6, 0.3333], atol=1e-4)


@pytest.mark.parametrize("matrix", [torch.zeros(2, 3), torch.zeros(1, 1), torch.full((2, 2), 1.5)])
def test_what_is_no_table_of_probabilities_is_refused(matrix):
    with pytest.raises(ConfigError):
        fit_tabular(heads.make("base"), matrix)
