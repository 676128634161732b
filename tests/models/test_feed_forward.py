"""Activations and feed-forward blocks in one kernel, where that is the same and faster."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn import functional
from transformers.activations import GELUActivation, NewGELUActivation

from hidden_context.models.network import feed_forward
from hidden_context.models.network.feed_forward import (
    GeluInProduct,
    fuse_gelu,
    gelu_blocks,
    linear_gelu_kernel,
)
from support.builders import tiny_classifier

FUSED = nn.GELU(approximate="tanh")
needs_kernel = pytest.mark.skipif(
    linear_gelu_kernel() is None, reason="this PyTorch has no product with a GELU inside"
)


def block_and_inputs(dtype=torch.bfloat16):
    """A feed-forward block in evaluation mode, weights of a size that matters, and some inputs."""
    torch.manual_seed(0)
    block = gelu_blocks(tiny_classifier("gpt2"))[0].eval()
    with torch.no_grad():
        for layer in (block.c_fc, block.c_proj):
            layer.weight.normal_(std=layer.weight.shape[0] ** -0.5)
            layer.bias.normal_()
    return block.to(dtype), torch.randn(2, 37, block.c_fc.weight.shape[0]).to(dtype)


def by_hand(block, inputs, dtype):
    """The block in steps, each rounded to a precision."""
    x, inner, outer = inputs.to(dtype), block.c_fc, block.c_proj
    hidden = functional.gelu(x @ inner.weight.to(dtype) + inner.bias.to(dtype), approximate="tanh")
    return (hidden @ outer.weight.to(dtype) + outer.bias.to(dtype)).detach()


@pytest.fixture
def calls(monkeypatch):
    """Counts the calls of the kernel."""
    kernel, counted = linear_gelu_kernel(), []

    def counting(*arguments):
        counted.append(1)
        return kernel(*arguments)

    monkeypatch.setattr(feed_forward, "linear_gelu_kernel", lambda: kernel and counting)
    return counted


@needs_kernel
def test_it_is_no_further_from_the_exact_block_than_the_steps_are(calls):
    block, inputs = block_and_inputs()
    exact = by_hand(block, inputs, torch.float64)
    with torch.inference_mode():
        found = block(inputs).double()
    assert calls == [1]
    apart = (found - exact).norm() / exact.norm()
    steps = (by_hand(block, inputs, torch.bfloat16).double() - exact).norm() / exact.norm()
    assert 0 < apart < 4e-3
    assert apart < 1.05 * steps


def with_another_activation(block):
    block.act = nn.ReLU()


def with_dropout(block):
    block.train().dropout.p = 1.0


def listened_to(kind):
    return lambda block: getattr(block.c_fc, kind)(lambda *arguments: block.heard.append(1))


@pytest.mark.parametrize(
    ("dtype", "change"),
    [
        (torch.float32, lambda block: None),
        (torch.bfloat16, with_another_activation),
        (torch.bfloat16, with_dropout),
        (torch.bfloat16, listened_to("register_forward_hook")),
        (torch.bfloat16, listened_to("register_forward_pre_hook")),
    ],
    ids=["float32", "ReLU", "training", "hook", "pre-hook"],
)
def test_everything_else_is_the_blocks_own_way(calls, dtype, change):
    block, inputs = block_and_inputs(dtype)
    block.heard = []
    change(block)
    with torch.inference_mode():
        found = block(inputs)
        assert len(block.heard) == ("listened" in change.__qualname__)
        assert torch.equal(found, super(GeluInProduct, block).forward(inputs))
    if dtype == torch.float32:
        assert torch.allclose(found.double(), by_hand(block, inputs, torch.float64), atol=1e-5)
    assert not calls


def test_gradients_take_the_blocks_own_way(calls):
    block, inputs = block_and_inputs()
    block(inputs).float().sum().backward()
    assert block.c_fc.weight.grad is not None
    assert not calls


def test_an_adapter_on_the_first_layer_counts(calls):
    torch.manual_seed(0)
    config = LoraConfig(target_modules=["c_fc"], init_lora_weights=False, fan_in_fan_out=True)
    adapted = get_peft_model(tiny_classifier("gpt2"), config).to(torch.bfloat16).eval()
    ids = torch.arange(3, 40)[None]
    with torch.inference_mode():
        with_adapter = adapted(input_ids=ids).logits
        with adapted.disable_adapter():
            without = adapted(input_ids=ids).logits
    assert (with_adapter - without).abs().max() > 1e-3
    assert not calls


def exact_kernel(inputs, weight, bias, *_):
    plain = functional.linear(inputs.float(), weight.float(), bias.float())
    return functional.gelu(plain, approximate="tanh")


def refuses(values):
    raise RuntimeError("built without oneDNN")


@pytest.mark.parametrize(
    ("mistake", "used"),
    [
        (lambda values: values, True),
        (lambda values: values + 1.0, False),
        (lambda values: values - 0.03, False),
        (lambda values: values.nan_to_num(), False),
        (lambda values: values[:, :1], False),
        (refuses, False),
    ],
    ids=["none", "far", "near", "hides NaN", "shape", "refuses"],
)
def test_a_kernel_that_is_wrong_is_not_used(mistake, used, monkeypatch):
    def wrong(*arguments):
        return mistake(exact_kernel(*arguments))

    linear_gelu_kernel.cache_clear()
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", wrong)
    try:
        assert linear_gelu_kernel() == (wrong if used else None)
        if not used:
            block, inputs = block_and_inputs()
            with torch.inference_mode():
                assert torch.equal(block(inputs), super(GeluInProduct, block).forward(inputs))
    finally:
        linear_gelu_kernel.cache_clear()


def test_gpt2_has_one_in_each_layer_and_its_rewards_and_gradients_stay():
    ids, found = torch.arange(3, 40)[None], []
    for fused in (False, True):
        model = tiny_classifier("gpt2", stock=True, n_layer=3)
        weights = list(model.state_dict())
        if fused:
            assert [fuse_gelu(model), fuse_gelu(model)] == [3, 0]
            kinds = [module for module in model.modules() if isinstance(module, nn.GELU)]
            assert [module.approximate for module in kinds] == ["tanh"] * 3
        assert any(isinstance(each, NewGELUActivation) for each in model.modules()) == (not fused)
        assert list(model.state_dict()) == weights
        assert model.config.activation_function == "gelu_new"
        model.config.pad_token_id = None
        raw = model(input_ids=ids).logits
        raw.sum().backward()
        found.append((raw.detach(), model.transformer.wte.weight.grad))
    for plain, own in zip(*found, strict=True):
        assert torch.allclose(plain, own, atol=1e-5, rtol=1e-4)


def test_other_activations_stay():
    assert fuse_gelu(tiny_classifier("llama", stock=True)) == 0
    assert [len(gelu_blocks(tiny_classifier(kind))) for kind in ("gpt2", "llama")] == [2, 0]
    x = torch.linspace(-3, 3, 101)
    for kind in ("bert", "gpt_neox"):
        model = tiny_classifier(kind)  # specialised for rewards
        assert fuse_gelu(tiny_classifier(kind, stock=True)) == 0
        exact = [module for module in model.modules() if isinstance(module, GELUActivation)]
        assert len(exact) == 2
        assert torch.allclose(exact[0](x), x * torch.special.ndtr(x), atol=1e-6)
        assert (exact[0](x) - FUSED(x)).abs().max() > 1e-4

    class Other(NewGELUActivation):
        """Might compute something else."""

    parent = nn.Sequential(Other(), nn.Sequential(NewGELUActivation()))
    assert fuse_gelu(parent) == 1
    assert type(parent[0]) is Other
