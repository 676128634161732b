from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hidden_context.models import feed_forward
from hidden_context.models.feed_forward import GeluInProduct, gelu_blocks, linear_gelu_kernel
from support.builders import tiny_classifier

needs_kernel = pytest.mark.skipif(
    linear_gelu_kernel() is None, reason="this PyTorch has no product with a GELU inside"
)


def block_and_inputs(dtype: torch.dtype = torch.bfloat16) -> tuple[Any, Tensor]:
    """A feed-forward block in evaluation mode, weights of a size that matters, and some inputs."""
    torch.manual_seed(0)
    block = gelu_blocks(tiny_classifier("gpt2"))[0].eval()
    with torch.no_grad():
        for layer in (block.c_fc, block.c_proj):
            layer.weight.normal_(std=layer.weight.shape[0] ** -0.5)
            layer.bias.normal_()
    return block.to(dtype), torch.randn(2, 37, block.c_fc.weight.shape[0]).to(dtype)


def by_hand(block: Any, inputs: Tensor, dtype: torch.dtype) -> Tensor:
    """The block in steps, each rounded to a precision."""
    x, inner, outer = inputs.to(dtype), block.c_fc, block.c_proj
    hidden = functional.gelu(x @ inner.weight.to(dtype) + inner.bias.to(dtype), approximate="tanh")
    return (hidden @ outer.weight.to(dtype) + outer.bias.to(dtype)).detach()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the calls of the kernel."""
    kernel, counted = linear_gelu_kernel(), list[int]()

    def counting(*arguments: Any) -> Tensor:
        counted.append(1)
        assert kernel is not None
        return kernel(*arguments)

    monkeypatch.setattr(feed_forward, "linear_gelu_kernel", lambda: kernel and counting)
    return counted


@needs_kernel
def test_it_is_no_further_from_the_exact_block_than_the_steps_are(calls: list[int]) -> None:
    block, inputs = block_and_inputs()
    exact = by_hand(block, inputs, torch.float64)
    with torch.inference_mode():
        found = block(inputs).double()
    assert calls == [1]
    apart = (found - exact).norm() / exact.norm()
    steps = (by_hand(block, inputs, torch.bfloat16).double() - exact).norm() / exact.norm()
    assert 0 < apart < 4e-3
    assert apart < 1.05 * steps


def test_in_float32_nothing_changes(calls: list[int]) -> None:
    block, inputs = block_and_inputs(torch.float32)
    with torch.inference_mode():
        found = block(inputs)
        assert torch.equal(found, super(GeluInProduct, block).forward(inputs))
    assert torch.allclose(found.double(), by_hand(block, inputs, torch.float64), atol=1e-5)
    assert not calls


def test_gradients_take_the_block_s_own_way(calls: list[int]) -> None:
    block, inputs = block_and_inputs()
    block(inputs).float().sum().backward()
    assert block.c_fc.weight.grad is not None
    assert not calls


def test_training_mode_takes_the_block_s_own_way_with_its_dropout(calls: list[int]) -> None:
    block, inputs = block_and_inputs()
    block.train().dropout.p = 1.0
    with torch.inference_mode():
        assert not block(inputs).any()
    assert not calls


@pytest.mark.parametrize("kind", ["register_forward_hook", "register_forward_pre_hook"])
def test_who_listens_to_the_first_layer_hears_it(kind: str, calls: list[int]) -> None:
    block, inputs = block_and_inputs()
    heard = []
    getattr(block.c_fc, kind)(lambda *arguments: heard.append(arguments[1]))
    with torch.inference_mode():
        block(inputs)
    assert len(heard) == 1
    assert not calls


def test_an_adapter_on_the_first_layer_counts(calls: list[int]) -> None:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    model = tiny_classifier("gpt2")
    adapted: Any = get_peft_model(
        model, LoraConfig(target_modules=["c_fc"], init_lora_weights=False, fan_in_fan_out=True)
    )
    adapted = adapted.to(torch.bfloat16).eval()
    ids = torch.arange(3, 40)[None]
    with torch.inference_mode():
        with_adapter = adapted(input_ids=ids).logits
        with adapted.disable_adapter():
            without = adapted(input_ids=ids).logits
    assert (with_adapter - without).abs().max() > 1e-3
    assert not calls


def test_another_activation_stays(calls: list[int]) -> None:
    block, inputs = block_and_inputs()
    block.act = nn.ReLU()
    with torch.inference_mode():
        found = block(inputs)
        inner = block.c_fc(inputs).relu()
        assert torch.equal(found, block.c_proj(inner))
    assert not calls


def exact_kernel(inputs: Tensor, weight: Tensor, bias: Tensor, *_: Any) -> Tensor:
    plain = functional.linear(inputs.float(), weight.float(), bias.float())
    return functional.gelu(plain, approximate="tanh")


@pytest.mark.parametrize(
    ("mistake", "used"),
    [
        (lambda values: values, True),
        (lambda values: values + 1.0, False),
        (lambda values: values - 0.03, False),
        (lambda values: values.nan_to_num(), False),
        (lambda values: values[:, :1], False),
    ],
    ids=["none", "far", "near", "hides NaN", "shape"],
)
def test_a_kernel_that_is_wrong_is_not_used(
    mistake: Callable[[Tensor], Tensor], used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*arguments: Any) -> Tensor:
        return mistake(exact_kernel(*arguments))

    linear_gelu_kernel.cache_clear()
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", wrong)
    try:
        assert linear_gelu_kernel() == (wrong if used else None)
    finally:
        linear_gelu_kernel.cache_clear()


def test_a_kernel_that_refuses_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: Any) -> Tensor:
        raise RuntimeError("built without oneDNN")

    linear_gelu_kernel.cache_clear()
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", refuses)
    try:
        assert linear_gelu_kernel() is None
        block, inputs = block_and_inputs()
        with torch.inference_mode():
            assert torch.equal(block(inputs), super(GeluInProduct, block).forward(inputs))
    finally:
        linear_gelu_kernel.cache_clear()


def test_only_gpt2_has_such_blocks() -> None:
    assert len(gelu_blocks(tiny_classifier("gpt2", n_layer=3))) == 3
    assert not gelu_blocks(tiny_classifier("llama"))
