import numpy as np
import pytest
import torch

from hidden_context.errors import ConfigError
from hidden_context.statistics.variance import explained_variance


def test_explained_variance_by_hand():
    mean, variance = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([1.0, 2.0, 3.0])
    assert explained_variance(mean, variance) == pytest.approx((2 / 3) / (2 / 3 + 2))
    assert explained_variance(np.array([0.0, 1.0]), np.zeros(2)) == 1.0
    assert explained_variance(torch.ones(3), torch.ones(3)) == 0.0
    assert np.isnan(explained_variance(torch.ones(3), torch.zeros(3)))


def test_explained_variance_ignores_shift_and_scale():
    torch.manual_seed(0)
    mean, variance = torch.randn(50).double(), torch.rand(50).double()
    reference = explained_variance(mean, variance)
    assert explained_variance(3 * mean + 7, 9 * variance) == pytest.approx(reference)


@pytest.mark.parametrize(
    "call",
    [
        lambda: explained_variance(torch.zeros(2), torch.zeros(3)),
        lambda: explained_variance(torch.zeros(0), torch.zeros(0)),
    ],
)
def test_what_cannot_work_is_refused(call):
    with pytest.raises(ConfigError):
        call()
