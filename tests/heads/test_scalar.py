import math

import pytest
import torch

from hidden_context import heads


def test_base_is_a_sigmoid_of_the_difference():
    head = heads.make("scalar")
    assert head.type == "base"
    result = head.log_prob_preferred(torch.tensor([[2.0]]), torch.tensor([[0.5]])).item()
    assert result == pytest.approx(-math.log1p(math.exp(-1.5)), rel=1e-6)
    assert head.penalty(torch.ones(2, 1), torch.ones(2, 1)).item() == 0
