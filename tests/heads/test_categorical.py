import pytest
import torch

from hidden_context import heads


def test_entropy_penalty_is_that_of_the_mean_distribution():
    head = heads.make("categorical", num_atoms=3, entropy_coeff=0.2)
    torch.manual_seed(0)
    a, b = torch.randn(2, 4, 3, dtype=torch.float64)
    mean = torch.cat([a.softmax(-1), b.softmax(-1)]).mean(0)
    assert head.penalty(a, b).item() == pytest.approx(0.2 * (mean * mean.log()).sum().item())
    spread = head.penalty(torch.eye(3)[:2] * 100, torch.eye(3)[2:].expand(2, 3) * 100)
    alike = head.penalty(torch.eye(3)[:1] * 100, torch.eye(3)[:1] * 100)
    assert spread < alike  # spreading the texts over the atoms is rewarded
    assert alike.item() == pytest.approx(0, abs=1e-6)
    assert head.penalty(a[0], b[0]).item() == pytest.approx(head.penalty(a[:1], b[:1]).item())


def test_tie_threshold_is_in_units_of_the_grid():
    # five atoms are ¼ apart: all of the neighbours' ties are left out below ⅛, half taken in at ¼
    head = heads.make("categorical", num_atoms=5)
    certain = torch.full((5, 5), -1000.0).fill_diagonal_(0.0)
    first, second = head.distribution(certain[3]), head.distribution(certain[2])
    difference = first.difference(second)
    ties = [difference.log_prob_between(-t, t).exp().item() for t in (0.125, 0.25, 0.375)]
    assert ties == pytest.approx([0, 0.5, 1])
