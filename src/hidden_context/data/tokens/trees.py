"""Token sequences as trees: a prefix that several sequences share is stored once.

A *tree* is a shared prefix (the prompt) and the rest of each sequence (the responses). Trees are
found from the token ids, after tokenizing, so shared tokens are equal tokens however the tokenizer
splits the text between prompt and response.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor

from hidden_context.data.dialogue import common_prefix_length
from hidden_context.errors import ConfigError

MIN_SHARED: Final = 8
"""Least number of shared tokens for which ``group_by_prefix`` puts sequences into one tree."""

_MOST_BRANCHES: Final = 64


class TokenTree(NamedTuple):
    """Token sequences with a shared prefix.

    Attributes:
        members: Which sequences of a list they are, one or more.
        shared: Number of tokens they have in common; each has at least one more.
        num_tokens: Tokens of the tree, the shared ones counted once.
    """

    members: tuple[int, ...]
    shared: int
    num_tokens: int


def tree_of(sequences: Sequence[Sequence[int]], members: Sequence[int]) -> TokenTree:
    """Put sequences into one tree, however long their shared prefix is.

    Args:
        sequences: Sequences of token ids, none of them empty.
        members: Indices of the sequences of the tree; the order is kept.

    Returns:
        The tree. What is shared ends before the last token of the shortest, so that every sequence
        keeps at least one token, where its reward is read. A single sequence shares nothing.
    """
    first = sequences[members[0]]
    shared = 0
    if len(members) > 1:
        shared = min(common_prefix_length(first, sequences[i]) for i in members[1:])
        shared = min(shared, *(len(sequences[i]) - 1 for i in members))
    total = sum(len(sequences[i]) for i in members)
    return TokenTree(tuple(members), shared, total - (len(members) - 1) * shared)


def group_by_prefix(
    sequences: Sequence[Sequence[int]],
    max_tokens: int,
    min_shared: int = MIN_SHARED,
    limit: int | None = None,
) -> list[TokenTree]:
    """Group a list of sequences into trees by shared prefix.

    In lexicographic order, sequences with a shared prefix are neighbours. Dynamic programming
    splits this order into trees so that the number of saved tokens, Σ (n − 1)·shared, is largest.

    Args:
        sequences: N sequences of token ids, none of them empty.
        max_tokens: Trees of several sequences have at most this many tokens, or four times the
            longest of them if that is more. They have at most 64 members.
        min_shared: Least number of tokens worth sharing, at least 1.
        limit: Trees of several sequences never have more tokens than this, whatever the longest.

    Returns:
        Trees that hold every sequence once, in lexicographic order.
    """
    order = sorted(range(len(sequences)), key=lambda index: tuple(sequences[index]))
    lengths = [len(sequences[i]) for i in order]
    pairs = itertools.pairwise(sequences[i] for i in order)
    common = [0, *(min(common_prefix_length(a, b), len(a) - 1, len(b) - 1) for a, b in pairs)]
    saved, start_of = [0] * (len(order) + 1), list(range(-1, len(order)))
    for end in range(1, len(order) + 1):
        saved[end], start_of[end] = saved[end - 1], end - 1
        shared, total, longest = lengths[end - 1], lengths[end - 1], lengths[end - 1]
        for start in range(end - 2, max(end - 1 - _MOST_BRANCHES, -1), -1):
            shared, total = min(shared, common[start + 1]), total + lengths[start]
            longest, count = max(longest, lengths[start]), end - start
            if shared < min_shared:
                break
            tokens, room = total - (count - 1) * shared, max(max_tokens, 4 * longest)
            if tokens > (room if limit is None else min(room, limit)):
                continue  # a longer sequence later would raise the limit
            if saved[start] + (count - 1) * shared > saved[end]:
                saved[end], start_of[end] = saved[start] + (count - 1) * shared, start
    trees = []
    end = len(order)
    while end > 0:
        trees.append(tree_of(sequences, order[start_of[end] : end]))
        end = start_of[end]
    return trees[::-1]


def fill_batches(sizes: Sequence[int], budget: int) -> list[list[int]]:
    """Put items into batches, in order, as long as their sizes fit the budget.

    Args:
        sizes: Tokens of each item.
        budget: Most tokens of a batch; a larger item gets a separate batch.

    Returns:
        Batches of indices; every item is in exactly one.

    Raises:
        ConfigError: If the budget is below 1.

    >>> fill_batches([3, 4, 5, 20, 1], 8)
    [[0, 1], [2], [3], [4]]
    """
    if budget < 1:
        raise ConfigError(f"A token budget is at least 1, not {budget}.")
    batches: list[list[int]] = []
    room = 0
    for index, size in enumerate(sizes):
        if size > room or not batches:
            batches.append([])
            room = budget
        batches[-1].append(index)
        room -= size
    return batches


class Block(NamedTuple):
    """A run of tokens in a row that attend to each other and to an earlier prefix.

    Attributes:
        start: Where in the row it begins.
        length: Number of its tokens.
        parent: Where in the row the shared prefix starts.
        shared: Number of tokens in the shared prefix; 0 for the first block of a tree, which
            holds the prefix itself.
    """

    start: int
    length: int
    parent: int
    shared: int


@dataclasses.dataclass(frozen=True, eq=False)
class TreeLayout:
    """The layout of trees in one row of unique tokens.

    A tree with prefix p and suffixes s₁, s₂ … is laid out as ``p s₁ s₂ …``. Its first block is
    ``p s₁``, an ordinary causal sequence. Each further block ``sᵢ`` attends to p and to itself.

    Attributes:
        blocks: The blocks, which together cover the row in order.
        last: Where each sequence's last token lies, in the order of ``TreeBatch.members``.
        longest: Number of positions of the longest sequence.
        seen: Attention layers that have used this layout (their ``id``).
        memo: What attention functions derive from the layout, kept from layer to layer.
    """

    blocks: tuple[Block, ...]
    last: tuple[int, ...]
    longest: int
    seen: set[int] = dataclasses.field(default_factory=set, repr=False)
    memo: dict[object, object] = dataclasses.field(default_factory=dict, repr=False)

    @property
    def num_tokens(self) -> int:
        """Tokens in the row."""
        return sum(block.length for block in self.blocks)


@dataclasses.dataclass(frozen=True)
class TreeBatch:
    """A row of unique tokens.

    Attributes:
        input_ids: Token ids, int64 of shape ``(1, T)``.
        position_ids: Position of each within its own sequence, int64 of shape ``(1, T)``.
        layout: Which token belongs to what.
        members: Indices of the sequences, in the order in which they lie in the row.
    """

    input_ids: Tensor
    position_ids: Tensor
    layout: TreeLayout
    members: tuple[int, ...]


def lay_out(sequences: Sequence[Sequence[int]], trees: Sequence[TokenTree]) -> TreeBatch:
    """Lay out trees in one row, with each shared prefix once.

    Args:
        sequences: Sequences of token ids.
        trees: Trees over them, one or more.

    Returns:
        The row.
    """
    ids: list[int] = []
    positions: list[int] = []
    blocks: list[Block] = []
    last: list[int] = []
    longest = 0
    for tree in trees:
        parent = len(ids)
        for number, member in enumerate(tree.members):
            sequence = sequences[member]
            shared = tree.shared if number else 0
            blocks.append(Block(len(ids), len(sequence) - shared, parent, shared))
            ids.extend(sequence[shared:])
            positions.extend(range(shared, len(sequence)))
            last.append(len(ids) - 1)
            longest = max(longest, len(sequence))
    return TreeBatch(
        torch.tensor([ids]),
        torch.tensor([positions]),
        TreeLayout(tuple(blocks), tuple(last), longest),
        tuple(member for tree in trees for member in tree.members),
    )
