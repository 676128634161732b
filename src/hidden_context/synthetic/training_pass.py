"""The training pass of a perceptron, with fewer and cheaper passes over the batch.

Three things make it fast: the hidden products may be bfloat16 in one direction or both; the first
two layers of a network over a single number are evaluated by segments (see ``folding``); and the
hidden layers are one step of automatic differentiation that keeps only the activations after ReLU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hidden_context.synthetic.arithmetic import Arithmetic
from hidden_context.synthetic.folding import row_blocks, two_layers

Activations = tuple[Tensor, Tensor]
"""Activations after a ReLU: in the precision of the backward pass, through which gradients go,
and in that of the forward pass, without a gradient."""

Stage = tuple[nn.Linear, nn.BatchNorm1d | None]
"""A hidden linear layer and its batch norm."""

FOLD_FROM = {torch.bfloat16: 4}
"""Rows per unit of width from which on segments are faster than a matrix product, by the precision
of that product; 2 for others."""


def training_pass(network: nn.Sequential, inputs: Tensor, arithmetic: Arithmetic) -> Tensor:
    """Apply a perceptron in training mode.

    Args:
        network: Linear layers, each but the last followed by an optional batch norm and a ReLU.
        inputs: ``(B, inputs)``, in the precision of the weights.
        arithmetic: Precision of the hidden layers.

    Returns:
        Outputs, ``(B, outputs)``, in the precision of the weights; gradients reach the weights in
        their own precision.
    """
    hidden, last = _stages(network)
    (first, first_norm), (second, second_norm) = hidden[:2]
    least = FOLD_FROM.get(arithmetic.forward, 2) * first.out_features
    if inputs.shape[1] > 1 or len(inputs) < least:
        if first_norm is None:
            kept, exact = _FirstLayer.apply(inputs, first.weight, first.bias, arithmetic)
            activations = kept, kept.detach() if exact is None else exact
        else:
            activations = _relu(first_norm(first(inputs)), arithmetic)
        return _after(activations, hidden[1:], last, arithmetic)
    ascending, order = inputs[:, 0].sort()
    norms = None if first_norm is None or second_norm is None else (first_norm, second_norm)
    activations = two_layers(ascending, first, second, arithmetic, norms)
    outputs = _after(activations, hidden[2:], last, arithmetic)
    return torch.zeros_like(outputs).index_copy(0, order, outputs)


def _stages(network: nn.Sequential) -> tuple[list[Stage], nn.Linear]:
    """Return the hidden linear layers, each with its batch norm if any, and the last layer."""
    hidden: list[Stage] = []
    for module in network:
        if isinstance(module, nn.Linear):
            hidden.append((module, None))
        elif isinstance(module, nn.BatchNorm1d):
            hidden[-1] = (hidden[-1][0], module)
    return hidden[:-1], hidden[-1][0]


def _relu(values: Tensor, arithmetic: Arithmetic) -> Activations:
    """Apply ReLU in the precision of each direction."""
    if arithmetic.forward == arithmetic.backward:
        kept = values.to(arithmetic.backward).relu()
        return kept, kept.detach()
    exact = values.detach().to(arithmetic.forward).relu()
    return values.to(arithmetic.backward).relu(), exact


class _FirstLayer(torch.autograd.Function):
    """A linear layer of few inputs and its ReLU, as one product that writes rounded activations.

    A float32 number is the sum of two bfloat16 numbers to 2^-17. With the parts of inputs and
    weights side by side, a bfloat16 product has the same accuracy. Only its outputs are
    rounded, once.
    """

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, arithmetic: Arithmetic
    ) -> Any:
        forward, backward = arithmetic.forward, arithmetic.backward
        high, low = _parts(inputs)
        ones = torch.ones_like(high[:, :1])
        if forward == torch.bfloat16:
            unit_high, unit_low = _parts(torch.cat((weight, bias[:, None]), 1))
            rows = torch.cat((high, ones, high, ones, low), 1)
            units = torch.cat((unit_high, unit_low, unit_high[:, :-1]), 1)
            activations = _linear(rows, units, None)
        else:
            activations = _linear(inputs, weight, bias)
        activations.relu_()
        kept = activations.to(backward)
        halves = (high, low, ones) if backward == torch.bfloat16 else (inputs, ones.to(backward))
        ctx.save_for_backward(kept, torch.cat(halves, 1))
        ctx.shape, ctx.dtype = weight.shape, weight.dtype
        if forward == backward:
            return kept, None
        ctx.mark_non_differentiable(activations)
        return kept, activations

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        kept, parts = ctx.saved_tensors
        gradient = torch.ops.aten.threshold_backward(grad_outputs[0], kept, 0)
        sums = (gradient.t() @ parts).to(ctx.dtype)
        outputs, inputs = ctx.shape
        weight = sums[:, :-1].reshape(outputs, -1, inputs).sum(1)
        return None, weight, sums[:, -1], None


def _parts(values: Tensor) -> tuple[Tensor, Tensor]:
    """Split each number into two bfloat16 numbers with nearly the same sum."""
    high = values.bfloat16()
    return high, (values - high.to(values.dtype)).bfloat16()


def _after(
    activations: Activations, hidden: list[Stage], last: nn.Linear, arithmetic: Arithmetic
) -> Tensor:
    """Apply the layers that follow the activations."""
    while any(norm is not None for _, norm in hidden):
        linear, norm = hidden[0]
        values = _Product.apply(*activations, linear.weight, linear.bias)
        activations = _relu(values if norm is None else norm(values), arithmetic)
        hidden = hidden[1:]
    layers = [*(linear for linear, _ in hidden), last]
    parameters = (parameter for layer in layers for parameter in (layer.weight, layer.bias))
    outputs: Tensor = _Layers.apply(*activations, *parameters)
    return outputs


class _Product(torch.autograd.Function):
    """A linear layer with a precision for each direction."""

    @staticmethod
    def forward(ctx: Any, kept: Tensor, exact: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(kept, weight.to(kept.dtype))
        return _linear(exact, weight.to(exact.dtype), bias.to(exact.dtype))

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        kept, weight = ctx.saved_tensors
        gradient = grad_outputs[0].to(kept.dtype)
        return gradient @ weight, None, gradient.t() @ kept, gradient.sum(0)


class _Layers(torch.autograd.Function):
    """Any number of linear layers with ReLU, then the last linear layer.

    Each layer keeps the activations after its ReLU in the precision of the backward pass. They are
    the factor of the weight's gradient, and their sign gives the gradient of the ReLU. If the
    forward pass is more precise, the rounding errors are kept too: the gradients of two close
    alternatives cancel, and only the difference of their activations remains.
    """

    @staticmethod
    def forward(ctx: Any, kept: Tensor, exact: Tensor, *parameters: Tensor) -> Tensor:
        weights, biases = parameters[::2], parameters[1::2]
        rounded = [weight.to(kept.dtype) for weight in weights]
        low: list[Tensor] = []
        if exact.dtype == kept.dtype:
            saved = [kept]
            for weight, bias in zip(rounded[:-1], biases[:-1], strict=True):
                saved.append(_linear(saved[-1], weight, bias.to(kept.dtype)).relu_())
            outputs = _last_layer(saved[-1], weights[-1], biases[-1])
        else:
            saved = [kept, *(kept.new_empty(len(kept), len(weight)) for weight in weights[:-1])]
            low = [torch.empty_like(values) for values in saved]
            outputs = weights[-1].new_empty(len(kept), len(weights[-1]))
            for block in row_blocks(len(kept)):
                values = exact[block]
                low[0][block] = values - saved[0][block]
                for number, (weight, bias) in enumerate(zip(weights[:-1], biases, strict=False), 1):
                    values = _linear(values, weight, bias).relu_()
                    saved[number][block] = values
                    low[number][block] = values - saved[number][block]
                torch.addmm(biases[-1], values, weights[-1].t(), out=outputs[block])
        ctx.save_for_backward(*saved, *rounded, *low)
        ctx.layers = len(weights)
        return outputs

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        layers = ctx.layers
        saved, weights = ctx.saved_tensors[:layers], ctx.saved_tensors[layers : 2 * layers]
        low = ctx.saved_tensors[2 * layers :]
        dtype = grad_outputs[0].dtype
        gradients = [grad_outputs[0].sum(0)]
        gradient = grad_outputs[0].to(saved[0].dtype)
        for number in reversed(range(layers)):
            of_weight = (gradient.t() @ saved[number]).to(dtype)
            if low:
                of_weight += gradient.t() @ low[number]
            gradients.append(of_weight)
            if number:
                gradient = _before_relu(gradient, weights[number], saved[number])
                gradients.append(gradient.sum(0).to(dtype))
        return gradient @ weights[0], None, *reversed(gradients)


def _before_relu(gradient: Tensor, weight: Tensor, activations: Tensor) -> Tensor:
    """Return the gradient before the ReLU that made a linear layer's inputs."""
    before = gradient.new_empty(activations.shape)
    for block in row_blocks(len(gradient)):
        torch.ops.aten.threshold_backward.grad_input(
            gradient[block] @ weight, activations[block], 0, grad_input=before[block]
        )
    return before


def _last_layer(activations: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Apply a linear layer of few outputs in the precision of its weights."""
    if activations.dtype == weight.dtype:
        return nn.functional.linear(activations, weight, bias)
    outputs = weight.new_empty(len(activations), len(weight))
    for block in row_blocks(len(activations)):
        torch.addmm(bias, activations[block].to(weight.dtype), weight.t(), out=outputs[block])
    return outputs


def _linear(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Apply a linear layer, with oneDNN if possible so that the bias needs no extra pass.

    oneDNN could also apply the ReLU, but its ReLU turns NaN into zero.
    """
    if inputs.dtype == torch.bfloat16 and _has_fused_layers():
        outputs: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")
        return outputs
    return nn.functional.linear(inputs, weight, bias)


def _has_fused_layers() -> bool:
    """Return whether oneDNN has this operation and computes bfloat16 on this processor."""
    operations = torch.ops.mkldnn
    return (
        torch.backends.mkldnn.is_available()
        and hasattr(operations, "_linear_pointwise")
        and hasattr(operations, "_is_mkldnn_bf16_supported")
        and bool(operations._is_mkldnn_bf16_supported())
    )
