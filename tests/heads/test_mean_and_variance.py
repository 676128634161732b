import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hidden_context import heads


@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(-5, 5), st.floats(-5, 5))
def test_comparison_against_scipy(m1, r1, m2, r2):
    a, b = torch.tensor([m1, r1], dtype=torch.float64), torch.tensor([m2, r2], dtype=torch.float64)
    z = (m1 - m2) / math.hypot(np.logaddexp(0, r1), np.logaddexp(0, r2))
    exact = heads.make("mean_and_variance").log_prob_preferred(a, b).item()
    assert exact == pytest.approx(stats.norm.logcdf(z), rel=1e-9, abs=1e-12)
    paper = heads.make("mean_and_variance", likelihood="logistic").log_prob_preferred(a, b).item()
    expected = -np.logaddexp(0, -math.sqrt(2 * math.pi) * z)
    assert paper == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_variance_penalty_is_the_mean_of_both_variances():
    head = heads.make("mean_and_variance", variance_penalty=0.5)
    a, b = torch.tensor([[0.0, 1.0], [9.0, 2.0]]), torch.tensor([[5.0, 0.0], [0.0, -1.0]])
    sigma = np.logaddexp(0, [[1.0, 0.0], [2.0, -1.0]])
    assert head.penalty(a, b).item() == pytest.approx(0.5 * (sigma**2).sum(1).mean(), rel=1e-6)


def test_sigma_has_the_documented_floor():
    head = heads.make("mean_and_variance")
    stddev = head.distribution(torch.tensor([[0.0, -100.0], [0.0, -13.0]])).stddev
    np.testing.assert_allclose(stddev, [1e-6, math.log1p(math.exp(-13.0))], rtol=1e-5)
