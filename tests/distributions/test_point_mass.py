import math

import pytest
import torch

from hidden_context.distributions import PointMassReward


def test_every_risk_is_the_reward_itself():
    reward = PointMassReward(torch.tensor([0.25, -3.0]))
    for value in (reward.mean, reward.quantile(0.01), reward.cvar(0.05), reward.entropic(2.0)):
        assert value.tolist() == [0.25, -3.0]
    assert reward.variance.tolist() == [0.0, 0.0]
    assert reward.quantile(torch.tensor([[0.1], [0.2]])).shape == (2, 2)
    assert reward.sample((4,)).shape == (4, 2)
    assert reward.rsample((4,))[0].tolist() == [0.25, -3.0]


def test_cdf_is_right_continuous():
    reward = PointMassReward(torch.tensor(0.5))
    assert [reward.cdf(torch.tensor(x)).item() for x in (0.4999, 0.5, 0.6)] == [0.0, 1.0, 1.0]


def test_comparison_is_bradley_terry_luce():
    a, b = PointMassReward(torch.tensor([1.0, 1.0])), PointMassReward(torch.tensor([0.0, 1.0]))
    expected = [math.log(1 / (1 + math.exp(-1))), math.log(0.5)]
    assert a.log_prob_greater(b).tolist() == pytest.approx(expected, rel=1e-6)


def test_difference_has_standard_logistic_noise():
    a, b = PointMassReward(torch.tensor([1.5, 0.0])), PointMassReward(torch.tensor([0.5, 2.0]))
    difference = a.difference(b)
    expected = [1 / (1 + math.exp(-(d - 0.3))) for d in (1.0, -2.0)]
    assert difference.log_prob_greater(0.3).exp().tolist() == pytest.approx(expected, rel=1e-6)
    assert difference.mean.tolist() == pytest.approx([1, -2])
    assert difference.variance.tolist() == pytest.approx([math.pi**2 / 3] * 2)
