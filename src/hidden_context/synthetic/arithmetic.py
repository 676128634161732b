"""The precision in which a network of the synthetic experiments trains.

Nearly all arithmetic of a training step is in the square matrix products of the hidden layers.
Some processors multiply bfloat16 matrices, with float32 sums inside, many times as fast as float32
ones. Whether this one does is measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from hidden_context.models.network.precision import MIN_WIDTH, for_training

Precision = Literal["float32", "folded", "mixed", "bfloat16"]

NEEDS_FLOAT32 = frozenset({"mean_and_stddev"})
"""Networks that learn another curve with a forward pass in bfloat16: where annotators agree, the
standard deviation falls to a millionth of the range of the means, and rounding in the forward pass
keeps it far above. Rounded gradients do not."""


@dataclass(frozen=True)
class Arithmetic:
    """How the hidden layers of a network compute while it trains.

    Weights, first layer, likelihood, statistics of batch norm and evaluation are float32 always.

    Attributes:
        forward: Precision of the products of the forward pass and the activations between them.
        backward: Precision of the products of the backward pass and the gradients between them.
    """

    forward: torch.dtype
    backward: torch.dtype


ARITHMETIC: dict[Precision, Arithmetic] = {
    "folded": Arithmetic(torch.float32, torch.float32),
    "mixed": Arithmetic(torch.float32, torch.bfloat16),
    "bfloat16": Arithmetic(torch.bfloat16, torch.bfloat16),
}
"""The arithmetic of a precision; float32 has none, and runs layer by layer as written."""


def resolve_precision(
    precision: Literal["auto", "float32", "folded", "mixed", "bfloat16"], width: int, name: str
) -> Precision:
    """The precision in which the hidden layers of a network train.

    Args:
        precision: What was asked for.
        width: Width of the hidden layers.
        name: The learner, one of ``networks.LEARNERS``.

    Returns:
        What was asked for. If that was left open: float32 for narrow layers; where bfloat16 is
        measured to be faster, bfloat16 for a network that learns the same curve with it, and else
        mixed, float32 forward and bfloat16 backward; folded on other processors.
    """
    if precision != "auto":
        return precision
    if width < MIN_WIDTH:
        return "float32"
    fast, _ = for_training(torch.device("cpu"), width)
    if fast == "float32":
        return "folded"
    return "mixed" if name in NEEDS_FLOAT32 else "bfloat16"
