import numpy as np
import pytest
import torch
from scipy import stats

from hidden_context import heads


def test_raw_outputs_are_logits_means_and_stddevs_with_offsets():
    head = heads.make("mixture", num_components=2)
    reward = head.distribution(torch.tensor([[0.3, -0.3, 1.0, 2.0, 0.0, -100.0]]).double())
    np.testing.assert_allclose(reward.log_weights.exp(), [[0.645656, 0.354344]], rtol=1e-5)
    offset = stats.norm.ppf(0.75)
    np.testing.assert_allclose(reward.means, [[1 - offset, 2 + offset]])
    np.testing.assert_allclose(reward.stddevs, [[np.log(2), 1e-6]])


def test_offsets_spread_the_components_at_the_start():
    head = heads.make("mixture", num_components=4)
    reward = head.distribution(torch.zeros(1, 12))
    np.testing.assert_allclose(
        reward.means[0], stats.norm.ppf([0.125, 0.375, 0.625, 0.875]), rtol=1e-5
    )
    assert reward.mean.item() == pytest.approx(0, abs=1e-6)
    # equal components would have equal gradients for ever
    raw = torch.zeros(2, 12, dtype=torch.float64, requires_grad=True)
    head.log_prob_preferred(raw[0], raw[1]).backward()
    assert len(set(np.round(raw.grad[0, 4:8].tolist(), 6))) >= 2
