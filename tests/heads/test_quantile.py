import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from hidden_context import heads


@given(hnp.arrays(np.float32, 7, elements=st.floats(-1e4, 1e4, width=32)))
def test_atoms_never_cross(raw):
    head = heads.make("quantile", num_atoms=7)
    for dtype in (torch.float32, torch.float64):
        reward = head.distribution(torch.tensor(raw, dtype=dtype))
        assert bool((reward.atoms.diff() >= 0).all())
        # the cumulative maximum repairs rounding only
        size = reward.atoms.abs().max().item()
        assert reward.mean.item() == pytest.approx(
            raw[0], abs=4 * torch.finfo(dtype).eps * (size + 1)
        )


@pytest.mark.parametrize("count", [2, 5, 20])
def test_equal_gaps_are_a_normals_quantiles(count):
    head = heads.make("quantile", num_atoms=count)
    raw = torch.tensor([1.5] + [0.8] * (count - 1), dtype=torch.float64)
    sigma = np.logaddexp(0, 0.8)
    levels = (np.arange(count) + 0.5) / count
    reward = head.distribution(raw)
    np.testing.assert_allclose(reward.atoms, stats.norm.ppf(levels, 1.5, sigma), atol=1e-12)
    # each stands for its level
    np.testing.assert_allclose(
        reward.quantile(torch.tensor(levels), method="bins"), reward.atoms, atol=1e-12
    )


def test_unequal_gaps_bend_the_distribution():
    head = heads.make("quantile", num_atoms=4)
    reward = head.distribution(torch.tensor([0.0, 4.0, 0.0, -4.0], dtype=torch.float64))
    gaps = reward.atoms.diff().tolist()
    steps = np.diff(stats.norm.ppf([0.125, 0.375, 0.625, 0.875]))
    assert gaps == pytest.approx(list(np.logaddexp(0, [4.0, 0.0, -4.0]) * steps))
    # a long left tail
    assert (reward.mean - reward.quantile(0.5)).item() < 0
