import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hidden_context.distributions import CategoricalReward
from hidden_context.errors import ConfigError

logit_pairs = hnp.arrays(np.float64, (2, 6), elements=st.floats(-100, 100))
PROBS = [0.1, 0.2, 0.3, 0.4]


def from_probs(probs):
    return CategoricalReward(torch.tensor(probs, dtype=torch.float64).log())


def double_sum(p, q):
    """The defining double sum of P(a ≻ b), ties half."""
    table = np.outer(p, q)
    return np.tril(table, -1).sum() + 0.5 * np.trace(table)


@given(logit_pairs)
def test_comparison_equals_the_double_sum_and_is_symmetric(logits):
    a, b = CategoricalReward(torch.tensor(logits[0])), CategoricalReward(torch.tensor(logits[1]))
    forward, backward = a.log_prob_greater(b).exp().item(), b.log_prob_greater(a).exp().item()
    assert forward == pytest.approx(double_sum(a.probs.numpy(), b.probs.numpy()), abs=1e-12)
    assert forward + backward == pytest.approx(1, abs=1e-12)


@given(hnp.arrays(np.float64, 6, elements=st.floats(-100, 100)), st.floats(-100, 100))
def test_logits_may_be_shifted(logits, shift):
    first = CategoricalReward(torch.tensor(logits))
    second = CategoricalReward(torch.tensor(logits + shift))
    assert second.mean.item() == pytest.approx(first.mean.item(), abs=1e-9)


@given(logit_pairs)
def test_difference_spreads_each_atom_over_one_spacing(logits):
    a, b = CategoricalReward(torch.tensor(logits[0])), CategoricalReward(torch.tensor(logits[1]))
    difference, p, q = a.difference(b), a.probs.numpy(), b.probs.numpy()
    table = np.outer(p, q)
    assert difference.log_prob_greater().exp().item() == pytest.approx(double_sum(p, q), abs=1e-12)
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


def test_step_quantile_is_the_generalised_inverse():
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


def test_quantile_of_uniform_bins_is_the_level_itself():
    reward = CategoricalReward(torch.zeros(7, dtype=torch.float64))
    for level in (0.01, 0.3, 0.77):
        assert reward.quantile(level, method="bins").item() == pytest.approx(level)


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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: CategoricalReward(torch.zeros(1)), "at least two atoms"),
        (lambda r: r.quantile(0.5, method="middle"), "step or bins"),
        (
            lambda r: r.log_prob_greater(CategoricalReward(torch.zeros(5))),
            "num_atoms is 4, the other's 5",
        ),
        (
            lambda r: r.difference(CategoricalReward(torch.zeros(5))),
            "num_atoms is 4, the other's 5",
        ),
    ],
)
def test_what_cannot_work_says_why(call, message):
    with pytest.raises(ConfigError, match=message):
        call(from_probs(PROBS))
