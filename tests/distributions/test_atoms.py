"""Rewards on atoms: the grid of the categorical reward, and equally likely ones anywhere."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from hidden_context.distributions import CategoricalReward, QuantileReward
from hidden_context.errors import ConfigError

logit_pairs = hnp.arrays(np.float64, (2, 6), elements=st.floats(-100, 100))
PROBS = [0.1, 0.2, 0.3, 0.4]


def from_probs(probs):
    return CategoricalReward(torch.tensor(probs, dtype=torch.float64).log())


@given(logit_pairs)
def test_comparison_is_the_double_sum_and_a_difference_spreads_atoms_over_a_spacing(logits):
    a, b = CategoricalReward(torch.tensor(logits[0])), CategoricalReward(torch.tensor(logits[1]))
    assert CategoricalReward(a.log_probs + 7).mean.item() == pytest.approx(a.mean.item(), abs=1e-9)
    difference, p, q = a.difference(b), a.probs.numpy(), b.probs.numpy()
    table = np.outer(p, q)
    expected = np.tril(table, -1).sum() + 0.5 * np.trace(table)  # ties half
    for log_prob in (a.log_prob_greater(b), difference.log_prob_greater()):
        assert log_prob.exp().item() == pytest.approx(expected, abs=1e-12)
    # a tie up to half a spacing (0.1 of 0.2) is exactly a tie; a quarter of one is half of it
    for threshold, share in ((0.1, 1.0), (0.05, 0.5)):
        tie = difference.log_prob_between(-threshold, threshold).exp().item()
        assert tie == pytest.approx(share * np.trace(table), abs=1e-9)
    # ahead by more than two atoms and a half: three or more
    ahead = difference.log_prob_greater(0.5).exp().item()
    assert ahead == pytest.approx(np.tril(table, -3).sum(), abs=1e-9)


def test_difference_of_certain_rewards_keeps_loss_and_gradient():
    # e⁻¹⁰⁰⁰⁰ of the first lies above the second: no floor may hide it
    low = torch.tensor([0.0, -1e4, -1e4], requires_grad=True)
    high = torch.tensor([-2e4, 0.0, -2e4], requires_grad=True)
    loss = -CategoricalReward(low).difference(CategoricalReward(high)).log_prob_greater()
    loss.backward()
    # the last atom wins, the middle one ties by half
    assert loss.item() == pytest.approx(1e4 - math.log(1.5), rel=1e-6)
    np.testing.assert_allclose(low.grad, [1, -1 / 3, -2 / 3], rtol=1e-3)


def test_step_quantile_of_a_grid_is_the_generalised_inverse():
    reward = from_probs(PROBS)
    levels = [0.05, 0.1, 0.1001, 0.3, 0.31, 0.6, 0.61, 0.999]
    expected = np.array([0, 0, 1, 1, 2, 2, 3, 3]) / 3
    np.testing.assert_allclose([reward.quantile(q).item() for q in levels], expected)


def test_step_quantile_survives_rounding_of_cumulative_sums():
    reward = CategoricalReward(torch.zeros(10))
    result = [reward.quantile(k / 10).item() for k in range(1, 10)]
    np.testing.assert_allclose(result, np.arange(9) / 9, atol=1e-6)


def test_bins_quantile_is_the_papers_reading():
    reward = from_probs(PROBS)
    # 0.25 lies in the second bin, (0.25 - 0.1)/0.2 of the way
    assert reward.quantile(0.25, method="bins").item() == pytest.approx((1 + 0.75) / 4)
    assert reward.quantile(0.01, method="bins").item() == pytest.approx(0.1 / 4)
    assert reward.quantile(0.3, method="bins").item() == pytest.approx(2 / 4)
    levels = torch.tensor([[0.25], [0.01]], dtype=torch.float64)
    assert reward.expand((3,)).quantile(levels, method="bins").shape == (2, 3)
    # of uniform bins it is the level itself
    uniform = CategoricalReward(torch.zeros(7, dtype=torch.float64))
    np.testing.assert_allclose(uniform.quantile(levels, method="bins"), levels)


def test_cdf_is_right_continuous_and_consistent_with_the_step_quantile():
    reward = from_probs([0.25, 0.25, 0.5])
    values = [reward.cdf(torch.tensor(x)).item() for x in (-0.1, 0.0, 0.49, 0.5, 0.99, 1.0)]
    np.testing.assert_allclose(values, [0, 0.25, 0.25, 0.5, 0.5, 1])


def test_cvar_against_its_formula():
    reward, atoms = from_probs(PROBS), np.linspace(0, 1, 4)
    for alpha in (0.05, 0.1, 0.25, 0.8, 1.0):
        quantile = reward.quantile(min(alpha, 1 - 1e-9)).item()
        below = np.array(PROBS) * (atoms < quantile - 1e-9)
        expected = ((below * atoms).sum() + quantile * (alpha - below.sum())) / alpha
        assert reward.cvar(alpha).item() == pytest.approx(expected, abs=1e-9)
    assert reward.cvar(1.0).item() == pytest.approx(reward.mean.item())


def test_entropic_risk_against_its_definition():
    reward, atoms = from_probs(PROBS), np.linspace(0, 1, 4)
    for theta in (0.3, 1.0, 2.0, 50.0):
        expected = -math.log(np.dot(PROBS, np.exp(-theta * atoms))) / theta
        assert reward.entropic(theta).item() == pytest.approx(expected)


@pytest.mark.parametrize("theta", [1e-2, 1e-4, 1e-6, 1e-8])
def test_entropic_risk_tends_to_the_mean_in_float32(theta):
    reward = CategoricalReward(torch.tensor(PROBS).log())
    expected = reward.mean.item() - theta * reward.variance.item() / 2
    assert reward.entropic(theta).item() == pytest.approx(expected, rel=1e-5)


def test_log_prob_is_that_of_the_atoms():
    reward = from_probs([0.25, 0.25, 0.5])
    result = reward.log_prob(torch.tensor([0.5, 1.0, 0.3]))
    np.testing.assert_allclose(result, [math.log(0.25), math.log(0.5), -math.inf])


ATOMS = [-2.0, -0.5, 0.0, 0.5, 4.0]
numbers = st.lists(st.floats(-20, 20), min_size=4, max_size=4).map(sorted)


def atomic(atoms=ATOMS, smoothing=0.2, **options):
    return QuantileReward(torch.tensor(atoms, dtype=torch.float64, **options), smoothing)


def test_comparison_is_the_double_sum_over_atoms():
    a, b = np.array(ATOMS), np.array([-1.0, 0.0, 0.0, 1.0, 2.0])
    expected = stats.norm.cdf(np.subtract.outer(a, b) / 0.2).mean()
    assert atomic(a).log_prob_greater(atomic(b)).exp().item() == pytest.approx(expected, rel=1e-12)
    z = np.subtract.outer(a, b) / 0.2
    tie = (stats.norm.cdf(z + 1.5) - stats.norm.cdf(z - 1.5)).mean()
    between = atomic(a).difference(atomic(b)).log_prob_between(-0.3, 0.3)
    assert between.exp().item() == pytest.approx(tie, rel=1e-9)


@given(numbers, numbers)
def test_without_smoothing_it_is_the_share_of_ordered_pairs(a, b):
    a, b = np.round(a, 3), np.round(b, 3)  # atoms equal, or apart by far more than the smoothing
    result = atomic(a, 1e-6).log_prob_greater(atomic(b, 1e-6)).exp().item()
    share = np.heaviside(np.subtract.outer(a, b), 0.5).mean()  # ties half
    assert result == pytest.approx(share, abs=1e-12)


def test_moments_and_risks_are_those_of_the_atoms():
    ours = atomic()
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
    ours = atomic()
    for i, atom in enumerate(ATOMS):
        assert ours.quantile((i + 0.5) / 5, method="bins").item() == pytest.approx(atom)
    assert ours.quantile(0.2, method="bins").item() == pytest.approx(-1.25)
    assert ours.quantile(0.01, method="bins").item() == -2
    assert ours.quantile(0.99, method="bins").item() == 4
    one = atomic([3.0])
    assert one.quantile(0.3, method="bins").item() == one.quantile(0.3).item() == 3


def test_levels_broadcast_against_the_batch():
    ours = atomic(np.stack([ATOMS, np.array(ATOMS) + 1]))
    levels = torch.tensor([[0.1], [0.5], [0.9]], dtype=torch.float64)
    expected = np.array([[-2, -1], [0, 1], [4, 5]])
    np.testing.assert_allclose(ours.quantile(levels), expected)
    np.testing.assert_allclose(ours.quantile(levels, method="bins"), expected)


@pytest.mark.parametrize("q", [0.05, 0.3, 0.77])
def test_quantile_and_risk_gradients(q):
    atoms = atomic(requires_grad=True).atoms

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
        (lambda: CategoricalReward(torch.zeros(1)), "at least two atoms"),
        (lambda: from_probs(PROBS).quantile(0.5, method="middle"), "step or bins"),
        (lambda: from_probs(PROBS).difference(from_probs([0.2] * 5)), "is 4, the other's 5"),
        (lambda: QuantileReward(torch.zeros(2, 0), 0.2), "at least one atom"),
        (lambda: QuantileReward(torch.zeros(()), 0.2), "at least one atom"),
        (lambda: atomic(smoothing=0.0), "smoothing is 0.0"),
        (lambda: atomic(smoothing=math.inf), "smoothing is inf"),
        (lambda: atomic().quantile(0.5, method="middle"), "step or bins"),
        (lambda: atomic().log_prob_greater(atomic(smoothing=0.3)), "is 0.2, the other's 0.3"),
        (lambda: atomic().difference(atomic([0.0, 1.0])), "num_atoms is 5, the other's 2"),
    ],
)
def test_what_cannot_work_says_why(call, message):
    with pytest.raises(ConfigError, match=message):
        call()
