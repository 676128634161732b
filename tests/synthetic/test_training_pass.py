"""The training pass: precisions, folded layers, and gradients that point where exact ones point."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from hidden_context import worlds
from hidden_context.distributions import CategoricalReward
from hidden_context.models.network.precision import MIN_WIDTH
from hidden_context.synthetic import arithmetic as rule
from hidden_context.synthetic import training_pass
from hidden_context.synthetic.config import SyntheticConfig
from hidden_context.synthetic.curves import spearman
from hidden_context.synthetic.folding import find_segments, running_sums, two_layers
from hidden_context.synthetic.networks import LEARNERS, log_prob_greater, make_learner, perceptron
from hidden_context.synthetic.workflow import train
from hidden_context.worlds.grids import OneDimensional

EXACT = rule.Arithmetic(torch.float64, torch.float64)


def layers(units, outputs):
    torch.manual_seed(0)
    return nn.Linear(1, units).double(), nn.Linear(units, outputs).double()


def norms(units, outputs):
    torch.manual_seed(1)
    made = nn.BatchNorm1d(units).double(), nn.BatchNorm1d(outputs).double()
    for norm in made:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return made


def gradients(*modules):
    parameters = (parameter for module in modules for parameter in module.parameters())
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]


def same(found, expected, **tolerance):
    torch.testing.assert_close(list(found), list(expected), **tolerance)


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 100])
def test_running_sums_are_those_of_cumsum(count):
    rows = torch.randn(count, 3, dtype=torch.float64)
    torch.testing.assert_close(running_sums(rows), rows.cumsum(0))


def test_segments_lie_between_the_points_where_units_switch():
    slopes = torch.tensor([2.0, -1.0, 0.0, 0.0, 1.0, 1.0, 4.0])
    intercepts = torch.tensor([-1.0, 0.25, 1.0, -1.0, 5.0, -5.0, -3.0])
    inputs = torch.tensor([0.0, 0.1, 0.3, 0.4, 0.6, 1.0])
    segments = find_segments(inputs, slopes, intercepts)
    assert segments.switching.tolist() == [1, 0, 6]  # at 0.25, 0.5 and 0.75
    assert segments.signs.flatten().tolist() == [-1, 1, 1]
    assert segments.on_at_left.tolist() == [0, 1, 1, 0, 1, 0, 0]
    assert segments.always_on.tolist() == [0, 0, 1, 0, 1, 0, 0]
    assert segments.starts.tolist() == [0, 2, 4, 5]
    assert segments.index.tolist() == [0, 0, 1, 1, 2, 3]
    assert segments.counts.tolist() == [2, 2, 1, 1]
    assert segments.centres.tolist() == pytest.approx([0.05, 0.35, 0.6, 1.0])
    assert segments.squares.tolist() == pytest.approx([0.005, 0.005, 0, 0], abs=1e-7)


@pytest.mark.parametrize("with_norms", [False, True])
@pytest.mark.parametrize(("units", "rows"), [(48, 300), (300, 20), (3, 64)])
def test_two_layers_are_the_layers_one_after_the_other(units, rows, with_norms):
    (first, second), pair = layers(units, 7), norms(units, 7) if with_norms else None
    stages = zip((first, second), pair or [nn.Identity()] * 2, strict=True)
    network = nn.Sequential(*(part for stage in stages for part in (*stage, nn.ReLU())))
    twin = copy.deepcopy(network)
    inputs = torch.rand(rows, dtype=torch.float64).sort().values
    direction = torch.randn(rows, 7, dtype=torch.float64)
    kept, exact = two_layers(inputs, first, second, EXACT, pair)
    values = twin(inputs[:, None])
    torch.testing.assert_close(kept, values, rtol=1e-10, atol=1e-10)
    assert torch.equal(kept, exact)
    assert not exact.requires_grad
    kept.backward(direction)
    values.backward(direction)
    same(gradients(network), gradients(twin), rtol=1e-9, atol=1e-9)
    same(network.buffers(), twin.buffers())


def test_a_batch_of_one_value_has_one_segment():
    first, second = layers(5, 2)
    inputs = torch.full((4,), 0.3, dtype=torch.float64)
    kept, _ = two_layers(inputs, first, second, EXACT)
    torch.testing.assert_close(kept, second(first(inputs[:, None]).relu()).relu())
    kept.sum().backward()
    assert all(gradient.isfinite().all() for gradient in gradients(first, second))


def test_steep_lines_keep_their_digits_in_float32():
    first, second = layers(64, 4)
    with torch.no_grad():
        first.weight.mul_(1e4)
        first.bias.copy_(-0.8 * first.weight[:, 0] + torch.randn(64, dtype=torch.float64))
    single = copy.deepcopy(first).float(), copy.deepcopy(second).float()
    pair = norms(64, 4)[1]
    inputs = torch.rand(512, dtype=torch.float64).sort().values
    norms32 = nn.BatchNorm1d(64), copy.deepcopy(pair).float()
    exact, _ = two_layers(inputs, first, second, EXACT, (nn.BatchNorm1d(64).double(), pair))
    rounded, _ = two_layers(inputs.float(), *single, rule.ARITHMETIC["folded"], norms32)
    torch.testing.assert_close(rounded.double(), exact, rtol=1e-3, atol=1e-3)
    variance, expected = norms32[1].running_var, pair.running_var
    torch.testing.assert_close(variance.double(), expected, rtol=1e-4, atol=0)


TINY = SyntheticConfig(batch_size=64, lr=1e-3, num_iterations=5, width=32, precision="bfloat16")


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
    name, precision, width, fast, expected, monkeypatch
):
    measured = ("bfloat16" if fast else "float32"), None
    monkeypatch.setattr(rule, "for_training", lambda device, width: measured)
    assert rule.resolve_precision(precision, width, name) == expected


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("inputs", [1, 2])
@pytest.mark.parametrize("rows", [20, 100])  # as products, and from 32 on by segments
def test_in_the_weights_precision_it_is_the_network_itself(inputs, rows, batch_norm):
    torch.manual_seed(0)
    network = perceptron(inputs, 3, 16, batch_norm).double()
    twin = copy.deepcopy(network)
    network.arithmetic = EXACT
    batch, direction = torch.rand(2, rows, max(inputs, 3), dtype=torch.float64)
    batch = batch[:, :inputs]
    ours, theirs = network(batch), twin(batch)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    ours.backward(direction)
    theirs.backward(direction)
    same(gradients(network), gradients(twin), rtol=1e-8, atol=1e-10)
    same(network.buffers(), twin.buffers())


@pytest.mark.parametrize("inputs", [1, 3])
def test_a_bfloat16_first_layer_is_the_float32_one_rounded_once(inputs):
    torch.manual_seed(0)
    network = perceptron(inputs, 1, 64)
    with torch.no_grad():  # what follows passes a unit through as it is
        for layer in list(network)[2::2]:
            layer.weight.copy_(torch.eye(layer.out_features, 64))
            layer.bias.zero_()
    batch = torch.rand(100, inputs)
    expected = network(batch)
    network.arithmetic = rule.ARITHMETIC["bfloat16"]
    outputs = network(batch)
    assert (outputs - expected).abs().max() <= 2**-8 * expected.abs().max() * 1.01
    rounded = expected.to(torch.bfloat16).float()
    assert (outputs != rounded).float().mean() < 0.02  # a tie may fall either way


def test_a_mixed_forward_pass_is_that_of_float32():
    network, batch = perceptron(2, 2, 64), torch.rand(50, 2)
    expected = network(batch)
    network.arithmetic = rule.ARITHMETIC["mixed"]
    assert torch.equal(network(batch), expected)


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("precision", ["folded", "mixed", "bfloat16"])
@pytest.mark.parametrize("env", ["1d", "2d"])
def test_gradients_point_where_the_exact_ones_point(name, precision, env):
    torch.manual_seed(0)
    environment = worlds.make(env)
    learner = make_learner(name, environment, 64, "logistic")
    twin = copy.deepcopy(learner)
    learner.network.arithmetic = rule.ARITHMETIC[precision]
    pairs = environment.sample_pairs(512, torch.Generator().manual_seed(0))
    losses = [-model.log_prob_preferred(*pairs).mean() for model in (learner, twin)]
    # bfloat16 rounds to 2⁻⁹ of a value; independent roundings of many terms mostly cancel.
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=2**-9)
    for loss in losses:
        loss.backward()
    rounded, exact = (
        torch.cat([each.flatten() for each in gradients(model)]) for model in (learner, twin)
    )
    assert rounded.dtype == torch.float32
    # Batch norm divides by small standard deviations and subtracts: what is left is rounded more.
    tolerance = 0.1 if name == "categorical" else 0.03
    if precision == "folded":
        tolerance /= 100
    assert ((rounded - exact).norm() / exact.norm()).item() < tolerance
    assert torch.cosine_similarity(rounded, exact, dim=0).item() > 1 - max(tolerance**2, 1e-6)


@pytest.mark.parametrize("inputs", [1, 2])
def test_batch_norm_keeps_the_running_statistics_of_float32(inputs):
    torch.manual_seed(0)
    network = perceptron(inputs, 2, 32, batch_norm=True)
    twin = copy.deepcopy(network)
    network.arithmetic = rule.ARITHMETIC["bfloat16"]
    batch = torch.rand(256, inputs)
    network(batch)
    twin(batch)
    same(network.buffers(), twin.buffers(), rtol=2**-7, atol=2**-9)
    # Nothing is rounded before the first, and with one input nothing before the second.
    for number in (1, 4)[: 3 - inputs]:
        torch.testing.assert_close(network[number].running_var, twin[number].running_var)


def test_evaluation_and_state_dict_do_not_depend_on_the_precision_of_training():
    trained = train("base", OneDimensional(), TINY).learner
    plain = make_learner("base", OneDimensional(), TINY.width, TINY.likelihood).eval()
    plain.load_state_dict(trained.state_dict())
    grid = OneDimensional().grid(50)
    assert trained.network(grid).dtype == torch.float32
    assert torch.equal(trained.network(grid), plain.network(grid))


def test_bfloat16_learns_the_order_of_float32_within_the_spread_over_seeds():
    environment = OneDimensional()
    grid = environment.grid(200)
    borda = environment.borda_count(grid).numpy()
    away = np.abs(grid[:, 0].numpy() - environment.jump) > 0.05
    agreements = np.empty((2, 3))
    for row, precision in enumerate(("float32", "bfloat16")):
        for seed in range(3):
            shape = {"batch_size": 256, "lr": 1e-2, "num_iterations": 200, "width": 64}
            config = SyntheticConfig(**shape, seed=seed, precision=precision)
            network = train("base", environment, config).learner.network
            with torch.no_grad():
                learned = network(grid)[away, 0].numpy()
            agreements[row, seed] = spearman(learned, borda[away])
    full, rounded = agreements
    assert full.min() > 0.85  # a seed differs from the next by up to 0.07 here
    assert np.abs(rounded - full).max() < min(np.ptp(full), 0.04)


def test_without_fused_layers_it_is_the_same_to_the_rounding(monkeypatch):
    fused = train("classifier", OneDimensional(), TINY).losses
    monkeypatch.setattr(training_pass, "_has_fused_layers", lambda: False)
    plain = train("classifier", OneDimensional(), TINY).losses
    torch.testing.assert_close(fused, plain, rtol=2**-8, atol=0)


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_products_give_what_sums_of_logarithms_give(scale):
    torch.manual_seed(0)
    logits = (scale * torch.randn(2, 50, 20, dtype=torch.float64)).requires_grad_()
    assert log_prob_greater(*logits.float()).dtype == torch.float32
    ours = log_prob_greater(*logits)
    theirs = CategoricalReward(logits[0]).log_prob_greater(CategoricalReward(logits[1]))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    (gradient,) = torch.autograd.grad(ours.sum(), logits)
    (expected,) = torch.autograd.grad(theirs.sum(), logits)
    torch.testing.assert_close(gradient, expected, rtol=1e-7, atol=1e-10)


def test_it_declines_where_products_would_vanish():
    low = torch.tensor([[0.0, -900.0]])
    assert log_prob_greater(low, low.flip(-1)) is None
    assert log_prob_greater(low.flip(-1), low) is not None
