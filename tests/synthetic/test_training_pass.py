from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from hidden_context import worlds
from hidden_context.distributions import CategoricalReward
from hidden_context.models.network.precision import MIN_WIDTH, Timings
from hidden_context.synthetic import arithmetic as rule
from hidden_context.synthetic import training_pass
from hidden_context.synthetic.agreement import spearman
from hidden_context.synthetic.arithmetic import Arithmetic, Precision, arithmetic, resolve_precision
from hidden_context.synthetic.comparison import log_prob_greater
from hidden_context.synthetic.config import SyntheticConfig
from hidden_context.synthetic.networks import LEARNERS, make_learner, perceptron
from hidden_context.synthetic.train import train
from hidden_context.worlds.grids import OneDimensional

TINY = SyntheticConfig(batch_size=64, lr=1e-3, num_iterations=5, width=32, precision="bfloat16")
BFLOAT16 = Arithmetic(torch.bfloat16, torch.bfloat16)
MIXED = Arithmetic(torch.float32, torch.bfloat16)


@pytest.mark.parametrize(
    ("name", "precision", "width", "fast", "expected"),
    [
        ("base", "auto", 512, True, "bfloat16"),
        ("base", "auto", 512, False, "folded"),
        ("base", "auto", MIN_WIDTH - 1, True, "float32"),
        ("base", "float32", 512, True, "float32"),
        ("base", "bfloat16", 8, False, "bfloat16"),
        ("mean_and_stddev", "auto", 512, True, "mixed"),
        ("mean_and_stddev", "auto", 512, False, "folded"),
        ("mean_and_stddev", "bfloat16", 512, True, "bfloat16"),
    ],
)
def test_the_precision_follows_what_is_measured_and_what_is_asked_for(
    name: str,
    precision: str,
    width: int,
    fast: bool,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timings = Timings("cpu", 1, {"float32": 1.0, "bfloat16": 0.2 if fast else 5.0}, backward=True)

    def measured(device: torch.device, width: int | None) -> tuple[str, Timings]:
        return ("bfloat16" if fast else "float32"), timings

    monkeypatch.setattr(rule, "for_training", measured)
    assert resolve_precision(precision, width, name) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("inputs", [1, 2])
@pytest.mark.parametrize("rows", [20, 100])  # as products, and from 32 on by segments
def test_in_the_weights_precision_it_is_the_network_itself(
    inputs: int, rows: int, batch_norm: bool
) -> None:
    torch.manual_seed(0)
    network = perceptron(inputs, 3, 16, batch_norm).double()
    twin = copy.deepcopy(network)
    network.arithmetic = Arithmetic(torch.float64, torch.float64)
    batch, direction = torch.rand(2, rows, max(inputs, 3), dtype=torch.float64)
    batch = batch[:, :inputs]
    ours, theirs = network(batch), twin(batch)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    ours.backward(direction)
    theirs.backward(direction)
    for one, other in zip(gradients(network), gradients(twin), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)
    for one, other in zip(network.buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("inputs", [1, 3])
def test_a_bfloat16_first_layer_is_the_float32_one_rounded_once(inputs: int) -> None:
    torch.manual_seed(0)
    network = perceptron(inputs, 1, 64)
    with torch.no_grad():  # what follows passes a unit through as it is
        for layer in list(network)[2::2]:
            assert isinstance(layer, torch.nn.Linear)
            layer.weight.copy_(torch.eye(layer.out_features, 64))
            layer.bias.zero_()
    batch = torch.rand(100, inputs)
    expected = network(batch)
    network.arithmetic = BFLOAT16
    outputs = network(batch)
    assert (outputs - expected).abs().max() <= 2**-8 * expected.abs().max() * 1.01
    rounded = expected.to(torch.bfloat16).float()
    assert (outputs != rounded).float().mean() < 0.02  # a tie may fall either way


def test_a_mixed_forward_pass_is_that_of_float32() -> None:
    torch.manual_seed(0)
    network = perceptron(2, 2, 64)
    twin = copy.deepcopy(network)
    network.arithmetic = MIXED
    batch = torch.rand(50, 2)
    assert torch.equal(network(batch), twin(batch))


def gradients(model: torch.nn.Module) -> list[torch.Tensor]:
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("precision", ["folded", "mixed", "bfloat16"])
@pytest.mark.parametrize("env", ["1d", "2d"])
def test_gradients_point_where_the_exact_ones_point(
    name: str, precision: Precision, env: str
) -> None:
    torch.manual_seed(0)
    environment = worlds.make(env)
    learner = make_learner(name, environment, 64, "logistic")
    twin = copy.deepcopy(learner)
    learner.network.arithmetic = arithmetic(precision)
    pairs = environment.sample_pairs(512, torch.Generator().manual_seed(0))
    losses = [-model.log_prob_preferred(*pairs).mean() for model in (learner, twin)]
    # bfloat16 rounds to 2⁻⁹ of a value; independent roundings of many terms mostly cancel.
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=2**-9)
    for loss in losses:
        loss.backward()
    rounded, exact = (
        torch.cat([gradient.flatten() for gradient in gradients(model)])
        for model in (learner, twin)
    )
    assert rounded.dtype == torch.float32
    # Batch norm divides by small standard deviations and subtracts: what is left is rounded more.
    tolerance = 0.1 if name == "categorical" else 0.03
    if precision == "folded":
        tolerance /= 100
    assert ((rounded - exact).norm() / exact.norm()).item() < tolerance
    assert torch.cosine_similarity(rounded, exact, dim=0).item() > 1 - max(tolerance**2, 1e-6)


@pytest.mark.parametrize("inputs", [1, 2])
def test_batch_norm_keeps_the_running_statistics_of_float32(inputs: int) -> None:
    torch.manual_seed(0)
    network = perceptron(inputs, 2, 32, batch_norm=True)
    twin = copy.deepcopy(network)
    network.arithmetic = BFLOAT16
    batch = torch.rand(256, inputs)
    network(batch)
    twin(batch)
    for one, other in zip(network.buffers(), twin.buffers(), strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other, rtol=2**-7, atol=2**-9)
    # Nothing is rounded before the first, and with one input nothing before the second.
    exact = (1, 4) if inputs == 1 else (1,)
    for number in exact:
        torch.testing.assert_close(network[number].running_var, twin[number].running_var)


def test_evaluation_and_state_dict_do_not_depend_on_the_precision_of_training() -> None:
    trained = train("base", OneDimensional(), TINY).learner
    plain = make_learner("base", OneDimensional(), TINY.width, TINY.likelihood).eval()
    plain.load_state_dict(trained.state_dict())
    grid = OneDimensional().grid(50)
    assert trained.network(grid).dtype == torch.float32
    assert torch.equal(trained.network(grid), plain.network(grid))


def test_bfloat16_learns_the_order_of_float32_within_the_spread_over_seeds() -> None:
    environment = OneDimensional()
    grid = environment.grid(200)
    borda = environment.borda_count(grid).numpy()
    away = np.abs(grid[:, 0].numpy() - environment.jump) > 0.05
    agreements = np.empty((2, 3))
    for row, precision in enumerate(("float32", "bfloat16")):
        for seed in range(3):
            config = SyntheticConfig(
                batch_size=256,
                lr=1e-2,
                num_iterations=200,
                width=64,
                seed=seed,
                precision=precision,  # type: ignore[arg-type]
            )
            network = train("base", environment, config).learner.network
            with torch.no_grad():
                learned = network(grid)[away, 0].numpy()
            agreements[row, seed] = spearman(learned, borda[away])
    full, rounded = agreements
    assert full.min() > 0.85  # a seed differs from the next by up to 0.07 here
    assert np.abs(rounded - full).max() < min(np.ptp(full), 0.04)


def test_without_fused_layers_it_is_the_same_to_the_rounding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    losses = []
    for fused in (True, False):
        if not fused:
            monkeypatch.setattr(training_pass, "_has_fused_layers", lambda: False)
        losses.append(train("classifier", OneDimensional(), TINY).losses)
    torch.testing.assert_close(*losses, rtol=2**-8, atol=0)


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_products_give_what_sums_of_logarithms_give(scale: float) -> None:
    torch.manual_seed(0)
    logits = (scale * torch.randn(2, 50, 20, dtype=torch.float64)).requires_grad_()
    ours = log_prob_greater(*logits)
    assert ours is not None
    theirs = CategoricalReward(logits[0]).log_prob_greater(CategoricalReward(logits[1]))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    (gradient,) = torch.autograd.grad(ours.sum(), logits)
    (expected,) = torch.autograd.grad(theirs.sum(), logits)
    torch.testing.assert_close(gradient, expected, rtol=1e-7, atol=1e-10)


def test_two_atoms_in_closed_form() -> None:
    # P = p(1 - q) + (pq + (1 - p)(1 - q)) / 2 with p, q the probabilities of the upper atom
    p, q = 0.9, 0.25
    logits, other = torch.tensor([[1 - p, p]]).log(), torch.tensor([[1 - q, q]]).log()
    result = log_prob_greater(logits, other)
    assert result is not None
    assert result.dtype == torch.float32
    expected = p * (1 - q) + (p * q + (1 - p) * (1 - q)) / 2
    assert result.exp().item() == pytest.approx(expected, rel=1e-6)


def test_it_declines_where_products_would_vanish() -> None:
    low = torch.tensor([[0.0, -900.0]])
    assert log_prob_greater(low, low.flip(-1)) is None
    assert log_prob_greater(low.flip(-1), low) is not None
