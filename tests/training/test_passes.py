"""Dividing an optimiser step into forward passes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hidden_context.data.tokens.trees import tree_of
from hidden_context.errors import ConfigError
from hidden_context.training.dataset import Tokens
from hidden_context.training.passes import Pass, bring_to, divide

# for each example what its responses share, and what each has of its own
SHAPES = st.lists(
    st.tuples(st.integers(0, 12), st.lists(st.integers(1, 12), min_size=1, max_size=4)),
    min_size=1,
    max_size=20,
)
WAYS = ("tree", "padded")


def tokens_of(shapes) -> list[Tokens]:
    """Examples of a shared beginning and ends that differ from their first token on."""
    return [
        [[5 + n % 7 for n in range(shared)] + [20 + 20 * e + n for n in range(size)]
         for e, size in enumerate(ends)]
        for shared, ends in shapes
    ]  # fmt: skip


@given(SHAPES, st.integers(1, 200), st.sampled_from(WAYS))
def test_every_example_stands_in_one_pass_within_the_budget(shapes, budget, way):
    tokens = tokens_of(shapes)
    passes = divide(tokens, way, budget)
    order = [example for each in passes for example in each.examples]
    assert sorted(order) == list(range(len(shapes)))
    for each in passes:
        members = [shapes[example] for example in each.examples]
        if way == "tree":
            expected = sum(shared + sum(ends) for shared, ends in members)
        else:
            longest = max(shared + max(ends) for shared, ends in members)
            expected = sum(len(ends) for _, ends in members) * longest
        assert each.tokens == expected
        assert each.weight == 1.0
        assert each.tokens <= budget or len(each.examples) == 1
    if way == "tree":
        alone = [divide([tokens[example]], way, 1)[0].tokens for example in order]
        assert passes[0].tokens >= alone[0]
    else:
        alone = [max(map(len, tokens[example])) for example in order]
    assert alone == sorted(alone, reverse=True)


@given(SHAPES, st.integers(1, 200), st.sampled_from(WAYS), st.data())
def test_groups_stay_together(shapes, budget, way, data):
    """Linked examples are never parted, whatever the budget and the number of passes."""
    number = data.draw(st.lists(st.integers(0, 4), min_size=len(shapes), max_size=len(shapes)))
    found: dict[int, list[int]] = {}
    for example, group in enumerate(number):
        found.setdefault(group, []).append(example)
    together = list(found.values())
    tokens = tokens_of(shapes)
    passes = divide(tokens, way, budget, together)
    more = bring_to(len(passes) + 3, passes, together)
    assert len(more) == len(passes) + 3
    for division in (passes, more):
        own = [each.examples for each in division if each.weight]
        assert sorted(example for examples in own for example in examples) == list(
            range(len(shapes))
        )
        for group in together:
            assert sum(bool(set(group) & set(examples)) for examples in own) == 1
    for each in passes:
        assert each.tokens <= budget or len({number[example] for example in each.examples}) == 1
    if any(each.weight == 0 for each in more):
        assert sum(each.weight for each in more) == len(together)


@given(SHAPES, st.integers(1, 100), st.integers(1, 100), st.sampled_from(WAYS))
def test_a_larger_budget_never_needs_more_passes(shapes, budget, more, way):
    tokens = tokens_of([(shared, (ends * 2)[:2]) for shared, ends in shapes])
    assert len(divide(tokens, way, budget + more)) <= len(divide(tokens, way, budget))
    assert len(divide(tokens, way, 10**6)) == 1
    assert len(divide(tokens, way, 1)) == len(shapes)


def test_a_budget_below_one_is_an_error():
    with pytest.raises(ConfigError, match="at least 1, not 0"):
        divide(tokens_of([(2, [3, 4])]), "tree", 0)


@given(SHAPES, st.integers(1, 200), st.integers(0, 12), st.sampled_from(WAYS))
def test_processes_are_brought_to_the_same_number_of_passes(shapes, budget, more, way):
    passes = divide(tokens_of(shapes), way, budget)
    divided = bring_to(len(passes) + more, passes)
    assert len(divided) == len(passes) + more
    counted = [example for each in divided if each.weight for example in each.examples]
    assert sorted(counted) == list(range(len(shapes)))
    for each in divided:
        assert each.weight == 1.0 or (each.weight == 0.0 and len(each.examples) == 1)
        assert each.examples
    if any(each.weight == 0 for each in divided):  # only where nothing is left to divide
        assert all(len(each.examples) == 1 for each in divided)
    if not more:
        assert divided == passes
    # no token is counted twice where a pass is divided
    total = sum(each.tokens for each in passes)
    assert sum(each.tokens for each in divided if each.weight) == total


def test_the_largest_pass_is_divided_first():
    passes = [Pass([4, 2], 20), Pass([0, 1, 3], 30), Pass([5], 40)]
    assert bring_to(4, passes) == [
        Pass([4, 2], 20),
        Pass([0], 10),
        Pass([1, 3], 20),
        Pass([5], 40),
    ]
    assert [each.weight for each in bring_to(8, passes)] == [1.0] * 6 + [0.0] * 2


def test_the_tree_of_an_example_counts_its_beginning_once():
    responses = [[1, 2, 3, 4], [1, 2, 9], [1, 2, 5, 6, 7]]
    assert tree_of(responses, (0, 1)).num_tokens == 5
    assert divide([responses[:2]], "tree", 100) == [Pass([0], 5, 1.0)]
    assert divide([responses[:2]], "padded", 100) == [Pass([0], 8, 1.0)]
    assert divide([responses], "tree", 100) == [Pass([0], 8, 1.0)]
    assert divide([responses], "padded", 100) == [Pass([0], 15, 1.0)]
