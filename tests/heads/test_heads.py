import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hidden_context import heads
from hidden_context.errors import ConfigError

ALL = [
    heads.make("base"),
    heads.make("mean_and_variance"),
    heads.make("mean_and_variance", likelihood="logistic", variance_penalty=0.3),
    heads.make("categorical"),
    heads.make("categorical", num_atoms=4, entropy_coeff=0.0),
]


@pytest.mark.parametrize("head", ALL, ids=str)
def test_comparison_is_symmetric_and_equals_the_distributions(head):
    torch.manual_seed(0)
    a, b = torch.randn(2, 7, head.num_outputs, dtype=torch.float64) * 3
    forward = head.log_prob_preferred(a, b)
    assert forward.shape == (7,)
    np.testing.assert_allclose(forward.exp() + head.log_prob_preferred(b, a).exp(), 1, atol=1e-12)
    np.testing.assert_allclose(forward, head.distribution(a).log_prob_greater(head.distribution(b)))


@pytest.mark.parametrize("head", ALL, ids=str)
@pytest.mark.parametrize("scale", [100.0, -100.0])
def test_loss_and_gradient_are_finite_at_100(head, scale):
    signs = torch.tensor([1.0, -1.0]).repeat(8)[: head.num_outputs]
    a = (scale * signs).unsqueeze(0).requires_grad_()
    b = (-scale * signs).unsqueeze(0).requires_grad_()
    loss = -head.log_prob_preferred(a, b).sum() + head.penalty(a, b)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(a.grad).all()
    assert torch.isfinite(b.grad).all()


@pytest.mark.parametrize("head", ALL, ids=str)
def test_gradcheck(head):
    torch.manual_seed(2)
    a = torch.randn(3, head.num_outputs, dtype=torch.float64, requires_grad=True)
    b = torch.randn(3, head.num_outputs, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, y: head.log_prob_preferred(x, y), (a, b))
    assert torch.autograd.gradcheck(lambda x, y: head.penalty(x, y) + 0 * (x + y).sum(), (a, b))


@pytest.mark.parametrize("head", ALL, ids=str)
def test_json_form_round_trips(head):
    assert heads.from_dict(json.loads(json.dumps(head.to_dict()))) == head


def test_base_is_a_sigmoid_of_the_difference():
    head = heads.make("scalar")
    assert head.type == "base"
    result = head.log_prob_preferred(torch.tensor([[2.0]]), torch.tensor([[0.5]])).item()
    assert result == pytest.approx(-math.log1p(math.exp(-1.5)), rel=1e-6)
    assert head.penalty(torch.ones(2, 1), torch.ones(2, 1)).item() == 0


@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(-5, 5), st.floats(-5, 5))
def test_mean_and_variance_against_scipy(m1, r1, m2, r2):
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


def test_sigma_has_the_documented_floor():
    head = heads.make("mean_and_variance")
    stddev = head.distribution(torch.tensor([[0.0, -100.0], [0.0, -13.0]])).stddev
    np.testing.assert_allclose(stddev, [1e-6, math.log1p(math.exp(-13.0))], rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: heads.make("gaussian"), r"'gaussian' is not known; choose one of base, mean"),
        (
            lambda: heads.make("base", num_atoms=3),
            r"base head has no option num_atoms; it has none",
        ),
        (lambda: heads.make("categorical", atoms=3), "no option atoms; it has entropy_coeff, num_"),
        (lambda: heads.make("categorical", num_atoms=1), "num_atoms is 1"),
        (lambda: heads.make("categorical", entropy_coeff=-1.0), "entropy_coeff is -1"),
        (lambda: heads.make("mean_and_variance", likelihood="x"), "probit, logistic"),
        (lambda: heads.make("mean_and_variance", variance_penalty=-1.0), "variance_penalty"),
        (lambda: heads.make("base").distribution(torch.zeros(3, 2)), r"reads 1 outputs.*\(3, 2\)"),
        (lambda: heads.from_dict({"num_outputs": 2}), "'type'"),
        (lambda: heads.from_dict({"type": "base", "version": 99}), "version 99.*upgrade"),
        (lambda: heads.from_dict({"type": "base", "num_outputs": 2}), "says 2 outputs"),
    ],
)
def test_what_cannot_work_says_why(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


def test_number_of_outputs_names_a_head_as_the_papers_commands_do():
    assert heads.for_num_outputs(1, likelihood="logistic") == heads.make("base")
    expected = heads.make("mean_and_variance", likelihood="logistic")
    assert heads.for_num_outputs(2, likelihood="logistic") == expected
    assert heads.for_num_outputs(7) == heads.make("categorical", num_atoms=7)
    with pytest.raises(ConfigError, match="num_outputs is 0"):
        heads.for_num_outputs(0)


def test_types_lists_every_head():
    assert heads.types() == ("base", "mean_and_variance", "categorical")


def test_options_for_selects_a_heads_own():
    from hidden_context.heads.registry import options_for

    given = {"num_atoms": 5, "likelihood": "probit", "entropy_coeff": 0.0}
    assert options_for("base", given) == {}
    assert options_for("categorical", given) == {"num_atoms": 5, "entropy_coeff": 0.0}
    with pytest.raises(ConfigError, match="not known"):
        options_for("gaussian", given)
