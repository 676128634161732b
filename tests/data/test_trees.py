from __future__ import annotations

from itertools import accumulate

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hidden_context.data.trees import (
    MIN_SHARED,
    Block,
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


def test_a_pair_shares_its_beginning():
    tree = tree_of([[1, 2, 3, 4], [9], [1, 2, 5]], (0, 2))
    assert tree == TokenTree((0, 2), shared=2, num_tokens=5)


def test_members_keep_their_order():
    assert tree_of([[1, 2, 3], [1, 2]], (1, 0)).members == (1, 0)


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
    tree = tree_of(sequences, range(len(sequences)))
    assert (tree.shared, tree.num_tokens) == (shared, num_tokens)


@given(SEQUENCES, st.integers(1, 40), st.integers(1, 4), st.none() | st.integers(1, 40))
def test_groups_hold_every_sequence_once_and_share_what_they_say(
    sequences, max_tokens, min_shared, limit
):
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


@given(SEQUENCES, st.integers(1, 40), st.integers(1, 4), st.none() | st.integers(1, 40))
def test_groups_save_the_most_that_runs_of_neighbours_can(sequences, max_tokens, min_shared, limit):
    """Compare with all ways to divide the lexicographic order into runs."""
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
    assert saved(group_by_prefix(sequences, max_tokens, min_shared, limit)) == best[-1]


@given(SEQUENCES, st.integers(1, 40))
def test_groups_save_no_less_than_pairs_of_neighbours(sequences, max_tokens):
    order = sorted(range(len(sequences)), key=lambda index: sequences[index])
    for first in (0, 1):
        pairs = [tree_of(sequences, order[i : i + 2]) for i in range(first, len(order) - 1, 2)]
        assert saved(group_by_prefix(sequences, max_tokens, 1)) >= saved(pairs)


def test_groups_of_responses_to_two_prompts():
    first, second = [5] * 10, [6] * 12
    sequences = [[*second, 1], [*first, 2], [*second, 3, 3], [*first, 4], [9, 9]]
    trees = group_by_prefix(sequences, 1000)
    assert [set(tree.members) for tree in trees] == [{1, 3}, {0, 2}, {4}]
    assert [(tree.shared, tree.num_tokens) for tree in trees] == [(10, 12), (12, 15), (0, 2)]


def test_duplicates_and_prefixes_are_grouped():
    text = list(range(20))
    trees = group_by_prefix([text, text[:15], text, text[:15]], 1000)
    assert [tree.shared for tree in trees] == [14]
    assert trees[0].num_tokens == 14 + 6 + 6 + 1 + 1


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


def test_no_sequences_no_trees():
    assert group_by_prefix([], 10) == []


@given(st.lists(st.integers(1, 30), max_size=20), st.integers(1, 40))
def test_batches_are_filled_in_order(sizes, budget):
    batches = fill_batches(sizes, budget)
    assert [index for batch in batches for index in batch] == [*range(len(sizes))]
    totals = [sum(sizes[index] for index in batch) for batch in batches]
    for place, (batch, total) in enumerate(zip(batches, totals, strict=True)):
        assert total <= budget or len(batch) == 1
        if place + 1 < len(batches):  # the next one would not have fitted
            assert total + sizes[batches[place + 1][0]] > budget


def test_a_budget_is_at_least_one():
    with pytest.raises(ConfigError, match="at least 1, not 0"):
        fill_batches([1], 0)


def test_a_row_by_hand():
    sequences = [[1, 2, 3], [9, 8], [1, 2, 4, 5]]
    batch = lay_out(sequences, [tree_of(sequences, (1,)), tree_of(sequences, (0, 2))])
    assert batch.input_ids.tolist() == [[9, 8, 1, 2, 3, 4, 5]]
    assert batch.position_ids.tolist() == [[0, 1, 0, 1, 2, 2, 3]]
    assert batch.input_ids.dtype == batch.position_ids.dtype == torch.int64
    assert batch.layout.blocks == (Block(0, 2, 0, 0), Block(2, 3, 2, 0), Block(5, 2, 2, 2))
    assert batch.layout.last == (1, 4, 6)
    assert batch.layout.longest == 4
    assert batch.layout.num_tokens == 7
    assert batch.members == (1, 0, 2)


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
