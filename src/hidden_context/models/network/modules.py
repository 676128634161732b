"""Changes to every fine-tuned reward model: float32 head, sound pooling, faster activations.

Each change gives an existing module a subclass of its class, with the same name. Parameters,
saving, PEFT and distributed wrappers therefore see the model they know.

A processor with AMX multiplies bfloat16 matrices so fast that the GELU after the first product of
GPT-2's feed-forward block takes longer than the product. oneDNN applies the GELU to the sums while
they are in registers. PyTorch has this kernel for its own compiler, so the kernel is tested once
before it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.activations import FastGELUActivation, NewGELUActivation
from transformers.pytorch_utils import Conv1D

from hidden_context.distributions.log_space import at_least_float32
from hidden_context.errors import CheckpointError
from hidden_context.models.engine.pooling import LastAttendedPooling, LastEosPooling

Kernel = Callable[..., Tensor]


class Float32Linear(nn.Linear):
    """A linear layer that computes in float32 (float64 stays), under autocast too.

    In bfloat16, rewards have three significant digits: close rewards tie, and their differences are
    noise.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layer; the result is float32 or float64, whatever the input's precision."""
        with torch.autocast(device_type=input.device.type, enabled=False):
            input = at_least_float32(input)
            bias = None if self.bias is None else self.bias.to(input.dtype)
            return functional.linear(input, self.weight.to(input.dtype), bias)


def _specialise(module: nn.Module, mixin: type) -> None:
    cls = type(module)
    if not issubclass(cls, mixin):
        module.__class__ = type(cls.__name__, (mixin, cls), {"__module__": cls.__module__})


def final_linear(model: PreTrainedModel) -> tuple[str, nn.Linear]:
    """Find the last linear layer of a classification model's head, whatever its name.

    Args:
        model: A model for sequence classification.

    Returns:
        Its dotted name within the model, and the layer (see ``output_layers`` for errors).
    """
    return output_layers(model)[-1]


def output_layers(model: PreTrainedModel) -> list[tuple[str, nn.Linear]]:
    """Find the linear layers of a head that give raw outputs; PEFT has one for each adapter.

    Args:
        model: A model for sequence classification.

    Returns:
        Their dotted names within the model, and the layers.

    Raises:
        CheckpointError: If no linear layer outside the backbone has ``config.num_labels`` outputs.
    """
    inside = f"{model.base_model_prefix}."
    layers = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and not name.startswith(inside)
        and module.out_features == model.config.num_labels
    ]
    if not layers:
        raise CheckpointError(
            f"{type(model).__name__} has no linear layer with num_outputs "
            f"{model.config.num_labels} outside its backbone; hidden-context needs one as the "
            "reward head."
        )
    return layers


def keep_float32(module: nn.Module) -> None:
    """Keep a module's weights in float32 (float64 stays), and compute its linear layers in float32.

    Fully trained weights need it too, because small updates would be lost in bfloat16.
    """
    for parameter in module.parameters():
        if parameter.is_floating_point():
            parameter.data = at_least_float32(parameter.data)
    for part in module.modules():
        if type(part) is nn.Linear:
            part.__class__ = Float32Linear


def specialise_for_rewards(model: PreTrainedModel) -> None:
    """Give a classification model a float32 head and, except for encoders, pooling by mask.

    The head is everything outside the backbone; RoBERTa's head includes a dense layer. Encoders
    keep their own pooling. Activations use PyTorch's kernel where there is one, and GPT-2's is
    fused into a product where that is faster. Idempotent.
    """
    keep_float32(final_linear(model)[1])
    fuse_gelu(model)
    for block in gelu_blocks(model):
        _specialise(block, GeluInProduct)
    if hasattr(model, model.base_model_prefix):
        for name, child in model.named_children():
            if name != model.base_model_prefix:
                keep_float32(child)
    if isinstance(getattr(model, "score", None), nn.Linear):
        _specialise(model, LastAttendedPooling)
    elif model.config.is_encoder_decoder:
        _specialise(model, LastEosPooling)


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


class GeluInProduct:
    """Mixin that fuses the GELU of GPT-2's feed-forward block into the first product.

    They are fused in bfloat16 on a processor, without gradients. The GELU is applied before the
    sums are rounded. Everything else runs as in the original block.
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
            and type(self.c_fc) is Conv1D  # no adapter, and no hooks
            and not self.c_fc._forward_hooks
            and not self.c_fc._forward_pre_hooks
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
    have no weights, so checkpoints do not change.

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
