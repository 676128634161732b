"""The comparison of two categorical rewards by products of probabilities."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _LogProbGreater(torch.autograd.Function):
    """``log (e_a' M e_b) - log sum e_a - log sum e_b`` with ``e = exp(logits - max)``."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, other: Tensor, below: Tensor) -> Tensor:
        mass, other_mass = _relative(logits), _relative(other)
        beaten = other_mass @ below.t()  # mass of the other below each atom, half of that on it
        joint = (mass * beaten).sum(-1, keepdim=True)
        total, other_total = mass.sum(-1, keepdim=True), other_mass.sum(-1, keepdim=True)
        ctx.save_for_backward(mass, other_mass, beaten, joint, total, other_total, below)
        ctx.dtype = logits.dtype
        return (joint / (total * other_total)).log().squeeze(-1).to(logits.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None]:
        mass, other_mass, beaten, joint, total, other_total, below = ctx.saved_tensors
        gradient = grad_outputs[0].unsqueeze(-1).to(mass.dtype)
        own = mass * (beaten / joint - 1 / total)
        others = other_mass * ((mass @ below) / joint - 1 / other_total)
        return (gradient * own).to(ctx.dtype), (gradient * others).to(ctx.dtype), None


def _relative(logits: Tensor) -> Tensor:
    logits = logits.double()
    return (logits - logits.amax(-1, keepdim=True)).exp()


def log_prob_greater(logits: Tensor, other: Tensor) -> Tensor | None:
    """Log-probability that a categorical reward exceeds another, ties counted half.

    The same number as ``CategoricalReward.log_prob_greater``, which sums logarithms, for a tenth
    of the time: products of probabilities in float64, which reach down to e^-700.

    Args:
        logits: Of the first on K atoms, ``(B, K)``.
        other: Of the second, ``(B, K)``.

    Returns:
        Log-probabilities, ``(B,)``, in nats; None where one is too small for products.
    """
    atoms = logits.shape[-1]
    ones = torch.ones(atoms, atoms, dtype=torch.float64)
    below = ones.tril(-1) + 0.5 * torch.eye(atoms, dtype=torch.float64)
    result: Tensor = _LogProbGreater.apply(logits, other, below)
    return result if bool(result.detach().min() > -400) else None
