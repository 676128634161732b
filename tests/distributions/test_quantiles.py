import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hidden_context.distributions import QuantileReward
from hidden_context.errors import ConfigError

ATOMS = [-2.0, -0.5, 0.0, 0.5, 4.0]
numbers = st.lists(st.floats(-20, 20), min_size=4, max_size=4).map(sorted)


def reward(atoms=ATOMS, smoothing=0.2, **options):
    return QuantileReward(torch.tensor(atoms, dtype=torch.float64, **options), smoothing)


def share(a, b):
    """Exact share of ordered pairs of atoms, ties half."""
    return float(np.heaviside(np.subtract.outer(a, b), 0.5).mean())


def test_comparison_is_the_double_sum_over_atoms():
    a, b = np.array(ATOMS), np.array([-1.0, 0.0, 0.0, 1.0, 2.0])
    expected = stats.norm.cdf(np.subtract.outer(a, b) / 0.2).mean()
    assert reward(a).log_prob_greater(reward(b)).exp().item() == pytest.approx(expected, rel=1e-12)
    z = np.subtract.outer(a, b) / 0.2
    tie = (stats.norm.cdf(z + 1.5) - stats.norm.cdf(z - 1.5)).mean()
    between = reward(a).difference(reward(b)).log_prob_between(-0.3, 0.3)
    assert between.exp().item() == pytest.approx(tie, rel=1e-9)


@given(numbers, numbers)
def test_without_smoothing_it_is_the_share_of_ordered_pairs(a, b):
    a, b = np.round(a, 3), np.round(b, 3)  # atoms equal, or apart by far more than the smoothing
    result = reward(a, 1e-6).log_prob_greater(reward(b, 1e-6)).exp().item()
    assert result == pytest.approx(share(a, b), abs=1e-12)


def test_moments_and_risks_are_those_of_the_atoms():
    ours = reward()
    assert ours.mean.item() == pytest.approx(np.mean(ATOMS))
    assert ours.variance.item() == pytest.approx(np.var(ATOMS))
    assert ours.cvar(0.3).item() == pytest.approx((-2 * 0.2 - 0.5 * 0.1) / 0.3)
    assert ours.cvar(1.0).item() == pytest.approx(np.mean(ATOMS))
    assert ours.entropic(0.8).item() == pytest.approx(
        -math.log(np.mean(np.exp(-0.8 * np.array(ATOMS)))) / 0.8
    )
    values = torch.tensor([-2.1, -2.0, 0.2, 4.0], dtype=torch.float64)
    assert [ours.cdf(value).item() for value in values] == pytest.approx([0, 0.2, 0.6, 1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [1, 3, 7, 10, 49])
def test_step_quantile_is_the_generalised_inverse(count, dtype):
    atoms = torch.arange(count, dtype=dtype)
    ours = QuantileReward(atoms, 0.2)
    for i in range(count):
        if i + 1 < count:
            assert ours.quantile((i + 1) / count).item() == i
        assert ours.quantile((i + 0.5) / count).item() == i
        assert ours.quantile((i + 1e-3) / count).item() == i
    assert ours.quantile(0.9999).item() == count - 1


def test_linear_quantile_passes_through_the_atoms_at_their_levels():
    ours = reward()
    for i, atom in enumerate(ATOMS):
        assert ours.quantile((i + 0.5) / 5, method="bins").item() == pytest.approx(atom)
    assert ours.quantile(0.2, method="bins").item() == pytest.approx(-1.25)
    assert ours.quantile(0.01, method="bins").item() == -2
    assert ours.quantile(0.99, method="bins").item() == 4
    one = reward([3.0])
    assert one.quantile(0.3, method="bins").item() == one.quantile(0.3).item() == 3


def test_levels_broadcast_against_the_batch():
    ours = reward(np.stack([ATOMS, np.array(ATOMS) + 1]))
    levels = torch.tensor([[0.1], [0.5], [0.9]], dtype=torch.float64)
    expected = np.array([[-2, -1], [0, 1], [4, 5]])
    np.testing.assert_allclose(ours.quantile(levels), expected)
    np.testing.assert_allclose(ours.quantile(levels, method="bins"), expected)


@pytest.mark.parametrize("q", [0.05, 0.3, 0.77])
def test_quantile_and_risk_gradients(q):
    atoms = reward(requires_grad=True).atoms

    def risks(values):
        ours = QuantileReward(values, 0.2)
        return torch.stack(
            [ours.quantile(q), ours.quantile(q, "bins"), ours.cvar(q), ours.entropic(q)]
        )

    assert torch.autograd.gradcheck(risks, (atoms,))


def test_a_loss_far_out_pulls_every_atom_alike_in_float32():
    # 25 equal pairs 10⁵ smoothings apart: log Φ ≈ −5·10⁹, and its gradient 10⁵/h over N per atom
    a = torch.zeros(5, requires_grad=True)
    loss = -QuantileReward(a, 0.2).log_prob_greater(QuantileReward(torch.full((5,), 2e4), 0.2))
    loss.backward()
    assert loss.item() == pytest.approx(5e9, rel=1e-6)
    np.testing.assert_allclose(a.grad, [-5e5 / 5] * 5, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: QuantileReward(torch.zeros(2, 0), 0.2), "at least one atom"),
        (lambda: QuantileReward(torch.zeros(()), 0.2), "at least one atom"),
        (lambda: reward(smoothing=0.0), "smoothing is 0.0"),
        (lambda: reward(smoothing=math.inf), "smoothing is inf"),
        (lambda: reward().quantile(0.5, method="middle"), "step or bins"),
        (
            lambda: reward().log_prob_greater(reward(smoothing=0.3)),
            "smoothing is 0.2, the other's 0.3",
        ),
        (lambda: reward().difference(reward([0.0, 1.0])), "num_atoms is 5, the other's 2"),
    ],
)
def test_what_cannot_work_says_why(call, message):
    with pytest.raises(ConfigError, match=message):
        call()
