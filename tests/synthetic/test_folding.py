from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from hidden_context.synthetic.arithmetic import Arithmetic
from hidden_context.synthetic.folding import find_segments, running_sums, two_layers

EXACT = Arithmetic(torch.float64, torch.float64)


def layers(units: int, outputs: int) -> tuple[nn.Linear, nn.Linear]:
    torch.manual_seed(0)
    return nn.Linear(1, units).double(), nn.Linear(units, outputs).double()


def norms(units: int, outputs: int) -> tuple[nn.BatchNorm1d, nn.BatchNorm1d]:
    torch.manual_seed(1)
    made = nn.BatchNorm1d(units).double(), nn.BatchNorm1d(outputs).double()
    for norm in made:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return made


def gradients(*modules: nn.Module) -> list[Tensor]:
    parameters = (parameter for module in modules for parameter in module.parameters())
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 100])
def test_running_sums_are_those_of_cumsum(count: int) -> None:
    rows = torch.randn(count, 3, dtype=torch.float64)
    torch.testing.assert_close(running_sums(rows), rows.cumsum(0))


def test_segments_lie_between_the_points_where_units_switch() -> None:
    slopes = torch.tensor([2.0, -1.0, 0.0, 0.0, 1.0, 1.0, 4.0])
    intercepts = torch.tensor([-1.0, 0.25, 1.0, -1.0, 5.0, -5.0, -3.0])
    inputs = torch.tensor([0.0, 0.1, 0.3, 0.4, 0.6, 1.0])
    segments = find_segments(inputs, slopes, intercepts)
    assert segments.switching.tolist() == [1, 0, 6]  # at 0.25, 0.5 and 0.75
    assert segments.signs.flatten().tolist() == [-1, 1, 1]
    assert segments.on_at_left.tolist() == [0, 1, 1, 0, 1, 0, 0]
    assert segments.always_on.tolist() == [0, 0, 1, 0, 1, 0, 0]
    assert segments.starts.tolist() == [0, 2, 4, 5]
    assert segments.index.tolist() == [0, 0, 1, 1, 2, 3]
    assert segments.counts.tolist() == [2, 2, 1, 1]
    assert segments.centres.tolist() == pytest.approx([0.05, 0.35, 0.6, 1.0])
    assert segments.squares.tolist() == pytest.approx([0.005, 0.005, 0, 0], abs=1e-7)


@pytest.mark.parametrize("with_norms", [False, True])
@pytest.mark.parametrize(("units", "rows"), [(48, 300), (300, 20), (3, 64)])
def test_two_layers_are_the_layers_one_after_the_other(
    units: int, rows: int, with_norms: bool
) -> None:
    first, second = layers(units, 7)
    pair = norms(units, 7) if with_norms else None
    twins = copy.deepcopy((first, second, pair))
    inputs = torch.rand(rows, dtype=torch.float64).sort().values
    direction = torch.randn(rows, 7, dtype=torch.float64)

    kept, exact = two_layers(inputs, first, second, EXACT, pair)
    values = inputs[:, None]
    for number, linear in enumerate(twins[:2]):
        assert isinstance(linear, nn.Linear)
        values = linear(values)
        if twins[2] is not None:
            values = twins[2][number](values)
        values = values.relu()
    torch.testing.assert_close(kept, values, rtol=1e-10, atol=1e-10)
    assert torch.equal(kept, exact)
    assert not exact.requires_grad

    kept.backward(direction)
    values.backward(direction)
    ours, theirs = (first, second, *(pair or ())), (*twins[:2], *(twins[2] or ()))
    for one, other in zip(gradients(*ours), gradients(*theirs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    for module, twin in zip(pair or (), twins[2] or (), strict=True):
        for one, other in zip(module.buffers(), twin.buffers(), strict=True):
            torch.testing.assert_close(one, other)


def test_a_batch_of_one_value_has_one_segment() -> None:
    first, second = layers(5, 2)
    inputs = torch.full((4,), 0.3, dtype=torch.float64)
    kept, _ = two_layers(inputs, first, second, EXACT)
    torch.testing.assert_close(kept, second(first(inputs[:, None]).relu()).relu())
    kept.sum().backward()
    assert all(gradient.isfinite().all() for gradient in gradients(first, second))


def test_steep_lines_keep_their_digits_in_float32() -> None:
    first, second = layers(64, 4)
    with torch.no_grad():
        first.weight.mul_(1e4)
        first.bias.copy_(-0.8 * first.weight[:, 0] + torch.randn(64, dtype=torch.float64))
    single = copy.deepcopy(first).float(), copy.deepcopy(second).float()
    pair = norms(64, 4)[1]
    inputs = torch.rand(512, dtype=torch.float64).sort().values
    arithmetic = Arithmetic(torch.float32, torch.float32)
    norms32 = nn.BatchNorm1d(64), copy.deepcopy(pair).float()
    exact, _ = two_layers(inputs, first, second, EXACT, (nn.BatchNorm1d(64).double(), pair))
    rounded, _ = two_layers(inputs.float(), *single, arithmetic, norms32)
    torch.testing.assert_close(rounded.double(), exact, rtol=1e-3, atol=1e-3)
    variance, expected = norms32[1].running_var, pair.running_var
    assert variance is not None
    assert expected is not None
    torch.testing.assert_close(variance.double(), expected, rtol=1e-4, atol=0)
