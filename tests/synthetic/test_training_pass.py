from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch

from hidden_context.synthetic import mixed_precision
from hidden_context.synthetic.agreement import spearman
from hidden_context.synthetic.config import SyntheticConfig
from hidden_context.synthetic.environments import OneDimensional
from hidden_context.synthetic.mixed_precision import mixed_precision_pass, resolve_precision
from hidden_context.synthetic.networks import LEARNERS, make_learner, perceptron
from hidden_context.synthetic.train import train

TINY = SyntheticConfig(batch_size=16, lr=1e-3, num_iterations=5, width=32, precision="bfloat16")


@pytest.mark.parametrize(
    ("name", "precision", "width", "tiles", "expected"),
    [
        ("base", "auto", 512, True, "bfloat16"),
        ("base", "auto", 512, False, "float32"),
        ("base", "auto", mixed_precision.MIN_WIDTH - 1, True, "float32"),
        ("base", "float32", 512, True, "float32"),
        ("base", "bfloat16", 8, False, "bfloat16"),
        ("mean_and_stddev", "auto", 512, True, "float32"),
        ("mean_and_stddev", "bfloat16", 512, True, "bfloat16"),
    ],
)
def test_bfloat16_is_chosen_where_it_pays_and_obeyed_where_it_is_asked_for(
    name: str,
    precision: str,
    width: int,
    tiles: bool,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mixed_precision, "has_bfloat16_tiles", lambda: tiles)
    assert resolve_precision(precision, width, name) == expected  # type: ignore[arg-type]


def test_a_pytorch_that_cannot_tell_counts_as_without_tiles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not mixed_precision.has_bfloat16_tiles()


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_in_the_weights_precision_it_is_the_network_itself(
    batch_norm: bool, dtype: torch.dtype
) -> None:
    network = perceptron(2, 3, 16, batch_norm).to(dtype)
    twin = copy.deepcopy(network)
    inputs, direction = torch.rand(20, 2, dtype=dtype), torch.randn(20, 3, dtype=dtype)
    ours, theirs = mixed_precision_pass(network, inputs, dtype), twin(inputs)
    assert torch.equal(ours, theirs)
    ours.backward(direction)
    theirs.backward(direction)
    for one, other in zip(network.parameters(), twin.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)  # type: ignore[arg-type]
    for one, other in zip(network.buffers(), twin.buffers(), strict=True):
        assert torch.equal(one, other)


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    network = perceptron(1, 2, 5, batch_norm=False).double()
    inputs = torch.rand(6, 1, dtype=torch.float64)
    names = [name for name, _ in network.named_parameters()]

    def outputs(*values: torch.Tensor) -> torch.Tensor:
        twin = perceptron(1, 2, 5, batch_norm=False).double().train()
        twin.training_dtype = torch.float64
        parameters = dict(zip(names, values, strict=True))
        result: torch.Tensor = torch.func.functional_call(twin, parameters, (inputs,))
        return result

    values = tuple(parameter.detach().requires_grad_() for parameter in network.parameters())
    assert torch.autograd.gradcheck(outputs, values)


@pytest.mark.parametrize("name", LEARNERS)
def test_bfloat16_gradients_point_where_the_exact_ones_point(name: str) -> None:
    torch.manual_seed(0)
    environment = OneDimensional()
    learner = make_learner(name, environment, 64, "logistic")
    twin = copy.deepcopy(learner)
    learner.network.training_dtype = torch.bfloat16
    pairs = environment.sample_pairs(512, torch.Generator().manual_seed(0))
    losses = [-model.log_prob_preferred(*pairs).mean() for model in (learner, twin)]
    # bfloat16 rounds to 2⁻⁹ of a value; independent roundings of many terms mostly cancel.
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=2**-9)
    for loss in losses:
        loss.backward()
    rounded, exact = (
        torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        for model in (learner, twin)
    )
    assert rounded.dtype == torch.float32
    # Batch norm divides by small standard deviations and subtracts: what is left is rounded more.
    tolerance = 0.1 if name == "categorical" else 0.03
    assert ((rounded - exact).norm() / exact.norm()).item() < tolerance
    assert torch.cosine_similarity(rounded, exact, dim=0).item() > 1 - tolerance**2


def test_batch_norm_keeps_the_running_statistics_of_float32() -> None:
    torch.manual_seed(0)
    network = perceptron(1, 2, 32, batch_norm=True)
    twin = copy.deepcopy(network)
    inputs = torch.rand(256, 1)
    mixed_precision_pass(network, inputs, torch.bfloat16)
    twin(inputs)
    for one, other in zip(network.buffers(), twin.buffers(), strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other, rtol=2**-7, atol=2**-9)
    # The first is exact: nothing is rounded before it.
    assert torch.equal(network[1].running_var, twin[1].running_var)  # type: ignore[arg-type]


def test_evaluation_and_state_dict_do_not_depend_on_the_precision_of_training() -> None:
    trained = train("base", OneDimensional(), TINY).learner
    plain = make_learner("base", OneDimensional(), TINY.width, TINY.likelihood).eval()
    plain.load_state_dict(trained.state_dict())
    grid = OneDimensional().grid(50)
    assert trained.network(grid).dtype == torch.float32
    assert torch.equal(trained.network(grid), plain.network(grid))


@pytest.mark.parametrize("name", LEARNERS)
def test_a_seed_reproduces_to_the_bit_in_bfloat16_too(name: str) -> None:
    first, again = (train(name, OneDimensional(), TINY) for _ in range(2))
    full = train(name, OneDimensional(), dataclasses.replace(TINY, precision="float32"))
    assert torch.equal(first.losses, again.losses)
    for one, two in zip(first.learner.parameters(), again.learner.parameters(), strict=True):
        assert torch.equal(one, two)
    # Same weights and comparisons at the start, another rounding: near, and not the same.
    assert first.losses[0].item() == pytest.approx(full.losses[0].item(), rel=2**-8)
    assert not torch.equal(first.losses, full.losses)


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
