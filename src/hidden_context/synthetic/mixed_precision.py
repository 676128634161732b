"""Training passes through a perceptron whose hidden layers compute in bfloat16.

Nearly all arithmetic of a training step is in the square matrix products of the hidden layers.
Processors with AMX tiles multiply bfloat16 matrices, with float32 sums inside, many times as fast
as float32 ones. Here those products and the activations between them are bfloat16. The weights
that Adam updates, the first layer (its inputs are coordinates, of which bfloat16 would keep three
digits), the last layer, the likelihood and the statistics of batch norm stay float32.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

MIN_WIDTH = 256
"""Below this width the products are too small to make up for the conversions."""

NEEDS_FLOAT32 = frozenset({"mean_and_stddev"})
"""Networks that learn another curve in bfloat16: where annotators agree, the standard deviation
falls to a millionth of the range of the means, and rounding in training keeps it far above."""


def resolve_precision(
    precision: Literal["auto", "float32", "bfloat16"], width: int, name: str
) -> Literal["float32", "bfloat16"]:
    """The precision in which the hidden layers of a network compute while it trains.

    Args:
        precision: What was asked for.
        width: Width of the hidden layers.
        name: The learner, one of ``networks.LEARNERS``.

    Returns:
        What was asked for; if that was left open, bfloat16 where the processor multiplies bfloat16
        tiles, the layers are wide enough and the network learns the same curve, else float32.
    """
    if precision != "auto":
        return precision
    if name in NEEDS_FLOAT32 or width < MIN_WIDTH or not has_bfloat16_tiles():
        return "float32"
    return "bfloat16"


def has_bfloat16_tiles() -> bool:
    """Whether the processor has AMX instructions for bfloat16, as far as PyTorch can tell."""
    capabilities = getattr(torch.cpu, "get_capabilities", None)
    return capabilities is not None and bool(capabilities().get("amx_bf16", False))


def mixed_precision_pass(network: nn.Sequential, inputs: Tensor, dtype: torch.dtype) -> Tensor:
    """Apply a perceptron with its hidden layers in ``dtype``.

    Args:
        network: Linear layers, each but the last followed by an optional batch norm and a ReLU.
        inputs: ``(B, inputs)``, in the precision of the weights.
        dtype: Precision of the hidden layers' products and of all activations. In that of the
            weights this is what the network itself does.

    Returns:
        Outputs, ``(B, outputs)``, in the precision of the weights; gradients reach the weights in
        their own precision.
    """
    first, last = network[0], network[-1]
    values = inputs
    for module in network:
        if module is last:
            values = module(values.to(inputs.dtype))
        elif isinstance(module, nn.Linear) and module is not first:
            values = nn.functional.linear(values, module.weight.to(dtype), module.bias.to(dtype))
        elif isinstance(module, nn.ReLU):
            # Only here, so that batch norm takes what the first layer put out unrounded.
            values = module(values.to(dtype))
        else:
            values = module(values)
    return values
