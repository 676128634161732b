"""What every fine-tuned reward model gets: a float32 head, and sound pooling.

Both are put in place by giving an existing module a subclass of its own class, of the same name,
so that parameters, saving, PEFT and distributed wrappers see the model they know.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from hidden_context.distributions.log_space import at_least_float32
from hidden_context.errors import CheckpointError
from hidden_context.models.engine.pooling import LastAttendedPooling, LastEosPooling
from hidden_context.models.network.feed_forward import GeluInProduct, fuse_gelu, gelu_blocks


class Float32Linear(nn.Linear):
    """A linear layer that computes in float32 (float64 stays), under autocast too.

    In bfloat16 rewards have three significant digits: close ones tie, and differences are noise.
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
            f"{type(model).__name__} has no linear layer with {model.config.num_labels} outputs "
            "outside its backbone; hidden-context needs one as the reward head."
        )
    return layers


def keep_float32(module: nn.Module) -> None:
    """Keep a module's weights in float32 (float64 stays), and compute its linear layers in float32.

    Weights that are trained outright need it too: small updates would be lost in bfloat16.
    """
    for parameter in module.parameters():
        if parameter.is_floating_point():
            parameter.data = at_least_float32(parameter.data)
    for part in module.modules():
        if type(part) is nn.Linear:
            part.__class__ = Float32Linear


def specialise_for_rewards(model: PreTrainedModel) -> None:
    """Give a classification model a float32 head and, unless an encoder, pooling by mask.

    The head is all that stands beside the backbone, for RoBERTa a dense layer too. Encoders keep
    the pooling they were made with. Activations that PyTorch has a kernel for get it, and GPT-2's
    is part of a product where that is faster. Idempotent.
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
