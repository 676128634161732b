"""Attention and masks of trees against the formula, token by token."""

import math
from unittest.mock import Mock

import pytest
import torch
from transformers import masking_utils as masks

from hidden_context.data.tokens.trees import lay_out, tree_of
from hidden_context.models.engine import attention
from support.runs import spied

SEQUENCES = [[*range(3, 24), 50, 51], [*range(3, 24), 60], [70, 71, 72]]


LAYOUT = lay_out(SEQUENCES, [tree_of(SEQUENCES, (0, 1)), tree_of(SEQUENCES, (2,))]).layout


def mask_by(rule, layout=LAYOUT, **options):
    sizes = {"batch_size": 1, "q_length": 3, "allow_is_causal_skip": True}
    arguments = sizes | {"attention_mask": torch.ones(1, layout.num_tokens)} | options
    with attention.laid_out(layout):
        return attention.tree_mask(mask_function=rule, **arguments)


window = masks.sliding_window_causal_mask_function
CHUNKS = masks.chunked_causal_mask_function(8, torch.tensor([0]))


@pytest.mark.parametrize(
    ("rule", "visible"),
    [
        (masks.causal_mask_function, None),
        (window(LAYOUT.longest), None),  # plainly causal
        (window(5), lambda row, column: row - column < 5),
        (CHUNKS, lambda row, column: row // 8 == column // 8),
    ],
)
def test_masks_by_the_models_rule(rule, visible):
    mask = mask_by(rule)
    if visible is None:
        assert mask is None
        return
    row, column = torch.meshgrid(*[torch.arange(LAYOUT.longest)] * 2, indexing="ij")
    assert mask.shape == (1, 1, LAYOUT.longest, LAYOUT.longest)
    assert torch.equal(mask[0, 0], (column <= row) & visible(row, column))


@pytest.mark.parametrize(
    ("rule", "options", "words"),
    [
        (masks.bidirectional_mask_function, {}, "its tokens attend to later tokens"),
        (masks.causal_mask_function, {"attention_mask": None}, "an unsupported way"),
        (masks.causal_mask_function, {"use_vmap": True}, "an unsupported way"),
    ],
)
def test_masks_that_are_refused(rule, options, words):
    with pytest.raises(attention.TreeUnsupportedError, match=words):
        mask_by(rule, **options)
    outside_of_any_layout = {"mask_function": rule, "attention_mask": torch.ones(1, 3)}
    with pytest.raises(attention.TreeUnsupportedError, match="an unsupported way"):
        attention.tree_mask(**outside_of_any_layout)


class Layer(torch.nn.Module):
    """What the attention function is told of a layer: its identity."""


def row_of_states(heads=2, kept=2, size=4):
    """Queries, keys and values of a prompt of 3 with two responses of 2 and 1."""
    sequences = [[5, 6, 7, 8, 9], [5, 6, 7, 3]]
    layout = lay_out(sequences, [tree_of(sequences, (0, 1))]).layout
    states = [torch.randn(1, count, 6, size) for count in (heads, kept, kept)]
    return layout, *states


def by_hand(layout, query, key, value, *, window=None, softcap=None, sinks=None, scaling=None):
    """Softmax attention token by token, in float64."""
    heads, size = query.shape[1], query.shape[-1]
    result = torch.zeros(1, query.shape[2], heads, size)
    for start, length, parent, shared in layout.blocks:
        places = [*range(parent, parent + shared), *range(start, start + length)]
        for position in range(shared, shared + length):
            first = 0 if window is None else max(0, position - window + 1)
            for head in range(heads):
                kept = head * key.shape[1] // heads
                q = query[0, head, places[position]].double()
                seen = places[first : position + 1]
                scores = [
                    float(q @ key[0, kept, p].double()) * (scaling or size**-0.5) for p in seen
                ]
                if softcap is not None:
                    scores = [softcap * math.tanh(score / softcap) for score in scores]
                weights = [math.exp(score) for score in scores]
                total = sum(weights) + (0 if sinks is None else math.exp(float(sinks[head])))
                result[0, places[position], head] = sum(
                    (w / total) * value[0, kept, p] for w, p in zip(weights, seen, strict=True)
                )
    return result


SINKS = torch.tensor([0.5, -1.0, 2.0, 0.0])
OPTIONS = [
    *({}, {"scaling": 0.3}, {"softcap": 0.7}, {"softcap": 2.0, "scaling": 1.5}, {"sinks": SINKS}),
    *({"sinks": SINKS, "window": 2}, {"window": 2}, {"window": 3, "softcap": 0.7}),
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kept", [1, 2, 4])
def test_attention_by_hand(options, kept):
    layout, query, key, value = row_of_states(heads=4, kept=kept)
    expected = by_hand(layout, query, key, value, **options)
    names = {"scaling": "scaling", "softcap": "softcap", "sinks": "s_aux"}
    passed = {names[name]: value for name, value in options.items() if name in names}
    rule = window(options.get("window", layout.longest))
    layers = [Layer(), Layer()]
    for layer in layers:
        mask = mask_by(rule, layout)
        found, weights = attention.tree_attention(layer, query, key, value, mask, layout, **passed)
    assert layout.seen == {id(layer) for layer in layers}
    assert weights is None
    assert found.shape == (1, 6, 4, 4)
    assert torch.allclose(found, expected, atol=1e-6)


REFUSED = [{"tree": None}, {"position_bias": torch.zeros(1)}, {"is_causal": False}]


@pytest.mark.parametrize(("options", "rows"), [*((each, 1) for each in REFUSED), ({}, 2)], ids=str)
def test_attention_that_is_refused(options, rows):
    layout, *states = row_of_states()
    states = [state.expand(rows, -1, -1, -1) for state in states]
    with pytest.raises(attention.TreeUnsupportedError, match="Layer computes attention in an uns"):
        attention.tree_attention(Layer(), *states, None, **({"tree": layout} | options))
    assert layout.seen == set()


def test_dropout_of_attention_weights_is_applied():
    layout, *states = row_of_states()
    plain, _ = attention.tree_attention(Layer(), *states, None, layout)
    for softcap in (None, 50.0):
        options = {"tree": layout, "dropout": 0.5, "softcap": softcap}
        draws = [attention.tree_attention(Layer(), *states, None, **options)[0] for _ in range(600)]
        mean = torch.stack(draws).mean(0)
        assert (draws[0] - draws[1]).abs().max() > 0.1
        # 600 draws of values of about 1: a standard error of about 0.04
        assert (mean - plain).abs().max() < 0.25


def flash(query, key, value, of_queries, of_keys, longest_query, longest_key, **options):
    """What variable-length flash attention computes, by its description, in float32."""
    assert options["window_size"] == (-1, 0)  # causal, aligned at the end of the keys
    assert options["enable_gqa"] == (query.shape[1] != key.shape[1])
    repeats = query.shape[1] // key.shape[1]
    outputs = []
    for number in range(len(of_queries) - 1):
        q = query[of_queries[number] : of_queries[number + 1]].transpose(0, 1)
        at = slice(of_keys[number], of_keys[number + 1])
        k, v = (x[at].transpose(0, 1).repeat_interleave(repeats, 0) for x in (key, value))
        count, of = q.shape[1], k.shape[1]
        assert count <= longest_query
        assert of <= longest_key
        scale = q.shape[-1] ** -0.5 if options["scale"] is None else options["scale"]
        visible = torch.ones(count, of, dtype=torch.bool).tril(of - count)
        scores = (q @ k.transpose(1, 2) * scale).masked_fill(~visible, -torch.inf)
        outputs.append((scores.softmax(-1) @ v).transpose(0, 1))
    return torch.cat(outputs)


@pytest.mark.parametrize("kept", [1, 2, 4])
@pytest.mark.parametrize("scaling", [None, 0.3])
def test_variable_length_attention_is_told_the_same(monkeypatch, kept, scaling):
    """The path of GPUs, with PyTorch's function there replaced by its description."""
    layout, *states = row_of_states(heads=4, kept=kept)
    expected, _ = attention.tree_attention(Layer(), *states, None, layout, scaling=scaling)
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", flash)
    monkeypatch.setattr(attention, "_has_variable_length", lambda query: True)
    for _ in range(2):  # the second layer finds the offsets in the layout
        found, _ = attention.tree_attention(Layer(), *states, None, layout, scaling=scaling)
        assert torch.allclose(found, expected, atol=1e-6)
    assert "offsets" in layout.memo


def test_variable_length_attention_is_for_gpus_and_plain_layers_only(monkeypatch):
    layout, query, key, value = row_of_states()
    assert not attention._has_variable_length(query)
    assert not attention._has_variable_length(query.bfloat16())

    monkeypatch.setattr(attention, "_has_variable_length", lambda query: True)
    monkeypatch.setattr(attention, "_variable_length", asked := Mock())
    mask = mask_by(window(2), layout)
    for options in ({"softcap": 1.0}, {"s_aux": torch.zeros(2)}, {"dropout": 0.5}):
        attention.tree_attention(Layer(), query, key, value, None, layout, **options)
    attention.tree_attention(Layer(), query, key, value, mask, layout)
    assert not asked.called


def test_training_in_half_precision_attends_in_float32(monkeypatch):
    """A CPU's backward pass of attention is slow in bfloat16, so it gets float32 under autocast."""
    layout, *exact = row_of_states(size=8)
    seen = spied(
        monkeypatch,
        *(attention, "scaled_dot_product_attention"),
        lambda query, *_, **__: query.dtype,
    )
    half = [x.bfloat16().requires_grad_() for x in exact]
    module = Layer()
    with torch.autocast("cpu", torch.bfloat16):
        output, _ = attention.tree_attention(module, *half, None, tree=layout)
    assert output.dtype == torch.bfloat16
    assert set(seen) == {torch.float32}
    expected, _ = attention.tree_attention(
        module, *[x.detach().float() for x in half], None, tree=layout
    )
    assert (output.float() - expected).abs().max() < 0.01
    output.float().sum().backward()
    assert all(x.grad is not None and x.grad.dtype == torch.bfloat16 for x in half)
    seen.clear()
    with torch.no_grad():
        attention.tree_attention(module, *half, None, tree=layout)
    assert set(seen) == {torch.bfloat16}
