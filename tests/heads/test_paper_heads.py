"""What is particular to the paper's three heads."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hidden_context import heads


def test_base_is_a_sigmoid_of_the_difference():
    head = heads.make("scalar")
    assert head.type == "base"
    result = head.log_prob_preferred(torch.tensor([[2.0]]), torch.tensor([[0.5]])).item()
    assert result == pytest.approx(-math.log1p(math.exp(-1.5)), rel=1e-6)
    assert head.penalty(torch.ones(2, 1), torch.ones(2, 1)).item() == 0


@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(-5, 5), st.floats(-5, 5))
def test_comparison_against_scipy(m1, r1, m2, r2):
    a, b = torch.tensor([m1, r1], dtype=torch.float64), torch.tensor([m2, r2], dtype=torch.float64)
    z = (m1 - m2) / math.hypot(np.logaddexp(0, r1), np.logaddexp(0, r2))
    exact = heads.make("mean_and_variance").log_prob_preferred(a, b).item()
    assert exact == pytest.approx(stats.norm.logcdf(z), rel=1e-9, abs=1e-12)
    paper = heads.make("mean_and_variance", likelihood="logistic").log_prob_preferred(a, b).item()
    expected = -np.logaddexp(0, -math.sqrt(2 * math.pi) * z)
    assert paper == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_sigma_has_the_documented_floor():
    head = heads.make("mean_and_variance")
    stddev = head.distribution(torch.tensor([[0.0, -100.0], [0.0, -13.0]])).stddev
    np.testing.assert_allclose(stddev, [1e-6, math.log1p(math.exp(-13.0))], rtol=1e-5)


def test_entropy_penalty_is_that_of_the_mean_distribution():
    head = heads.make("categorical", num_atoms=3, entropy_coeff=0.2)
    torch.manual_seed(0)
    a, b = torch.randn(2, 4, 3, dtype=torch.float64)
    mean = torch.cat([a.softmax(-1), b.softmax(-1)]).mean(0)
    assert head.penalty(a, b).item() == pytest.approx(0.2 * (mean * mean.log()).sum().item())
    spread = head.penalty(torch.eye(3)[:2] * 100, torch.eye(3)[2:].expand(2, 3) * 100)
    alike = head.penalty(torch.eye(3)[:1] * 100, torch.eye(3)[:1] * 100)
    assert spread < alike  # spreading the texts over the atoms is rewarded
    assert alike.item() == pytest.approx(0, abs=1e-6)
    assert head.penalty(a[0], b[0]).item() == pytest.approx(head.penalty(a[:1], b[:1]).item())


def test_tie_threshold_is_in_units_of_the_grid():
    # five atoms are ¼ apart: all of the neighbours' ties are left out below ⅛, half taken in at ¼
    head = heads.make("categorical", num_atoms=5)
    certain = torch.full((5, 5), -1000.0).fill_diagonal_(0.0)
    first, second = head.distribution(certain[3]), head.distribution(certain[2])
    difference = first.difference(second)
    ties = [difference.log_prob_between(-t, t).exp().item() for t in (0.125, 0.25, 0.375)]
    assert ties == pytest.approx([0, 0.5, 1])
