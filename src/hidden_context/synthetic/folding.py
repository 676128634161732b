"""Two linear layers over a single input, evaluated by segments without a matrix product.

A layer of H units over one number x is ``relu(a_j x + d_j)``: each unit switches on or off at one
point, ``-d_j / a_j``. Between two such points the next linear layer is a straight line in x,

    z(x) = A_k x + B_k,   A_k = sum of W[:, j] a_j,  B_k = c + sum of W[:, j] d_j,

summed over the units that are on in segment k. From one segment to the next a single unit
switches, so running sums give the lines of all segments for H times O additions, and a row of the
batch is one multiplication per output: R times O instead of R times H times O. From the batch, the
gradients of both layers need only the sums of ``g`` and of ``x g`` over each segment. The result is
the same function in float32, summed in another order.

The line of a segment is stored as its slope and its value at the mean of the segment's rows. This
form keeps digits where slopes are steep, and turns the statistics of a batch norm into sums over
segments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hidden_context.synthetic.arithmetic import Arithmetic

_BLOCK = 16
_ROWS = 512


def row_blocks(rows: int) -> list[slice]:
    """Return blocks of rows whose activations stay in a processor's cache between passes."""
    return [slice(start, start + _ROWS) for start in range(0, rows, _ROWS)]


@dataclass(frozen=True)
class Segments:
    """The segments of a batch, between the points where m units of a layer switch.

    Attributes:
        switching: Units that switch within the batch, ``(m,)``, from left to right.
        signs: 1 where such a unit switches on and -1 where it switches off, ``(m, 1, 1)``.
        on_at_left: Units that are on at the left end, ``(H,)``, 0 or 1.
        always_on: Units that are on for the whole batch, ``(H,)``, 0 or 1.
        starts: First row of each segment, ``(m + 1,)``.
        index: Segment of each row, ``(R,)``.
        counts: Rows of each segment, ``(m + 1,)``.
        centres: Mean input of each segment, ``(m + 1,)``; 0 without rows.
        offsets: Inputs minus the mean of their segment, ``(R,)``.
        squares: Sum of the squared offsets of each segment, ``(m + 1,)``.
    """

    switching: Tensor
    signs: Tensor
    on_at_left: Tensor
    always_on: Tensor
    starts: Tensor
    index: Tensor
    counts: Tensor
    centres: Tensor
    offsets: Tensor
    squares: Tensor


@torch.no_grad()
def find_segments(inputs: Tensor, slopes: Tensor, intercepts: Tensor) -> Segments:
    """Find the segments of a layer over a batch.

    Args:
        inputs: The batch in ascending order, ``(R,)``.
        slopes: ``a``, ``(H,)``.
        intercepts: ``d``, ``(H,)``.

    Returns:
        The segments.
    """
    left, right = inputs[0], inputs[-1]
    points = -intercepts / slopes  # infinite or NaN for a slope of 0: such a unit never switches
    inside = (points > left) & (points < right)
    switching = inside.nonzero().squeeze(-1)
    switching = switching[points[switching].argsort(stable=True)]
    on = slopes * (0.5 * (left + right)) + intercepts > 0
    starts = functional.pad(torch.searchsorted(inputs, points[switching], right=True), (1, 0))
    rows = functional.pad(starts[1:], (0, 1), value=len(inputs)) - starts
    index = torch.repeat_interleave(rows, output_size=len(inputs))
    counts = rows.to(inputs.dtype)
    nothing = torch.zeros_like(counts)
    centres = nothing.index_add(0, index, inputs) / counts.clamp(min=1)
    offsets = inputs - centres[index]
    return Segments(
        switching=switching,
        signs=slopes[switching].sign().reshape(-1, 1, 1),
        on_at_left=torch.where(inside, slopes < 0, on).to(inputs.dtype),
        always_on=(on & ~inside).to(inputs.dtype),
        starts=starts,
        index=index,
        counts=counts,
        centres=centres,
        offsets=offsets,
        squares=nothing.index_add(0, index, offsets.square()),
    )


