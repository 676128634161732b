"""GPT-2's feed-forward block with its GELU inside the first product, where that is faster.

A processor with AMX multiplies bfloat16 matrices so fast that the GELU behind the first product
takes longer than the product. oneDNN applies it to the sums while they are in registers. PyTorch
has this kernel for its own compiler, so it is tried once before it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.activations import FastGELUActivation, NewGELUActivation
from transformers.pytorch_utils import Conv1D

Kernel = Callable[..., Tensor]


@lru_cache
def linear_gelu_kernel() -> Kernel | None:
    """Return the kernel of GELU(xWᵀ + b) in bfloat16, or None where it is missing or wrong."""
    kernel = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    if kernel is None:
        return None
    inputs = torch.linspace(-2, 2, 64, dtype=torch.bfloat16).reshape(4, 16)
    inputs[0] = torch.nan  # oneDNN's ReLU makes 0 of it, which would hide a broken model
    weight = torch.linspace(-0.5, 0.5, 128, dtype=torch.bfloat16).reshape(16, 8)
    bias = torch.linspace(-1, 1, 8, dtype=torch.bfloat16)
    try:
        with torch.inference_mode():
            found = kernel(inputs, weight.t(), bias, "gelu", [], "tanh").float()
    except (RuntimeError, TypeError):  # a PyTorch without oneDNN, or with another signature
        return None
    plain = inputs.float() @ weight.float() + bias.float()
    expected = functional.gelu(plain, approximate="tanh")
    if found.shape != expected.shape:
        return None
    # of values up to some 3, in three significant digits
    close = torch.isclose(found, expected, rtol=0, atol=0.02, equal_nan=True)
    return kernel if bool(close.all()) else None


def _is_plain(layer: nn.Module) -> bool:
    """Whether a layer is a plain product: no adapter and no hooks."""
    return type(layer) is Conv1D and not layer._forward_hooks and not layer._forward_pre_hooks


class GeluInProduct:
    """Mixin for GPT-2's feed-forward block.

    In bfloat16 on a processor, without gradients, the GELU is part of the first product. It is
    applied before the sums are rounded. Everything else is the block's own way.
    """

    c_fc: Conv1D
    c_proj: nn.Module
    act: nn.Module
    training: bool

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Apply the block, ``(..., D) -> (..., D)``."""
        if not self._is_faster(hidden_states):
            outputs: Tensor = super().forward(hidden_states)  # type: ignore[misc]
            return outputs
        kernel = linear_gelu_kernel()
        assert kernel is not None
        inner = kernel(hidden_states, self.c_fc.weight.t(), self.c_fc.bias, "gelu", [], "tanh")
        projected: Tensor = self.c_proj(inner)
        return projected

    def _is_faster(self, hidden_states: Tensor) -> bool:
        return (
            not self.training
            and not torch.is_grad_enabled()
            and hidden_states.device.type == "cpu"
            and hidden_states.dtype == torch.bfloat16
            and isinstance(self.act, nn.GELU)
            and self.act.approximate == "tanh"
            and _is_plain(self.c_fc)
            and self.c_fc.weight.dtype == torch.bfloat16
            and not torch.compiler.is_compiling()
            and linear_gelu_kernel() is not None
        )


def gelu_blocks(model: nn.Module) -> list[Any]:
    """Find the feed-forward blocks of GPT-2 in a model."""
    from transformers.models.gpt2.modeling_gpt2 import GPT2MLP

    return [module for module in model.modules() if isinstance(module, GPT2MLP)]


def fuse_gelu(model: nn.Module) -> int:
    """Replace tanh-approximated GELUs written out in Python with PyTorch's fused one.

    Both compute ½x(1 + tanh(√(2/π)(x + 0.044715x³))); eight passes over memory become one. They
    have no weights, so checkpoints stay what they are.

    Args:
        model: Any module; changed in place.

    Returns:
        How many were replaced.
    """
    found = [
        (parent, name)
        for parent in model.modules()
        for name, child in parent.named_children()
        if type(child) in (NewGELUActivation, FastGELUActivation)
    ]
    for parent, name in found:
        setattr(parent, name, nn.GELU(approximate="tanh"))
    return len(found)
