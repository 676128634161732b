import math

import numpy as np
import pytest
import torch
from scipy import stats

from hidden_context.distributions import MixtureReward
from hidden_context.errors import ConfigError


def mixture(seed, *shape):
    rng = np.random.default_rng(seed)
    logits, means, scales = torch.tensor(rng.normal(size=(3, *shape)) * 2)
    return MixtureReward(logits, means, scales.exp())


def test_comparison_is_the_double_sum_over_components():
    a, b = mixture(0, 6, 3), mixture(1, 6, 3)
    scale = np.hypot(a.stddevs.numpy()[:, :, None], b.stddevs.numpy()[:, None])
    z = (a.means.numpy()[:, :, None] - b.means.numpy()[:, None]) / scale
    weights = (a.log_weights[:, :, None] + b.log_weights[:, None]).exp().numpy()
    expected = (weights * stats.norm.cdf(z)).sum((1, 2))
    np.testing.assert_allclose(a.log_prob_greater(b).exp(), expected, rtol=1e-12)
    tie = weights * (stats.norm.cdf(z + 0.3 / scale) - stats.norm.cdf(z - 0.3 / scale))
    between = a.difference(b).log_prob_between(-0.3, 0.3).exp()
    np.testing.assert_allclose(between, tie.sum((1, 2)), rtol=1e-9)


def test_a_mode_of_opinion_is_seen_by_the_low_quantile():
    # a tenth hates what the others like: the mean is that of a bland answer, the quantile is not
    divided = MixtureReward(
        torch.tensor([0.1, 0.9]).log(), torch.tensor([-9.0, 1.0]), torch.full((2,), 0.1)
    )
    assert divided.mean.item() == pytest.approx(0)
    assert divided.quantile(0.05).item() == pytest.approx(-9, abs=1e-4)
    assert divided.quantile(0.5).item() == pytest.approx(1 + 0.1 * stats.norm.ppf(4 / 9), abs=1e-4)
    assert divided.cvar(0.1).item() == pytest.approx(-9, abs=1e-3)


def test_weights_are_normalised_and_counted():
    reward = MixtureReward(torch.tensor([5.0, 5.0]), torch.zeros(2), torch.ones(2))
    np.testing.assert_allclose(reward.log_weights, [math.log(0.5)] * 2)
    assert reward.num_components == 2


@pytest.mark.parametrize(
    "shapes", [((3, 2), (3, 2), (3, 1)), ((0,), (0,), (0,)), ((), (), ()), ((2,), (3,), (3,))]
)
def test_shapes_that_do_not_fit_are_refused(shapes):
    with pytest.raises(ConfigError, match="same M ≥ 1 components"):
        MixtureReward(*(torch.ones(shape) for shape in shapes))