def running_sums(rows: Tensor) -> Tensor:
    """Return the cumulative sums of rows, ``(N, F) -> (N, F)``.

    The sums are products with triangles of ones, first within blocks of rows and then over the
    blocks. They are several times as fast as ``cumsum``, which walks along columns.
    """
    count, width = rows.shape
    blocks = -(-count // _BLOCK)
    if count % _BLOCK:
        rows = functional.pad(rows, (0, 0, 0, blocks * _BLOCK - count))
    within = rows.new_ones(_BLOCK, _BLOCK).tril() @ rows.view(blocks, _BLOCK, width)
    before = rows.new_ones(blocks, blocks).tril(-1) @ within[:, -1]
    return within.add_(before[:, None]).view(-1, width)[:count]


class _Lines(torch.autograd.Function):
    """The lines of all segments, ``(m + 1, 2, O)``: slope, and value at the segment's centre."""

    @staticmethod
    def forward(
        ctx: Any,
        slopes: Tensor,
        intercepts: Tensor,
        weight: Tensor,
        bias: Tensor,
        segments: Segments,
    ) -> Tensor:
        units = torch.stack((slopes, intercepts))  # (2, H)
        columns = weight.index_select(1, segments.switching).t()  # (m, O)
        own = units[:, segments.switching].t().unsqueeze(-1)  # (m, 2, 1)
        outputs, switches = len(weight), len(columns)
        lines = weight.new_empty(switches + 1, 2, outputs)
        first = (units * segments.on_at_left) @ weight.t()
        first[1] += bias
        lines[0] = first
        if switches:
            steps = (segments.signs * own) * columns.unsqueeze(1)
            sums = running_sums(steps.view(switches, 2 * outputs)).view(switches, 2, outputs)
            torch.add(sums, first, out=lines[1:])
        lines[:, 1].addcmul_(lines[:, 0], segments.centres[:, None])
        ctx.save_for_backward(units, weight, columns, own)
        ctx.segments = segments
        return lines

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        units, weight, columns, own = ctx.saved_tensors
        segments: Segments = ctx.segments
        # a slope also moves the value at the centre
        sums = grad_outputs[0].clone(memory_format=torch.contiguous_format)
        sums[:, 0].addcmul_(sums[:, 1], segments.centres[:, None])
        switches, outputs = len(sums) - 1, sums.shape[-1]
        up_to = running_sums(sums[:-1].view(switches, 2 * outputs)).view(switches, 2, outputs)
        total = up_to[-1] + sums[-1] if switches else sums[0]
        always = units * segments.always_on
        grad_units = (total @ weight) * segments.always_on
        grad_weight = total.t() @ always
        if switches:
            # on to the right of its point, or to the left of it
            active = torch.where(segments.signs > 0, total - up_to, up_to)
            grad_own = (own * active).sum(1)
            grad_weight.index_copy_(1, segments.switching, grad_own.t())
            per_unit = (active @ columns.unsqueeze(-1)).squeeze(-1)
            grad_units.index_copy_(1, segments.switching, per_unit.t())
        return grad_units[0], grad_units[1], grad_weight, total[1], None


class _ReadActivations(torch.autograd.Function):
    """ReLU of the lines at the rows of the batch, ``(m + 1, 2, O) -> (R, O)``.

    The result has one tensor in the precision of the backward pass, and one without a gradient in
    the precision of the forward pass. If the two precisions are the same, only the first is made.
    """

    @staticmethod
    def forward(ctx: Any, lines: Tensor, segments: Segments, arithmetic: Arithmetic) -> Any:
        ctx.segments, ctx.dtype = segments, lines.dtype
        ctx.sums = arithmetic.forward  # a more precise forward pass deserves more precise sums
        rows, outputs = len(segments.index), lines.shape[-1]
        table = lines.view(-1, outputs)
        index = torch.stack((2 * segments.index, 2 * segments.index + 1), 1)
        weights = torch.stack((segments.offsets, torch.ones_like(segments.offsets)), 1)
        same = arithmetic.forward == arithmetic.backward
        kept = lines.new_empty(rows, outputs, dtype=arithmetic.backward)
        exact = None if same else lines.new_empty(rows, outputs, dtype=arithmetic.forward)
        for block in row_blocks(rows):
            values = functional.embedding_bag(
                index[block], table, mode="sum", per_sample_weights=weights[block]
            )
            kept[block] = values.relu_()
            if exact is not None:
                exact[block] = values
        ctx.save_for_backward(kept)
        if exact is not None:
            ctx.mark_non_differentiable(exact)
        return kept, exact

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor, None, None]:
        (kept,) = ctx.saved_tensors
        segments: Segments = ctx.segments
        gradient = torch.ops.aten.threshold_backward(grad_outputs[0], kept, 0)
        gradient = gradient.to(ctx.sums)
        rows = torch.arange(len(segments.index))
        weights = torch.cat((segments.offsets, torch.ones_like(segments.offsets)))
        sums = functional.embedding_bag(
            torch.cat((rows, rows)),
            gradient,
            torch.cat((segments.starts, segments.starts + len(rows))),
            mode="sum",
            per_sample_weights=weights.to(gradient.dtype),
        )
        by_line = sums.view(2, -1, sums.shape[-1]).transpose(0, 1)
        return by_line.to(ctx.dtype, memory_format=torch.contiguous_format), None, None


