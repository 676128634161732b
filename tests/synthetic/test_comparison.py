from __future__ import annotations

import pytest
import torch

from hidden_context.distributions import CategoricalReward
from hidden_context.synthetic.comparison import log_prob_greater


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_products_give_what_sums_of_logarithms_give(scale: float) -> None:
    torch.manual_seed(0)
    logits = (scale * torch.randn(2, 50, 20, dtype=torch.float64)).requires_grad_()
    ours = log_prob_greater(*logits)
    assert ours is not None
    theirs = CategoricalReward(logits[0]).log_prob_greater(CategoricalReward(logits[1]))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    (gradient,) = torch.autograd.grad(ours.sum(), logits)
    (expected,) = torch.autograd.grad(theirs.sum(), logits)
    torch.testing.assert_close(gradient, expected, rtol=1e-7, atol=1e-10)


def test_two_atoms_in_closed_form() -> None:
    # P = p(1 - q) + (pq + (1 - p)(1 - q)) / 2 with p, q the probabilities of the upper atom
    p, q = 0.9, 0.25
    logits, other = torch.tensor([[1 - p, p]]).log(), torch.tensor([[1 - q, q]]).log()
    result = log_prob_greater(logits, other)
    assert result is not None
    assert result.dtype == torch.float32
    expected = p * (1 - q) + (p * q + (1 - p) * (1 - q)) / 2
    assert result.exp().item() == pytest.approx(expected, rel=1e-6)


def test_it_declines_where_products_would_vanish() -> None:
    low = torch.tensor([[0.0, -900.0]])
    assert log_prob_greater(low, low.flip(-1)) is None
    assert log_prob_greater(low.flip(-1), low) is not None
