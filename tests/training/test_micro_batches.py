"""Dividing an optimiser step into forward passes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hidden_context import heads
from hidden_context.data.trees import tree_of
from hidden_context.errors import ConfigError
from hidden_context.models.backbone import build_model
from hidden_context.models.forward import tree_attention_in
from hidden_context.training.dataset import PairTokens
from hidden_context.training.micro_batches import (
    MicroBatch,
    bring_to,
    divide,
    raw_outputs_of_pairs,
)

SHAPES = st.lists(
    st.tuples(st.integers(0, 12), st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=20
)
WAYS = ("tree", "padded")


def pairs_of(shapes) -> PairTokens:
    """Pairs of a shared beginning and two ends that differ from their first token on."""
    starts = [[5 + n % 7 for n in range(shared)] for shared, _, _ in shapes]
    return PairTokens(
        [s + [20 + n for n in range(a)] for s, (_, a, _) in zip(starts, shapes, strict=True)],
        [s + [60 + n for n in range(b)] for s, (_, _, b) in zip(starts, shapes, strict=True)],
    )


@given(SHAPES, st.integers(1, 200), st.sampled_from(WAYS))
def test_every_pair_stands_in_one_micro_batch_within_the_budget(shapes, budget, way):
    tokens = pairs_of(shapes)
    batches = divide(tokens, way, budget)
    order = [pair for batch in batches for pair in batch.pairs]
    assert sorted(order) == list(range(len(shapes)))
    for batch in batches:
        members = [shapes[pair] for pair in batch.pairs]
        if way == "tree":
            expected = sum(shared + a + b for shared, a, b in members)
        else:
            expected = 2 * len(members) * max(shared + max(a, b) for shared, a, b in members)
        assert batch.tokens == expected
        assert batch.weight == 1.0
        assert batch.tokens <= budget or len(batch.pairs) == 1
    alone = [divide(pairs_of([shapes[pair]]), way, 1)[0].tokens for pair in order]
    assert alone == sorted(alone, reverse=True)
    assert batches[0].tokens >= alone[0]


@given(SHAPES, st.integers(1, 100), st.integers(1, 100), st.sampled_from(WAYS))
def test_a_larger_budget_never_needs_more_passes(shapes, budget, more, way):
    tokens = pairs_of(shapes)
    assert len(divide(tokens, way, budget + more)) <= len(divide(tokens, way, budget))
    assert len(divide(tokens, way, 10**6)) == 1
    assert len(divide(tokens, way, 1)) == len(shapes)


@given(SHAPES, st.integers(1, 200))
def test_the_tree_way_never_runs_more_tokens(shapes, budget):
    tokens = pairs_of(shapes)
    tree, padded = (sum(b.tokens for b in divide(tokens, way, budget)) for way in WAYS)
    assert tree <= padded


def test_a_budget_below_one_is_an_error():
    with pytest.raises(ConfigError, match="at least 1, not 0"):
        divide(pairs_of([(2, 3, 4)]), "tree", 0)


@given(SHAPES, st.integers(1, 200), st.integers(0, 12), st.sampled_from(WAYS))
def test_processes_are_brought_to_the_same_number_of_passes(shapes, budget, more, way):
    batches = divide(pairs_of(shapes), way, budget)
    divided = bring_to(len(batches) + more, batches)
    assert len(divided) == len(batches) + more
    counted = [pair for batch in divided if batch.weight for pair in batch.pairs]
    assert sorted(counted) == list(range(len(shapes)))
    for batch in divided:
        assert batch.weight == 1.0 or (batch.weight == 0.0 and len(batch.pairs) == 1)
        assert batch.pairs
    if any(batch.weight == 0 for batch in divided):  # only where nothing is left to divide
        assert all(len(batch.pairs) == 1 for batch in divided)
    if not more:
        assert divided == batches
    # no token is counted twice where a micro-batch is divided
    total = sum(batch.tokens for batch in batches)
    assert sum(batch.tokens for batch in divided if batch.weight) == total


def test_the_largest_micro_batch_is_divided_first():
    batches = [MicroBatch([4, 2], 20), MicroBatch([0, 1, 3], 30), MicroBatch([5], 40)]
    assert bring_to(4, batches) == [
        MicroBatch([4, 2], 20),
        MicroBatch([0], 10),
        MicroBatch([1, 3], 20),
        MicroBatch([5], 40),
    ]
    assert [batch.weight for batch in bring_to(8, batches)] == [1.0] * 6 + [0.0] * 2


@pytest.mark.parametrize("head", ["base", "mean_and_variance", "categorical"])
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_both_ways_give_the_same_outputs_and_gradients(backbones, kind, head):
    shapes = [(9, 4, 7), (0, 3, 5), (20, 1, 1), (6, 8, 2), (1, 1, 12)]
    tokens = pairs_of(shapes)
    tokens.rejected[3] = tokens.chosen[3][:8]  # one side is the beginning of the other
    tokens.rejected[2] = list(tokens.chosen[2])  # both sides are the same
    module = build_model(backbones(kind), heads.make(head), tuning="full", pad_token_id=0)
    pairs, found = [3, 0, 4, 2], {}
    for way, multiple in (("padded", 1), ("padded", 16), ("tree", 1)):
        module.zero_grad()
        if way == "tree":
            with tree_attention_in(module):
                raw = raw_outputs_of_pairs(module, tokens, pairs, way, 0)
        else:
            raw = raw_outputs_of_pairs(module, tokens, pairs, way, 0, multiple)
        raw.square().sum().backward()
        gradients = {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}
        found[way, multiple] = raw.detach(), gradients
    expected, gradients = found["padded", 1]
    assert expected.shape == (4, 2, heads.make(head).num_outputs)
    assert torch.allclose(expected[3, 0], expected[3, 1], atol=1e-7)
    assert (expected[0, 0] - expected[0, 1]).abs().max() > 1e-4
    for raw, others in found.values():
        assert torch.allclose(raw, expected, atol=1e-6)
        assert set(others) == set(gradients)
        for name, gradient in others.items():
            assert torch.allclose(gradient, gradients[name], atol=1e-6), name


def test_the_tree_of_a_pair_counts_its_beginning_once():
    sides = [[1, 2, 3, 4], [1, 2, 9]]
    assert tree_of(sides, (0, 1)).num_tokens == 5
    (batch,) = divide(PairTokens([sides[0]], [sides[1]]), "tree", 100)
    assert batch == MicroBatch([0], 5, 1.0)
    (batch,) = divide(PairTokens([sides[0]], [sides[1]]), "padded", 100)
    assert batch == MicroBatch([0], 8, 1.0)