def two_layers(
    inputs: Tensor,
    first: nn.Linear,
    second: nn.Linear,
    arithmetic: Arithmetic,
    norms: tuple[nn.BatchNorm1d, nn.BatchNorm1d] | None = None,
) -> tuple[Tensor, Tensor]:
    """Apply linear and ReLU twice to a single number, with batch norm before each ReLU if any.

    Args:
        inputs: In ascending order, ``(R,)``.
        first: Linear layer of one input and H outputs.
        second: Linear layer of H inputs and O outputs.
        arithmetic: Precision of the activations and of their gradients.
        norms: A batch norm in training mode after each layer; running statistics are updated.

    Returns:
        The activations ``(R, O)``, see ``training_pass.Activations``.
    """
    slopes: Tensor = first.weight[:, 0]
    intercepts: Tensor = first.bias
    if norms is not None:
        slopes, intercepts = _normalised_units(inputs, slopes, intercepts, norms[0])
    segments = find_segments(inputs, slopes, intercepts)
    lines: Tensor = _Lines.apply(slopes, intercepts, second.weight, second.bias, segments)
    if norms is not None:
        norm = norms[1]
        parameters = (norm.weight, norm.bias, norm.eps)
        lines, mean, variance = _NormalisedLines.apply(lines, segments, *parameters)
        _update(norm, mean, variance, len(inputs))
    kept, exact = _ReadActivations.apply(lines, segments, arithmetic)
    return kept, kept.detach() if exact is None else exact


def _normalised_units(
    inputs: Tensor, slopes: Tensor, intercepts: Tensor, norm: nn.BatchNorm1d
) -> tuple[Tensor, Tensor]:
    """Apply batch norm to ``a x + d``; mean and variance follow from the moments of x."""
    variance, mean = torch.var_mean(inputs, correction=0)
    of_units = slopes.square() * variance
    _update(norm, slopes * mean + intercepts, of_units, len(inputs))
    scaled = slopes * norm.weight * torch.rsqrt(of_units + norm.eps)
    return scaled, norm.bias - scaled * mean


class _NormalisedLines(torch.autograd.Function):
    """Batch norm of the outputs, applied to lines: every row has the slope of its segment.

    With offsets that sum to zero in each segment, the variance over rows is
    ``sum of (n_k v_k^2 + q_k A_k^2) / R`` with ``v`` the centred values and ``q`` the squares.
    """

    @staticmethod
    def forward(
        ctx: Any, lines: Tensor, segments: Segments, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        shares = torch.stack((segments.squares, segments.counts), 1) / len(segments.index)
        mean = shares[:, 1] @ lines[:, 1]
        normal = lines.clone()
        normal[:, 1] -= mean
        variance = shares.flatten() @ normal.square().view(-1, len(mean))
        inverse = torch.rsqrt(variance + eps)
        normal *= inverse
        outputs = normal * weight
        outputs[:, 1] += bias
        ctx.save_for_backward(normal, shares, weight * inverse)
        ctx.mark_non_differentiable(mean, variance)
        return outputs, mean, variance

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        normal, shares, scale = ctx.saved_tensors
        gradient = grad_outputs[0]
        weight, bias = (gradient * normal).sum((0, 1)), gradient[:, 1].sum(0)
        lines = torch.addcmul(gradient, normal * shares.unsqueeze(-1), weight, value=-1)
        lines[:, 1].addr_(shares[:, 1], bias, alpha=-1)
        return lines.mul_(scale), None, weight, bias, None


@torch.no_grad()
def _update(norm: nn.BatchNorm1d, mean: Tensor, variance: Tensor, count: int) -> None:
    """Update the running statistics as a batch norm in training does."""
    momentum: Any = norm.momentum
    norm.get_buffer("running_mean").lerp_(mean, momentum)
    norm.get_buffer("running_var").lerp_(variance * (count / (count - 1)), momentum)
    norm.get_buffer("num_batches_tracked").add_(1)
