from itertools import accumulate

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hidden_context.data.tokens.trees import (
    MIN_SHARED,
    TokenTree,
    fill_batches,
    group_by_prefix,
    lay_out,
    tree_of,
)
from hidden_context.errors import ConfigError

# few different tokens and copied beginnings, so that sequences share a lot
TOKENS = st.lists(st.integers(0, 1), min_size=1, max_size=6)
SEQUENCES = st.lists(
    st.builds(lambda prefix, rest: [7] * prefix + rest, st.sampled_from([0, 0, 3, 5]), TOKENS),
    min_size=1,
    max_size=8,
)


def saved(trees):
    return sum((len(tree.members) - 1) * tree.shared for tree in trees)


def unflattened(batch):
    """The sequences that a row holds, read back from its blocks."""
    ids, positions = batch.input_ids[0].tolist(), batch.position_ids[0].tolist()
    found = []
    for start, length, parent, shared in batch.layout.blocks:
        places = [*range(parent, parent + shared), *range(start, start + length)]
        assert [positions[place] for place in places] == list(range(shared + length))
        found.append([ids[place] for place in places])
    return found


@pytest.mark.parametrize(
    ("sequences", "shared", "num_tokens"),
    [
        ([[1, 2, 3], [1, 2, 3]], 2, 4),  # identical: each keeps its last token
        ([[1, 2], [1, 2, 3, 4]], 1, 5),  # one is a prefix of the other
        ([[1], [1]], 0, 2),
        ([[1], [1, 2, 3]], 0, 4),
        ([[1, 2], [3, 4]], 0, 4),
        ([[1, 2, 3]], 0, 3),  # a single sequence shares nothing
        ([[1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 6]], 2, 7),
    ],
)
def test_what_is_shared(sequences, shared, num_tokens):
    for members in (range(len(sequences)), range(len(sequences))[::-1]):
        tree = tree_of(sequences, members)
        assert tree == TokenTree(tuple(members), shared, num_tokens)


@given(SEQUENCES, st.integers(1, 40), st.integers(1, 4), st.none() | st.integers(1, 40))
def test_groups_share_what_they_say_and_save_the_most(sequences, max_tokens, min_shared, limit):
    trees = group_by_prefix(sequences, max_tokens, min_shared, limit)
    assert sorted(member for tree in trees for member in tree.members) == [*range(len(sequences))]
    for tree in trees:
        members = [sequences[member] for member in tree.members]
        assert len({tuple(member[: tree.shared]) for member in members}) == 1
        assert min(map(len, members)) > tree.shared
        unique = tree.shared + sum(len(member) - tree.shared for member in members)
        assert tree.num_tokens == unique
        if len(members) > 1:
            assert tree.shared >= min_shared
            assert tree.num_tokens <= max(max_tokens, 4 * max(map(len, members)))
            assert limit is None or tree.num_tokens <= limit
    # all ways to divide the lexicographic order into runs of neighbours
    order = sorted(range(len(sequences)), key=lambda index: sequences[index])
    best = [0] * (len(order) + 1)
    for end in range(1, len(order) + 1):
        for start in range(end):
            tree = tree_of(sequences, order[start:end])
            room = max(max_tokens, 4 * max(len(sequences[i]) for i in tree.members))
            room = room if limit is None else min(room, limit)
            fits = tree.shared >= min_shared and tree.num_tokens <= room
            gain = (len(tree.members) - 1) * tree.shared if fits else 0
            best[end] = max(best[end], best[start] + gain)
    assert saved(trees) == best[-1]


def test_groups_of_responses_to_two_prompts():
    first, second = [5] * 10, [6] * 12
    sequences = [[*second, 1], [*first, 2], [*second, 3, 3], [*first, 4], [9, 9]]
    expected = [((1, 3), 10, 12), ((0, 2), 12, 15), ((4,), 0, 2)]
    assert group_by_prefix(sequences, 1000) == expected
    assert group_by_prefix([], 10) == []
    text = list(range(20))  # duplicates and prefixes
    (tree,) = group_by_prefix([text, text[:15], text, text[:15]], 1000)
    assert (tree.shared, tree.num_tokens) == (14, 14 + 6 + 6 + 1 + 1)


def test_little_in_common_is_not_worth_a_tree():
    for length, count in ((MIN_SHARED - 1, 2), (MIN_SHARED, 1)):
        trees = group_by_prefix([[5] * length + [1], [5] * length + [2]], 1000)
        assert len(trees) == count


def test_a_long_prompt_is_shared_whatever_the_budget_but_not_beyond_the_limit():
    prompt = list(range(100))
    sequences = [[*prompt, 200 + number] for number in range(4)]
    assert [tree.num_tokens for tree in group_by_prefix(sequences, 1)] == [104]
    assert [tree.num_tokens for tree in group_by_prefix(sequences, 1, limit=102)] == [102, 102]
    assert [tree.num_tokens for tree in group_by_prefix(sequences, 1, limit=101)] == [101] * 4


def test_more_than_64_responses_make_several_trees():
    sequences = [[7] * 20 + [number] for number in range(130)]
    trees = group_by_prefix(sequences, 10_000)
    assert max(len(tree.members) for tree in trees) == 64
    assert saved(trees) == 20 * (130 - 3)


@given(st.lists(st.integers(1, 30), max_size=20), st.integers(1, 40))
def test_batches_are_filled_in_order(sizes, budget):
    batches = fill_batches(sizes, budget)
    assert [index for batch in batches for index in batch] == [*range(len(sizes))]
    totals = [sum(sizes[index] for index in batch) for batch in batches]
    for place, (batch, total) in enumerate(zip(batches, totals, strict=True)):
        assert total <= budget or len(batch) == 1
        if place + 1 < len(batches):  # the next one would not have fitted
            assert total + sizes[batches[place + 1][0]] > budget
    with pytest.raises(ConfigError, match="at least 1, not 0"):
        fill_batches(sizes, 0)


def test_a_row_by_hand():
    sequences = [[1, 2, 3], [9, 8], [1, 2, 4, 5]]
    batch = lay_out(sequences, [tree_of(sequences, (1,)), tree_of(sequences, (0, 2))])
    assert torch.equal(batch.input_ids, torch.tensor([[9, 8, 1, 2, 3, 4, 5]]))
    assert torch.equal(batch.position_ids, torch.tensor([[0, 1, 0, 1, 2, 2, 3]]))
    layout, blocks = batch.layout, ((0, 2, 0, 0), (2, 3, 2, 0), (5, 2, 2, 2))
    assert (layout.blocks, layout.last) == (blocks, (1, 4, 6))
    assert (layout.longest, layout.num_tokens, batch.members) == (4, 7, (1, 0, 2))


@given(SEQUENCES, st.integers(1, 40))
def test_a_row_gives_every_sequence_back(sequences, max_tokens):
    trees = group_by_prefix(sequences, max_tokens, 1)
    batch = lay_out(sequences, trees)
    layout = batch.layout
    assert unflattened(batch) == [sequences[member] for member in batch.members]
    assert sorted(batch.members) == [*range(len(sequences))]
    ends = accumulate(block.length for block in layout.blocks)
    assert [block.start + block.length for block in layout.blocks] == list(ends)
    assert layout.num_tokens == batch.input_ids.shape[1] == sum(t.num_tokens for t in trees)
    assert layout.last == tuple(block.start + block.length - 1 for block in layout.blocks)
    assert layout.longest == max(map(len, sequences))
