from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.activations import (
    ACT2FN,
    FastGELUActivation,
    GELUActivation,
    NewGELUActivation,
)

from hidden_context.models.activations import fuse_gelu
from support.builders import tiny_classifier

FUSED = nn.GELU(approximate="tanh")


@pytest.mark.parametrize("written_out", [NewGELUActivation(), FastGELUActivation()], ids=repr)
def test_fused_and_written_out_are_the_same_function(written_out):
    points = torch.linspace(-8, 8, 2001)
    values, slopes = [], []
    for function in (FUSED, written_out):
        x = points.clone().requires_grad_()
        y = function(x)
        y.sum().backward()
        values.append(y.detach())
        slopes.append(x.grad)
    assert (values[0] - values[1]).abs().max() < 1e-6
    assert (slopes[0] - slopes[1]).abs().max() < 2e-6


def test_far_out_values_and_gradients_are_finite():
    x = torch.tensor([-1e4, -100.0, 0.0, 100.0, 1e4], requires_grad=True)
    y = FUSED(x)
    y.sum().backward()
    assert y.tolist() == [0.0, 0.0, 0.0, 100.0, 1e4]
    assert x.grad.tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]


def activations(model):
    kinds = tuple(
        {type(function) for function in ACT2FN.values() if isinstance(function, nn.Module)}
    )
    return [module for module in model.modules() if isinstance(module, (nn.GELU, *kinds))]


def test_gpt2_has_one_in_each_layer():
    model = tiny_classifier("gpt2", stock=True, n_layer=3)
    weights = list(model.state_dict())
    assert fuse_gelu(model) == 3
    assert not any(isinstance(module, NewGELUActivation) for module in model.modules())
    assert [module.approximate for module in activations(model)] == ["tanh"] * 3
    assert list(model.state_dict()) == weights
    assert model.config.activation_function == "gelu_new"
    assert fuse_gelu(model) == 0


def test_rewards_and_gradients_of_gpt2_stay():
    found = []
    ids = torch.arange(3, 40)[None]
    for fused in (False, True):
        model = tiny_classifier("gpt2", stock=True)
        model.config.pad_token_id = None
        if fused:
            assert fuse_gelu(model) == 2
        raw = model(input_ids=ids).logits
        raw.sum().backward()
        found.append((raw.detach(), model.transformer.wte.weight.grad))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-5)
    assert torch.allclose(found[0][1], found[1][1], atol=1e-5, rtol=1e-4)


def test_llama_has_none():
    assert fuse_gelu(tiny_classifier("llama", stock=True)) == 0


@pytest.mark.parametrize("kind", ["bert", "gpt_neox"])
def test_exact_gelus_stay(kind):
    model = tiny_classifier(kind)  # specialised for rewards
    assert fuse_gelu(tiny_classifier(kind, stock=True)) == 0
    exact = [module for module in model.modules() if isinstance(module, GELUActivation)]
    assert len(exact) == 2
    x = torch.linspace(-3, 3, 101)
    assert torch.allclose(exact[0](x), x * torch.special.ndtr(x), atol=1e-6)
    assert (exact[0](x) - FUSED(x)).abs().max() > 1e-4


def test_subclasses_are_left_alone():
    class Other(NewGELUActivation):
        """Might compute something else."""

    parent = nn.Sequential(Other(), nn.Sequential(NewGELUActivation()))
    assert fuse_gelu(parent) == 1
    assert type(parent[0]) is Other
