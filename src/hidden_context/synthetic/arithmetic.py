"""The numerical precision of training in the synthetic experiments.

Nearly all arithmetic of a training step is in the square matrix products of the hidden layers.
Some processors multiply bfloat16 matrices, with float32 sums inside, many times as fast as float32
matrices. The speed of this processor is measured.
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
    """The precision of the hidden layers of a network in training.

    Weights, first layer, likelihood, statistics of batch norm and evaluation are always float32.

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
    """Choose the precision of the hidden layers of a network in training.

    Args:
        precision: The requested precision; ``auto`` leaves the choice open.
        width: Width of the hidden layers.
        name: The learner, one of ``networks.LEARNERS``.

    Returns:
        The requested precision. For ``auto``: float32 for narrow layers. Where bfloat16 is measured
        to be faster, bfloat16 for a network that learns the same curve in bfloat16, and otherwise
        mixed (float32 forward, bfloat16 backward). On other processors, folded.
    """
    if precision != "auto":
        return precision
    if width < MIN_WIDTH:
        return "float32"
    fast, _ = for_training(torch.device("cpu"), width)
    if fast == "float32":
        return "folded"
    return "mixed" if name in NEEDS_FLOAT32 else "bfloat16"
